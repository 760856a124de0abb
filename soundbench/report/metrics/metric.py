"""A metric, and the counts and scores that it is computed from."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from soundbench.report.resampling import Weights, percentiles

__all__ = ["TOP", "Metric", "OneLabelSample", "Sample"]

Floats = NDArray[np.float64]

TOP = 3


@attrs.frozen(kw_only=True)
class Sample:
    """N scored clips under R weightings: the test set itself (R = 1), or its resamples.

    Attributes:
        scores: `(N, K)`, higher is more likely; minus infinity instead of NaN.
        truth: `(N, K)`, whether each clip has each class.
        weights: the weights of the clips. `weights.sums(values)` gives weighted sums over the clips of each column of
            `(N, M)` values, `(R, M)`; `weights.of_clips()` gives the weights, some at a time.
        right: how many clips of each class are predicted as that class, `(R, K)`.
        predicted: how many clips are predicted as each class, `(R, K)`.
        true: how many clips have each class, `(R, K)`.
    """

    scores: NDArray[np.floating[Any]]
    truth: NDArray[np.bool_]
    weights: Weights
    right: Floats
    predicted: Floats
    true: Floats


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


@attrs.frozen(kw_only=True)
class Metric:
    """One number of a report.

    Attributes:
        name: its key in `report.json`.
        title: its name in tables.
        value: computes it under each weighting of a sample, `(R,)`.
        share: whether it is shown in percent.
        min_classes: with fewer classes it is meaningless and left out.
    """

    name: str
    title: str
    value: Callable[[Any], Floats]
    share: bool = True
    min_classes: int = 1

    def figure(self, sample: Sample, resampled: Sample | None) -> dict[str, float | None]:
        """Its `value`, and the `low` and `high` bounds of its interval, which are None without resamples."""
        low, high = (None, None) if resampled is None else percentiles(self.value(resampled))
        return {"value": float(self.value(sample)[0]), "low": low, "high": high}
