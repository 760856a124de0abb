"""The difference of two models in a metric, on the same clips, with its interval.

Both are resampled by the same draws of groups, so that what makes a test set hard or easy for both cancels out (Efron
and Tibshirani, An Introduction to the Bootstrap, 1993, section 8.3, of paired data).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from soundbench.report.metrics import metric_of
from soundbench.report.metrics.metric import spread_of
from soundbench.report.one_label import OneLabel
from soundbench.report.resampling import Once, SameDraws, interval
from soundbench.report.several_labels import SeveralLabels

__all__ = ["difference"]


def difference(
    name: str,
    a: npt.ArrayLike,
    b: npt.ArrayLike,
    targets: npt.ArrayLike,
    groups: npt.ArrayLike,
    classes: Sequence[str],
    *,
    multilabel: bool,
    thresholds: tuple[npt.ArrayLike, npt.ArrayLike] = (0.5, 0.5),
    resamples: int = 2000,
    seed: int = 0,
) -> dict[str, float | None]:
    """How much higher a metric of model `a` is than that of model `b` on the same clips.

    Args:
        name: the metric, a key of a report's `metrics`.
        a: `(N, K)`, the scores of one model.
        b: `(N, K)`, those of the other.
        targets: `(N, K)`, greater than zero for the labels of a clip.
        groups: `(N,)`, equal for clips of the same group.
        classes: the K class names.
        multilabel: whether a clip can have several labels.
        thresholds: of several labels, those of `a` and of `b`: `(K,)`, `(N, K)`, or one for all.
        resamples: how many resamples the interval is computed from.
        seed: of the resamples.

    Returns:
        `value`, and the bounds `low` and `high` of its interval; None for these if there is only one group.
    """
    metric, carried = metric_of(name), np.asarray(targets) > 0
    if np.shape(a) != carried.shape or np.shape(b) != carried.shape or carried.shape[1] != len(classes):
        raise ValueError(f"scores {np.shape(a)} and {np.shape(b)}, targets {carried.shape}, {len(classes)} classes")
    distinct, group = np.unique(np.asarray(groups), return_inverse=True)
    draws = SameDraws(group.reshape(-1), resamples, seed)
    values, spreads = [], []
    for scores, own in zip((np.asarray(a), np.asarray(b)), thresholds, strict=True):
        one = SeveralLabels(scores, carried, own) if multilabel else OneLabel(scores, carried, None)
        values.append(float(metric.value(one.sample(Once(len(carried))))[0]))
        if distinct.size > 1:
            spread = spread_of(one.sample, draws)
            spreads.append((metric.value(spread.resampled), metric.value(spread.left_out)))
    value = values[0] - values[1]
    if not spreads:
        return {"value": value, "low": None, "high": None}
    drawn, left_out = (first - second for first, second in zip(*spreads, strict=True))
    low, high = interval(value, drawn, left_out, draws.units)
    return {"value": value, "low": low, "high": high}
