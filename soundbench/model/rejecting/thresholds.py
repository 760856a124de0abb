"""The score from which sound counts as that of a class: fitted to what must be kept, and to what must be rejected."""

from __future__ import annotations

import attrs
import numpy as np
from numpy.typing import ArrayLike

__all__ = ["SLACK", "Separation", "auroc", "fit_threshold", "separation"]

SLACK = 0.05
"""How much less than `keep` is kept at the least, so that more other sound is rejected."""


def fit_threshold(kept: ArrayLike, others: ArrayLike, keep: float) -> float:
    """The threshold for scores of sound of the classes `(N,)`, and of other sound `(M,)`, M >= 0.

    It keeps the share `keep` of the first, or less, but at least `keep - SLACK`, where more of the others are rejected
    by that than are lost: of all thresholds with such a share, it is that with the largest sum of both shares, the
    lowest of equals. It lies half-way to the next lower score of either.

    Args:
        kept: scores of validation clips, or windows; sound with at least the threshold is kept.
        others: scores of sound of none of the classes.
        keep: the share of `kept` to keep, above 0 and at most 1.
    """
    own, other = np.sort(np.asarray(kept, np.float64)), np.sort(np.asarray(others, np.float64))
    count = len(own)
    most = min(int(np.floor((1 - keep) * count + 1e-9)), count - 1)
    least = min(int(np.floor((1 - keep + SLACK) * count + 1e-9)), count - 1) if len(other) else most
    lost = np.arange(most, least + 1)  # how many of `kept` lie below each candidate
    candidates = own[lost]
    lost = np.searchsorted(own, candidates, side="left")
    rejected = np.searchsorted(other, candidates, side="left") / max(len(other), 1)
    best = candidates[np.argmax(rejected - lost / count)]
    below = np.concatenate([own[own < best][-1:], other[other < best][-1:]])
    return float((best + below.max()) / 2) if len(below) else float(best)


@attrs.frozen
class Separation:
    """How well scores separate sound of the classes from other sound.

    Attributes:
        auroc: the probability that sound of a class scores higher than other sound; 0.5 by chance.
        false_positive_rate_at_95: the share of other sound that is kept at the threshold that keeps 95% of the first.
    """

    auroc: float
    false_positive_rate_at_95: float


def separation(kept: ArrayLike, others: ArrayLike) -> Separation:
    """How well scores separate sound of the classes `(N,)` from other sound `(M,)`, N and M at least 1.

    The false positive rate is that of Liu et al., "Energy-based Out-of-distribution Detection", 2020, section 4.1:
    sound of the classes is the positive class.
    """
    own, other = np.sort(np.asarray(kept, np.float64)), np.asarray(others, np.float64)
    threshold = own[min(int(np.floor(0.05 * len(own) + 1e-9)), len(own) - 1)]
    return Separation(auroc(own, other), float(np.mean(other >= threshold)))


def auroc(kept: ArrayLike, others: ArrayLike) -> float:
    """The area under the ROC curve: the share of pairs in which `kept` scores higher, equal scores counting half.

    This is the Mann-Whitney statistic (Hanley and McNeil, "The Meaning and Use of the Area under a Receiver Operating
    Characteristic (ROC) Curve", Radiology 143, 1982).
    """
    own, other = np.asarray(kept, np.float64), np.sort(np.asarray(others, np.float64))
    below = np.searchsorted(other, own, side="left") + np.searchsorted(other, own, side="right")
    return float(below.mean() / (2 * len(other)))
