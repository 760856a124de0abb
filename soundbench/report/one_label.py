"""Scored clips with one label each, counted for the metrics.

Every metric that does not need the scores is a function of a few counts for each class. Counts add up over groups, so
that a resample is a weighted sum of the groups' counts, and each clip is counted once.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import attrs
import numpy as np
import numpy.typing as npt
from numpy.typing import NDArray

from soundbench.errors import DataError
from soundbench.report import metrics
from soundbench.report.metrics.accuracy import ACCURACY
from soundbench.report.metrics.macro_f1 import MACRO_F1
from soundbench.report.metrics.metric import TOP, Metric, OneLabelSample, Spread
from soundbench.report.metrics.probabilities import of_one_class
from soundbench.report.resampling import Weights

__all__ = ["OneLabel"]

Floats = NDArray[np.float64]
Codes = NDArray[np.int64]


class OneLabel:
    """N clips with one label each.

    The predicted class is the one with the highest score, the first of equals; NaN counts as the lowest score.

    Args:
        scores: `(N, K)`.
        carried: `(N, K)`, whether each clip has each label; of several the first counts.
        prior: `(K,)`, how many training clips each class has; None to count these clips instead.

    Raises:
        DataError: a clip without a label.
    """

    def __init__(self, scores: NDArray[Any], carried: NDArray[np.bool_], prior: npt.ArrayLike | None) -> None:
        if not carried.any(axis=1).all():
            raise DataError(f"{int((~carried.any(axis=1)).sum())} of the clips to evaluate have no label")
        self.classes = scores.shape[1]
        self.metrics: Sequence[Metric] = [one for one in metrics.ONE_LABEL if self.classes >= one.min_classes]
        self.prior = prior
        self.scores = np.where(np.isnan(scores), -np.inf, scores)
        self.probabilities = of_one_class(scores)
        self.label = carried.argmax(axis=1)
        self.truth = np.arange(self.classes) == self.label[:, None]
        self.predicted = self.scores.argmax(axis=1)
        self.among_top = self._before() < TOP

    def _before(self) -> Codes:
        """How many classes rank before each clip's true class, by its scores, `(N,)`."""
        own = np.take_along_axis(self.scores, self.label[:, None], axis=1)
        earlier = np.arange(self.classes)[None, :] < self.label[:, None]
        before: Codes = ((self.scores > own) | ((self.scores == own) & earlier)).sum(axis=1)
        return before

    def affordable(self, resamples: int) -> int:
        """How many resamples can be drawn: all of them, since counts are cheap."""
        return resamples

    def sample(self, weights: Weights) -> OneLabelSample:
        """The clips under some weightings."""
        size = self.classes
        outcome = (self.label * size + self.predicted) * 2 + self.among_top
        counts = weights.counts(outcome, 3 * size + 1, self._counts)
        return OneLabelSample(
            scores=self.scores,
            probabilities=self.probabilities,
            truth=self.truth,
            weights=weights,
            right=counts[:, :size],
            predicted=counts[:, size : 2 * size],
            true=counts[:, 2 * size : 3 * size],
            among_top=counts[:, -1],
        )

    def _counts(self, unit: Codes, units: int, rows: Codes) -> Floats:
        """Counts of each unit, `(units, 3K + 1)`: right, predicted and true by class, then true classes in the top 3.

        Args:
            unit: the unit that each of `rows` belongs to.
            units: how many there are.
            rows: which clips are counted.
        """
        label, predicted, top = self.label[rows], self.predicted[rows], self.among_top[rows]
        size = self.classes
        right = label == predicted
        columns = [
            np.bincount(unit[right] * size + label[right], minlength=units * size).reshape(units, size),
            np.bincount(unit * size + predicted, minlength=units * size).reshape(units, size),
            np.bincount(unit * size + label, minlength=units * size).reshape(units, size),
            np.bincount(unit[top], minlength=units).reshape(units, 1),
        ]
        return np.concatenate(columns, axis=1).astype(np.float64)

    def baseline(self, classes: Sequence[str], sample: OneLabelSample, spread: Spread | None) -> dict[str, Any]:
        """The metrics of always predicting the most common class; `of` says where, unless in the training clips."""
        prior = np.bincount(self.label, minlength=self.classes) if self.prior is None else np.asarray(self.prior)
        most_common = int(np.argmax(prior))
        always = partial(_always, most_common)
        figured = always(sample), None if spread is None else spread.map(always)
        return {
            "name": "class prior",
            "class": str(classes[most_common]),
            "accuracy": ACCURACY.figure(*figured),
            "macro_f1": MACRO_F1.figure(*figured),
            **({"of": "these clips"} if self.prior is None else {}),
        }

    def per_class(self) -> list[dict[str, Any]]:
        """Further numbers for each class, beside precision, recall and F1: none."""
        return [{} for _ in range(self.classes)]

    def confusion(self) -> dict[str, Any]:
        """How many clips of each true class (row) are predicted to be of each class (column), K x K."""
        size = self.classes
        counts = np.bincount(self.label * size + self.predicted, minlength=size * size).reshape(size, size)
        return {"confusion": counts.tolist()}


def _always(code: int, sample: OneLabelSample) -> OneLabelSample:
    """The sample if one class were predicted for every clip."""
    only = np.arange(sample.true.shape[1]) == code
    return attrs.evolve(sample, right=sample.true * only, predicted=sample.clips[:, None] * only)
