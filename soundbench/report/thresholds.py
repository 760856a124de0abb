"""A threshold for each class where clips have several labels, chosen on validation clips."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from soundbench.report.metrics.mean_average_precision import last_of_equals

__all__ = ["choose_thresholds"]

Floats = npt.NDArray[np.float64]


def choose_thresholds(scores: npt.ArrayLike, targets: npt.ArrayLike) -> Floats:
    """For each class the threshold with the best F1 `(K,)`, half-way to the next lower score; 0.5 without a positive.

    Args:
        scores: `(N, K)`, of clips that are not in the test set; NaN counts as 0.
        targets: `(N, K)`, greater than zero for the labels of a clip.
    """
    known = np.nan_to_num(np.asarray(scores, float), nan=0.0)
    return np.array([_best(own, true) for own, true in zip(known.T, np.asarray(targets).T > 0, strict=True)])


def _best(scores: Floats, truth: npt.NDArray[np.bool_]) -> float:
    if not truth.any():
        return 0.5
    ranked = np.argsort(-scores, kind="stable")
    descending = scores[ranked]
    last = last_of_equals(descending)
    found = np.cumsum(truth[ranked])[last]
    place = last[np.argmax(2 * found / (last + 1 + truth.sum()))]
    below = descending[place + 1] if place + 1 < len(descending) else 0.0
    return float((descending[place] + below) / 2)
