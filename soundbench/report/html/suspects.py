"""Clips whose label may be wrong: confident learning.

Northcutt, Jiang, Chuang: Confident Learning: Estimating Uncertainty in Dataset Labels, Journal of Artificial
Intelligence Research 70, 2021, section 3. The scores must be out of sample: of a model that was not trained on these
clips.
"""

from __future__ import annotations

import attrs
import numpy as np
from numpy.typing import NDArray

__all__ = ["Suspect", "suspects", "suspects_of_several_labels"]

Floats = NDArray[np.float64]


@attrs.frozen
class Suspect:
    """A clip whose label may be wrong.

    Attributes:
        row: the clip.
        label: the class that it is labelled with; of several labels, the one in doubt, or that may be missing.
        other: the class that it may be of; the same as `label` where a clip has several labels.
        margin: how far the score of `other` is above that of `label`.
        missing: whether the clip may lack the label (several labels only).
    """

    row: int
    label: int
    other: int
    margin: float
    missing: bool = False


def suspects(scores: Floats, labels: NDArray[np.int64]) -> list[Suspect]:
    """The clips off the diagonal of the confident joint, those with the widest margin first.

    The threshold of a class is the mean of its score over the clips labelled with it (equation 2). A clip counts as
    one of the class with the highest score among those whose threshold its scores reach (equation 1); where that is not
    its label, the label is in doubt. They are ranked by the margin of the two scores, as in pruning by noise rate
    (section 3.2). Clips with a score that is not finite are left out, and no clip is suspected to be of a class that no
    clip has.

    Args:
        scores: `(N, K)`.
        labels: `(N,)`, codes of classes.
    """
    rows = np.flatnonzero(np.isfinite(scores).all(axis=1))
    known, label = scores[rows], labels[rows]
    own = known[np.arange(len(rows)), label]
    counts = np.bincount(label, minlength=scores.shape[1])
    sums = np.bincount(label, weights=own, minlength=scores.shape[1])
    thresholds = np.where(counts > 0, sums / np.maximum(counts, 1), np.inf)
    reached = np.where(known >= thresholds, known, -np.inf)
    other = reached.argmax(axis=1) if len(rows) else label
    doubtful = np.flatnonzero(np.isfinite(reached).any(axis=1) & (other != label))
    margins = known[doubtful, other[doubtful]] - own[doubtful]
    order = np.argsort(-margins, kind="stable")
    return [
        Suspect(int(rows[one]), int(label[one]), int(other[one]), float(margin))
        for one, margin in zip(doubtful[order].tolist(), margins[order].tolist(), strict=True)
    ]


def suspects_of_several_labels(scores: Floats, targets: NDArray[np.bool_]) -> list[Suspect]:
    """The same where a clip has several labels: each class by itself, with the two outcomes present and absent.

    Args:
        scores: `(N, K)`, of the presence of each class.
        targets: `(N, K)`, whether each clip has each label.
    """
    found = []
    for code, (own, present) in enumerate(zip(scores.T, targets.T, strict=True)):
        both = np.stack([1 - own, own], axis=1)
        found += [
            Suspect(one.row, code, code, one.margin, missing=one.other == 1)
            for one in suspects(both, present.astype(np.int64))
        ]
    return sorted(found, key=lambda one: -one.margin)
