"""Scored clips with any number of labels each, counted for the metrics."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from soundbench.report import metrics
from soundbench.report.metrics.mean_average_precision import average_precision
from soundbench.report.metrics.metric import Metric, Sample, Spread
from soundbench.report.metrics.probabilities import of_each_class
from soundbench.report.resampling import Weights

__all__ = ["SeveralLabels"]

# The most that is resampled, as clips times classes times resamples: a few seconds of work.
_WORK = 2_000_000_000


class SeveralLabels:
    """N clips with any number of labels each.

    Args:
        scores: `(N, K)`; NaN counts as the lowest score.
        carried: `(N, K)`, whether each clip has each label.
        thresholds: `(K,)` or `(N, K)`: a class is predicted if its score reaches the threshold.
    """

    def __init__(self, scores: npt.NDArray[Any], carried: npt.NDArray[np.bool_], thresholds: npt.ArrayLike) -> None:
        self.metrics: Sequence[Metric] = [one for one in metrics.SEVERAL_LABELS if scores.shape[1] >= one.min_classes]
        self.scores = np.nan_to_num(np.asarray(scores, np.float64), nan=-np.inf)
        self.probabilities = of_each_class(scores)
        self.truth, self.thresholds = carried, np.asarray(thresholds)
        self.predicted = self.scores >= self.thresholds

    def affordable(self, resamples: int) -> int:
        """How many resamples can be drawn: fewer if clips and classes are many."""
        return min(resamples, max(100, _WORK // self.truth.size))

    def sample(self, weights: Weights) -> Sample:
        """The clips under some weightings."""
        counted = np.concatenate([self.predicted & self.truth, self.predicted, self.truth], axis=1)
        right, predicted, true = np.split(weights.sums(counted), 3, axis=1)
        return Sample(
            scores=self.scores,
            probabilities=self.probabilities,
            truth=self.truth,
            weights=weights,
            right=right,
            predicted=predicted,
            true=true,
        )

    def baseline(self, classes: Sequence[str], sample: Sample, spread: Spread | None) -> dict[str, Any]:
        """The metrics of the same score for every clip: average precision is then the class's share of the clips."""
        support = self.truth.sum(axis=0)
        common = float(support.sum() / max(np.count_nonzero(support), 1) / len(self.truth))
        return {"name": "one score for all", "mean_average_precision": {"value": common}}

    def per_class(self) -> list[dict[str, Any]]:
        """Further numbers for each class, beside precision, recall and F1."""
        once = np.ones((1, len(self.truth)))
        table = []
        for code, (scores, truth) in enumerate(zip(self.scores.T, self.truth.T, strict=True)):
            area = float(average_precision(scores, truth, once)[0]) if truth.any() else None
            threshold = float(self.thresholds[code]) if self.thresholds.ndim == 1 else None
            table.append({"average_precision": area, "threshold": threshold})
        return table

    def confusion(self) -> dict[str, Any]:
        """Nothing: a clip may have several labels."""
        return {}
