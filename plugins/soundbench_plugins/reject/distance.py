"""The distance of the embedding to the nearest class of training.

Lee, Lee, Lee and Shin, "A Simple Unified Framework for Detecting Out-of-Distribution Samples and Adversarial Attacks",
NeurIPS 2018, section 2.1: minus the squared Mahalanobis distance to the nearest class mean, with one covariance for all
classes. Ren, Fort, Liu, Roy, Padhy and Lakshminarayanan, "A Simple Fix to Mahalanobis Distance for Improving Near-OOD
Detection", 2021 (arXiv 2106.09022), section 3: plus the squared distance to the mean of all training windows, by the
covariance of all, so that only what tells the classes apart counts (`relative`). Covariances are shrunk towards a
multiple of the identity, since an embedding often has more dimensions than there are clips (Ledoit and Wolf, "A
Well-conditioned Estimator for Large-dimensional Covariance Matrices", 2004, equation 1, with a given intensity).

Noise is no paper's. What is nearer to a window of noise than to any class loses three times the difference of the
squared distances; and what is much nearer to one, or as near as the sixth nearest other one, gets a far lower score,
since windows of noise lie close together, in places where a class may be near
(`benchmarks/results/rejecting_before.md`). Of many windows of noise those are kept that are farthest from each other
(Gonzalez, "Clustering to Minimize the Maximum Intercluster Distance", Theoretical Computer Science 38, 1985, section
2), each with a reach up to those that are nearest to it.

Shapes: logits `(B, K)` and embeddings `(B, D)` to `(B,)`. Computed in float64, from means and covariances that are
kept in float32: beside a small network, two matrices of the size of its embedding are much.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

__all__ = ["Distance"]

# A variance that is not zero, where all training windows of a class are alike.
_LEAST = 1e-12
# What is lost by being nearer to noise, as a factor of the difference.
PULL = 3.0
# What is among noise is nearer to a window of it than this share of the squared distance to any class.
SHARE = 0.4
# What is nearer to a window of noise than the other window of noise of this rank is among noise.
_RANK = 6
# How many windows of noise are kept.
_KEPT = 192
# How much lower the score among noise is, in ranges of the scores of training windows.
_LOWER = 3.0


class Distance(nn.Module):
    """Minus the distance of the embedding to the nearest class mean (Lee et al., 2018; Ren et al., 2021).

    Args:
        metric: `relative`, the squared Mahalanobis distance less that to the mean of all classes; `mahalanobis`, that
            distance alone; or `cosine`, of embeddings less their mean.
        shrinkage: share of a multiple of the identity in the covariances, above 0 and at most 1.
    """

    embeddings: ClassVar[bool] = True

    means: Tensor
    centre: Tensor
    within: Tensor
    overall: Tensor
    noises: Tensor
    radius: Tensor
    lower: Tensor

    def __init__(
        self,
        classes: int,
        *,
        metric: Literal["relative", "mahalanobis", "cosine"] = "relative",
        shrinkage: float = 0.9,
    ) -> None:
        super().__init__()
        if not 0.0 < shrinkage <= 1.0:
            raise ValueError(f"shrinkage must be above 0 and at most 1, is {shrinkage}")
        self.metric, self.shrinkage = metric, shrinkage
        for name in ("means", "centre", "within", "overall", "noises", "radius", "lower"):
            self.register_buffer(name, torch.zeros(0))

    def fit(self, logits: Tensor, embeddings: Tensor, targets: Tensor) -> None:
        """Compute the class means, the covariances, and where noise lies, from windows `(V, D)`."""
        vectors, of_class = embeddings.double(), targets.sum(1) > 0
        known, labels = vectors[of_class], targets[of_class].double()
        labels = labels[:, labels.sum(0) > 0]
        means = (labels.T @ known) / labels.sum(0)[:, None]
        self.centre = known.mean(0).float()
        around = known - labels / labels.sum(1, keepdim=True) @ means
        of_all = known - known.mean(0)
        self.within, self.overall = (_whitening(rows, self.shrinkage).float() for rows in (around, of_all))
        self.means = self._placed(means).float()
        noises = self._placed(vectors[~of_class]).float()
        if len(noises) < 2:
            self.noises = noises[:0]
            self.radius, self.lower = known.new_zeros(0).float(), known.new_zeros(()).float()
            return
        apart = _squares(noises, noises)
        kept, covered = _spread(apart, _KEPT)
        near = apart[kept].kthvalue(min(_RANK, len(apart) - 1) + 1, 1).values  # the first is the window itself
        self.noises, self.radius = noises[kept], near.maximum(covered).float()
        scores = self._scores(known)[0]
        self.lower = (_LOWER * (scores.amax() - scores.amin())).float()

    def forward(self, logits: Tensor, embeddings: Tensor) -> Tensor:
        """Embeddings `(B, D)` to reject scores `(B,)`."""
        vectors = embeddings.double()
        scores, own = self._scores(vectors)
        if not len(self.noises):
            return scores
        squares = _squares(self._placed(vectors), self.noises)
        near = squares.amin(1)
        among = (near < SHARE * own) | ((squares <= self.radius) & (squares < own[:, None])).any(1)
        return scores - PULL * (own - near).clamp(min=0.0) - self.lower * among

    def _scores(self, vectors: Tensor) -> tuple[Tensor, Tensor]:
        """The scores of vectors as if there were no noise, and their squared distances to the nearest class mean."""
        own = _squares(self._placed(vectors), self.means).amin(1)
        if self.metric != "relative":
            return -own, own
        return ((vectors - self.centre) @ self.overall.double()).square().sum(1) - own, own

    def _placed(self, vectors: Tensor) -> Tensor:
        """The vectors where their distances are those of the metric."""
        if self.metric == "cosine":
            return nn.functional.normalize(vectors - self.centre)
        return (vectors - self.centre) @ self.within.double()


def _squares(vectors: Tensor, others: Tensor) -> Tensor:
    """The squared distance of each vector to each other one, `(V, M)`."""
    vectors, others = vectors.double(), others.double()
    if torch.compiler.is_exporting():  # few runtimes have an operation for it
        return (vectors.unsqueeze(1) - others).square().sum(2)
    return torch.cdist(vectors, others, compute_mode="donot_use_mm_for_euclid_dist").square()


def _spread(squares: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Points of which each is the farthest from those before, and how far the points reach that are nearest to each.

    Args:
        squares: the squared distance of each point to each, `(N, N)`.
        count: how many there are at most, M.

    Returns:
        Their places `(M,)`, and the largest squared distance of the points that are nearest to each, `(M,)`.
    """
    kept, nearest, near = [0], squares.new_zeros(len(squares), dtype=torch.long), squares[0]
    while len(kept) < count and near.amax() > 0:
        farthest = int(near.argmax())
        nearest[squares[farthest] < near] = len(kept)
        near = near.minimum(squares[farthest])
        kept.append(farthest)
    return torch.tensor(kept), near.new_zeros(len(kept)).scatter_reduce(0, nearest, near, "amax")


def _whitening(rows: Tensor, shrinkage: float) -> Tensor:
    """The symmetric root of the inverse of the shrunk covariance of rows `(V, D)` around zero, `(D, D)`."""
    covariance, size = rows.T @ rows / len(rows), rows.shape[1]
    level = (covariance.trace() / size).clamp(min=_LEAST)
    shrunk = (1.0 - shrinkage) * covariance + shrinkage * level * torch.eye(size, dtype=torch.float64)
    values, axes = torch.linalg.eigh(shrunk)
    root: Tensor = axes * values.rsqrt() @ axes.T
    return root
