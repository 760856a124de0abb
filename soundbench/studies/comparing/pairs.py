"""Pairs of models on the same test clips: how far apart they are, and whether that may be chance.

Three answers for each pair of models, all on the same clips:

- the difference of a metric with its interval: groups are resampled, and in each resample both models are measured on
  the same groups, so that what is hard for both cancels out (the paired bootstrap of Efron and Tibshirani, An
  Introduction to the Bootstrap, 1993, chapter 8, over groups);
- the p of that difference: one less the level at which its interval begins to include 0 (`report/pairing.py`);
- McNemar's exact test of the clips that one model alone gets right (Psychometrika 12, 1947; Dietterich, Approximate
  Statistical Tests for Comparing Supervised Classification Learning Algorithms, Neural Computation 10, 1998). It takes
  clips for independent, which clips of one group are not, and so finds differences where there are none.

Both p are corrected for the number of pairs by Holm's method (A Simple Sequentially Rejective Multiple Test Procedure,
Scandinavian Journal of Statistics 6, 1979). A difference is called significant by the p over groups: `SIGNIFICANT`.
`benchmarks/results/comparing.md` has the reason.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import attrs
import numpy as np
from numpy.typing import NDArray

from soundbench.report.metrics.accuracy import ACCURACY
from soundbench.report.metrics.macro_f1 import MACRO_F1
from soundbench.report.metrics.mean_average_precision import MEAN_AVERAGE_PRECISION
from soundbench.report.metrics.metric import Metric
from soundbench.report.one_label import OneLabel
from soundbench.report.pairing import Gap, gap, measured
from soundbench.report.resampling import LEVEL, SameDraws
from soundbench.report.several_labels import SeveralLabels

__all__ = ["SIGNIFICANT", "Difference", "McNemar", "Pair", "compare_scores", "holm", "mcnemar"]

Floats = NDArray[np.float64]

SIGNIFICANT = 1 - LEVEL
"""Below this p over groups, after Holm's correction, a difference of the main metric is called significant."""


@attrs.frozen
class Difference:
    """The difference of a metric, the second model's less the first's.

    Attributes:
        metric: its name.
        value: the difference.
        low: the lower bound of its interval; None with a single group.
        high: the upper bound.
        p: of no difference; None with a single group.
        holm: the p after Holm's correction for the number of pairs.
    """

    metric: str
    value: float
    low: float | None
    high: float | None
    p: float | None
    holm: float | None


@attrs.frozen
class McNemar:
    """McNemar's exact test.

    Attributes:
        only_first: clips that the first model alone classifies correctly.
        only_second: those of the second.
        p: that these are equally likely.
        holm: the p after Holm's correction for the number of pairs.
    """

    only_first: int
    only_second: int
    p: float
    holm: float


@attrs.frozen
class Pair:
    """Two models on the same clips.

    Attributes:
        first: the number of the first model, from 0.
        second: that of the second.
        differences: of the main metric, and of macro-F1.
        mcnemar: the test over clips; None where a clip may have several labels.
        significant: whether the main metric differs by more than chance; None with a single group.
    """

    first: int
    second: int
    differences: tuple[Difference, Difference]
    mcnemar: McNemar | None
    significant: bool | None


def compare_scores(
    scores: Sequence[Floats],
    targets: NDArray[np.float32],
    groups: Sequence[str],
    thresholds: Sequence[Floats] | None = None,
    *,
    resamples: int = 2000,
    seed: int = 0,
) -> list[Pair]:
    """Compare every two of some models, which scored the same clips.

    Args:
        scores: of each model, `(N, K)`; NaN counts as the lowest score.
        targets: `(N, K)`, greater than zero for the labels of a clip.
        groups: `(N,)`, the name of each clip's group.
        thresholds: of each model, `(N, K)`, where a clip may have several labels.
        resamples: how many resamples an interval is computed from, at most.
        seed: of the resamples.
    """
    carried = targets > 0
    models: list[OneLabel] | list[SeveralLabels]
    if thresholds is None:
        models = [OneLabel(one, carried, None) for one in scores]
        metrics, right = (ACCURACY, MACRO_F1), [model.predicted == model.label for model in models]
    else:
        models = [SeveralLabels(one, carried, own) for one, own in zip(scores, thresholds, strict=True)]
        metrics, right = (MEAN_AVERAGE_PRECISION, MACRO_F1), []
    group = np.unique(np.asarray(groups), return_inverse=True)[1].reshape(-1)
    draws = SameDraws(group, models[0].affordable(resamples), seed)
    found = [measured(model, metrics, draws) for model in models]
    chosen = list(itertools.combinations(range(len(models)), 2))
    columns = []
    for number, metric in enumerate(metrics):
        gaps = [gap(found[b][number], found[a][number], draws.units) for a, b in chosen]
        known = [one.p for one in gaps if one.p is not None]  # all have one, or none
        corrected: Sequence[float | None] = holm(known) or [None] * len(gaps)
        columns.append([_difference(metric, one, p) for one, p in zip(gaps, corrected, strict=True)])
    tests = _tests(right, chosen) if right else [None] * len(chosen)
    return [
        Pair(a, b, (main, f1), test, None if main.holm is None else main.holm < SIGNIFICANT)
        for (a, b), main, f1, test in zip(chosen, *columns, tests, strict=True)
    ]


def _difference(metric: Metric, one: Gap, corrected: float | None) -> Difference:
    return Difference(metric.name, one.value, one.low, one.high, one.p, corrected)


# Clips that one model alone gets right --------------------------------------------------------------------------------


def _tests(right: Sequence[NDArray[np.bool_]], chosen: Sequence[tuple[int, int]]) -> list[McNemar]:
    """McNemar's test of each chosen pair of models, from the clips that each gets right, corrected."""
    counts = [(int((right[a] & ~right[b]).sum()), int((right[b] & ~right[a]).sum())) for a, b in chosen]
    found = [mcnemar(*pair) for pair in counts]
    return [McNemar(*pair, p, corrected) for pair, p, corrected in zip(counts, found, holm(found), strict=True)]


def mcnemar(only_first: int, only_second: int) -> float:
    """The exact, two-sided p that of n clips which one model alone gets right, half are expected of each.

    It is `min(1, 2 P(X <= m))` with X binomial of n and 1/2, and m the smaller of the two counts.
    """
    clips, fewer = only_first + only_second, min(only_first, only_second)
    logs = (
        math.lgamma(clips + 1) - math.lgamma(k + 1) - math.lgamma(clips - k + 1) - clips * math.log(2)
        for k in range(fewer + 1)
    )
    return min(1.0, 2 * math.fsum(map(math.exp, logs)))


def holm(p: Sequence[float]) -> list[float]:
    """Each p after Holm's correction: `max over j <= i of min(1, (m - j + 1) p_j)`, where p_1 to p_m are ascending."""
    order = sorted(range(len(p)), key=p.__getitem__)
    corrected, least = [0.0] * len(p), 0.0
    for place, number in enumerate(order):
        least = max(least, min(1.0, (len(p) - place) * p[number]))
        corrected[number] = least
    return corrected
