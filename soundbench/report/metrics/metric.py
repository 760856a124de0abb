"""A metric, and the counts and scores that it is computed from."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from soundbench.report.resampling import LeftOut, Resamples, Weights, interval

__all__ = ["TOP", "Floats", "Metric", "OneLabelSample", "Sample", "Spread", "spread_of"]

Floats = NDArray[np.float64]

TOP = 3


@attrs.frozen(kw_only=True)
class Sample:
    """N scored clips under R weightings: the test set itself (R = 1), or its resamples.

    Attributes:
        scores: `(N, K)`, higher is more likely; minus infinity instead of NaN.
        probabilities: `(N, K)`, the scores as probabilities (`probabilities.py`).
        truth: `(N, K)`, whether each clip has each class.
        weights: the weights of the clips. `weights.sums(values)` gives weighted sums over the clips of each column of
            `(N, M)` values, `(R, M)`; `weights.of_clips()` gives the weights, some at a time.
        right: how many clips of each class are predicted as that class, `(R, K)`.
        predicted: how many clips are predicted as each class, `(R, K)`.
        true: how many clips have each class, `(R, K)`.
    """

    scores: NDArray[np.floating[Any]]
    probabilities: Floats
    truth: NDArray[np.bool_]
    weights: Weights
    right: Floats
    predicted: Floats
    true: Floats

    def mean(self, values: Floats) -> Floats:
        """The mean over the clips of `(N,)` values under each weighting, `(R,)`."""
        sums = self.weights.sums(np.stack([values, np.ones(len(values))], axis=1))
        mean: Floats = sums[:, 0] / sums[:, 1]
        return mean


@attrs.frozen(kw_only=True)
class OneLabelSample(Sample):
    """A sample of clips with one label each.

    Attributes:
        among_top: for how many clips the true class is among the `TOP` with the highest scores, `(R,)`.
    """

    among_top: Floats

    @property
    def clips(self) -> Floats:
        """How many clips there are, `(R,)`."""
        clips: Floats = self.true.sum(axis=1)
        return clips


@attrs.frozen
class Spread:
    """What an interval is made from: the test set resampled, and with each group left out.

    Attributes:
        resampled: R resamples of the groups.
        left_out: the jackknife.
        units: how many equal groups the groups are worth.
    """

    resampled: Any
    left_out: Any
    units: float

    def map(self, change: Callable[[Any], Any]) -> Spread:
        """The same of other samples, made from these."""
        return Spread(change(self.resampled), change(self.left_out), self.units)


def spread_of(sample: Callable[[Weights], Any], resamples: Resamples) -> Spread:
    """What intervals are made from, of clips that `sample` gives under some weightings."""
    return Spread(sample(resamples), sample(LeftOut(resamples.group, resamples.seed)), resamples.units)


@attrs.frozen(kw_only=True)
class Metric:
    """One number of a report.

    Attributes:
        name: its key in `report.json`.
        title: its name in tables.
        value: computes it under each weighting of a sample, `(R,)`; at least 0.
        share: whether it is at most 1 and shown in percent.
        lower_is_better: whether a lower value is better, as of an error.
        min_classes: with fewer classes it is meaningless and left out.
    """

    name: str
    title: str
    value: Callable[[Any], Floats]
    share: bool = True
    lower_is_better: bool = False
    min_classes: int = 1

    def figure(self, sample: Sample, spread: Spread | None) -> dict[str, float | None]:
        """Its `value`, and the `low` and `high` bounds of its interval, which are None without a spread."""
        value = float(self.value(sample)[0])
        if spread is None:
            return {"value": value, "low": None, "high": None}
        drawn, left_out = self.value(spread.resampled), self.value(spread.left_out)
        low, high = interval(value, drawn, left_out, spread.units, share=self.share)
        return {"value": value, "low": max(0.0, low), "high": min(1.0, high) if self.share else high}
