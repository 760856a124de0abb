"""Mean average precision (mAP): the mean of the average precision of each class. It does not depend on thresholds.

Average precision is the area under the precision-recall curve as a sum over the ranks at which recall rises (Manning,
Raghavan and Schütze, Introduction to Information Retrieval, 2008, section 8.4), clips of equal score at one rank.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from soundbench.report.metrics.metric import Floats, Metric, Sample

__all__ = ["MEAN_AVERAGE_PRECISION", "average_precision", "last_of_equals"]


def mean_average_precision(sample: Sample) -> Floats:
    """The mean over the classes that have clips; 0 if none has."""
    columns = list(zip(sample.scores.T, sample.truth.T, strict=True))
    areas = np.concatenate(
        [
            np.stack([average_precision(*column, weights) for column in columns], axis=1)
            for weights in sample.weights.of_clips()
        ]
    )
    present = sample.true > 0
    mean: Floats = np.where(present, areas, 0.0).sum(axis=1) / np.maximum(present.sum(axis=1), 1)
    return mean


def average_precision(scores: Floats, truth: NDArray[np.bool_], weights: Floats) -> Floats:
    """The average precision of one class under each of R weightings of its clips, `(R,)`; NaN without a positive.

    Args:
        scores: `(N,)`.
        truth: `(N,)`, whether each clip has the class.
        weights: `(R, N)`, the weight of each clip.
    """
    ranked = np.argsort(-scores, kind="stable")
    last = last_of_equals(scores[ranked])
    weighed = weights[:, ranked]
    found = np.cumsum(weighed * truth[ranked], axis=1)[:, last]
    seen = np.cumsum(weighed, axis=1)[:, last]
    rises = np.diff(found, axis=1, prepend=0.0)
    with np.errstate(invalid="ignore", divide="ignore"):
        precision = np.where(seen > 0, found / seen, 0.0)
        area: Floats = (rises * precision).sum(axis=1) / found[:, -1]
    return area


def last_of_equals(descending: Floats) -> NDArray[np.intp]:
    """The last place of each run of equal scores. Scores are not subtracted: minus infinity less itself is NaN."""
    return np.append(np.flatnonzero(descending[1:] != descending[:-1]), len(descending) - 1)


MEAN_AVERAGE_PRECISION = Metric(name="mean_average_precision", title="mAP", value=mean_average_precision)
