"""The distance of the embedding to the nearest class of training.

Lee, Lee, Lee and Shin, "A Simple Unified Framework for Detecting Out-of-Distribution Samples and Adversarial Attacks",
NeurIPS 2018, section 2.1: the Mahalanobis distance to the class means, with one covariance for all classes. The paper's
combination of several layers and its added noise are left out. The covariance is shrunk towards a multiple of the
identity, since an embedding often has more dimensions than there are clips (Ledoit and Wolf, "A Well-conditioned
Estimator for Large-dimensional Covariance Matrices", 2004, equation 1, with a given intensity). Noise is a class of its
own: the score of a window that is nearer to it is lower by how much nearer it is.

Shapes: logits `(B, K)` and embeddings `(B, D)` to `(B,)`. Computed in float64.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

__all__ = ["Distance"]

# A variance that is not zero, where all training windows of a class are alike.
_LEAST = 1e-12


class Distance(nn.Module):
    """Minus the distance of the embedding to the nearest class mean (Lee et al., 2018).

    Args:
        metric: `mahalanobis`, with the covariance that all classes share, or `cosine`, of embeddings less their mean.
        shrinkage: share of a multiple of the identity in the covariance, above 0 and at most 1.
        background: whether noise is a class of its own.
    """

    embeddings: ClassVar[bool] = True

    means: Tensor
    noise: Tensor
    centre: Tensor
    whitening: Tensor

    def __init__(
        self,
        classes: int,
        *,
        metric: Literal["mahalanobis", "cosine"] = "mahalanobis",
        shrinkage: float = 0.1,
        background: bool = True,
    ) -> None:
        super().__init__()
        if not 0.0 < shrinkage <= 1.0:
            raise ValueError(f"shrinkage must be above 0 and at most 1, is {shrinkage}")
        self.metric, self.shrinkage, self.background = metric, shrinkage, background
        for name in ("means", "noise", "centre", "whitening"):
            self.register_buffer(name, torch.zeros(0, dtype=torch.float64))

    def fit(self, logits: Tensor, embeddings: Tensor, targets: Tensor) -> None:
        """Class means, the mean of the noise, and the covariance around the class means."""
        vectors, of_class = embeddings.double(), targets.sum(1) > 0
        known, labels = vectors[of_class], targets[of_class].double()
        present = labels.sum(0) > 0
        self.means = (labels.T @ known)[present] / labels.sum(0)[present, None]
        self.noise = vectors[~of_class].mean(0, keepdim=True) if self.background and not of_class.all() else known[:0]
        self.centre = known.mean(0)
        within = known - (labels[:, present] / labels.sum(1, keepdim=True)) @ self.means
        self.whitening = _whitening(within.T @ within / len(within), self.shrinkage)

    def forward(self, logits: Tensor, embeddings: Tensor) -> Tensor:
        """Embeddings `(B, D)` to reject scores `(B,)`."""
        vectors = embeddings.double()
        own = self._distances(vectors, self.means).amin(1)
        if not len(self.noise):
            return -own
        return -own - (own - self._distances(vectors, self.noise).amin(1)).clamp(min=0.0)

    def _distances(self, vectors: Tensor, means: Tensor) -> Tensor:
        """The distance of each vector to each mean, `(B, M)`."""
        if self.metric == "cosine":
            one, other = (nn.functional.normalize(part - self.centre) for part in (vectors, means))
            return 1.0 - one @ other.T
        white = (part @ self.whitening for part in (vectors, means))
        return torch.cdist(*white, compute_mode="donot_use_mm_for_euclid_dist")


def _whitening(covariance: Tensor, shrinkage: float) -> Tensor:
    """The symmetric root of the inverse of a shrunk covariance, `(D, D)`."""
    size = len(covariance)
    level = (covariance.trace() / size).clamp(min=_LEAST)
    shrunk = (1.0 - shrinkage) * covariance + shrinkage * level * torch.eye(size, dtype=torch.float64)
    values, axes = torch.linalg.eigh(shrunk)
    return axes * values.rsqrt() @ axes.T
