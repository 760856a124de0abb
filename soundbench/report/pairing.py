"""The difference of two models in a metric, on the same clips, with its interval.

Both are resampled by the same draws of groups, so that what makes a test set hard or easy for both cancels out (Efron
and Tibshirani, An Introduction to the Bootstrap, 1993, section 8.3, of paired data).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import attrs
import numpy as np
import numpy.typing as npt

from soundbench.report.metrics.metric import Metric, spread_of
from soundbench.report.one_label import OneLabel
from soundbench.report.resampling import LEVEL, Once, SameDraws, interval
from soundbench.report.several_labels import SeveralLabels

__all__ = ["METHOD", "Gap", "Measured", "gap", "measured"]

Floats = npt.NDArray[np.float64]

METHOD = "expanded percentile bootstrap over groups, both models under the same draws"
"""The name of the interval of a difference."""

# The levels that a p is looked for among: 2,000 resamples show no smaller one than about 1 in 1,000.
_SUREST = 0.999
_HALVINGS = 12


@attrs.frozen(eq=False)
class Measured:
    """A metric of one model: on all clips, under each resample, and without each group; no more with one group."""

    value: float
    drawn: Floats | None
    left_out: Floats | None


@attrs.frozen
class Gap:
    """The difference of two models in a metric.

    Attributes:
        value: the difference.
        low: the lower bound of its interval; None with a single group.
        high: the upper bound.
        p: one less the level at which the interval begins to include 0; None with a single group.
    """

    value: float
    low: float | None
    high: float | None
    p: float | None


def measured(model: OneLabel | SeveralLabels, metrics: Sequence[Metric], draws: SameDraws) -> list[Measured]:
    """Some metrics of a model; models to be compared are measured under the same draws."""
    once = model.sample(Once(len(draws.group)))
    values = [float(metric.value(once)[0]) for metric in metrics]
    if not draws.group.any():
        return [Measured(value, None, None) for value in values]
    spread = spread_of(model.sample, draws)
    return [
        Measured(value, metric.value(spread.resampled), metric.value(spread.left_out))
        for metric, value in zip(metrics, values, strict=True)
    ]


def gap(a: Measured, b: Measured, units: float) -> Gap:
    """How much higher a metric of model `a` is than that of model `b`; groups are worth `units` equal ones."""
    value = a.value - b.value
    if a.drawn is None or b.drawn is None or a.left_out is None or b.left_out is None:
        return Gap(value, None, None, None)
    drawn, left_out = a.drawn - b.drawn, a.left_out - b.left_out

    def bounds(level: float) -> tuple[float, float]:
        return interval(value, drawn, left_out, units, level=level)

    return Gap(value, *bounds(LEVEL), _p(bounds))


def _p(bounds: Callable[[float], tuple[float, float]]) -> float:
    """One less the level at which an interval begins to include 0, from its bounds at a level."""
    if _includes_0(bounds(0.0)):
        return 1.0
    if not _includes_0(bounds(_SUREST)):
        return 1 - _SUREST
    # Beginning with `LEVEL` makes sure that p and the interval that is shown agree.
    out, within = (0.0, LEVEL) if _includes_0(bounds(LEVEL)) else (LEVEL, _SUREST)
    for _ in range(_HALVINGS):
        level = (out + within) / 2
        out, within = (out, level) if _includes_0(bounds(level)) else (level, within)
    return 1 - within


def _includes_0(bounds: tuple[float, float]) -> bool:
    return bounds[0] <= 0 <= bounds[1]
