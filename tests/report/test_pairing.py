"""The paired difference of two models: against loops, Student's t, and its own coverage."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.stats
from helpers.scored import names, scored, several, values

from soundbench.report.assessment import assess
from soundbench.report.metrics import ONE_LABEL, SEVERAL_LABELS, metric_of
from soundbench.report.one_label import OneLabel
from soundbench.report.pairing import Gap, gap, measured
from soundbench.report.resampling import SameDraws
from soundbench.report.several_labels import SeveralLabels


def two(seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Scores of two models that resemble each other, targets and groups."""
    scores, target, groups = scored(400, 5, 60, seed)
    return scores, scores + np.random.default_rng(seed).normal(0, 0.1, scores.shape), target, groups


def difference(
    metric: str, a: Any, b: Any, target: np.ndarray, groups: Any, thresholds: Any = None, resamples: int = 500
) -> Gap:
    """How much higher a metric of model `a` is than that of model `b`; of several labels where there are thresholds."""
    draws, carried = SameDraws(np.unique(groups, return_inverse=True)[1], resamples, 0), target > 0
    models: list[Any]
    if thresholds is None:
        models = [OneLabel(scores, carried, None) for scores in (a, b)]
    else:
        models = [SeveralLabels(scores, carried, own) for scores, own in zip((a, b), thresholds, strict=True)]
    one, other = (measured(model, [metric_of(metric)], draws)[0] for model in models)
    return gap(one, other, draws.units)


@pytest.mark.parametrize("metric", [metric.name for metric in ONE_LABEL])
def test_it_is_the_difference_of_two_reports(metric: str) -> None:
    a, b, target, groups = two()
    one, other = (values(assess(scores, target, groups, names(5), resamples=0))[metric] for scores in (a, b))
    found = difference(metric, a, b, target, groups)

    assert found.value == pytest.approx(one - other, abs=1e-12)
    assert found.low <= found.value <= found.high
    swapped = difference(metric, b, a, target, groups)
    assert [swapped.value, swapped.low, swapped.high] == pytest.approx(
        [-found.value, -found.high, -found.low], abs=1e-9
    )


@pytest.mark.parametrize("metric", [metric.name for metric in SEVERAL_LABELS])
def test_of_several_labels_each_model_has_thresholds_of_its_own(metric: str) -> None:
    a, target, groups = several()
    b, thresholds = np.sqrt(a), ([0.5] * 4, [0.7] * 4)
    one, other = (
        values(assess(scores, target, groups, names(4), thresholds=own, resamples=0))[metric]
        for scores, own in zip((a, b), thresholds, strict=True)
    )
    found = difference(metric, a, b, target, groups, thresholds, resamples=200)

    assert found.value == pytest.approx(one - other, abs=1e-12)
    assert found.low <= found.value <= found.high


def test_a_model_does_not_differ_from_itself() -> None:
    a, _, target, groups = two()
    for metric in ONE_LABEL:
        assert difference(metric.name, a, a, target, groups, resamples=100) == Gap(0.0, 0.0, 0.0, 1.0)


def test_one_group_has_no_interval() -> None:
    a, b, target, _ = two()
    found = difference("accuracy", a, b, target, ["all"] * 400)
    assert (found.low, found.high, found.p) == (None, None, None)


def test_clips_that_stand_alone_have_the_interval_of_a_paired_t_test() -> None:
    a, b, target, _ = two(3)
    right = [scores.argmax(axis=1) == target.argmax(axis=1) for scores in (a, b)]
    gaps = right[0].astype(float) - right[1]
    expected = scipy.stats.t.interval(0.95, 399, gaps.mean(), scipy.stats.sem(gaps))
    found = difference("accuracy", a, b, target, np.arange(400), resamples=20_000)

    assert (found.low, found.high) == pytest.approx(expected, abs=0.004)
    apart = assess(a, target, np.arange(400), names(5))["metrics"]["accuracy"]
    assert found.high - found.low < apart["high"] - apart["low"]  # what is hard for both cancels out


def test_the_interval_of_equal_models_holds_nothing_but_one_time_in_twenty() -> None:
    """Accuracy of 40 groups of 1 to 9 clips, each hard or easy for both models: their true difference is 0."""
    draws, missed, trials = np.random.default_rng(11), 0, 400
    group = np.repeat(np.arange(40), 1 + np.arange(40) % 9)
    target = np.eye(2)[np.zeros(len(group), int)]
    for _ in range(trials):
        rates = draws.beta(3, 1, 40)[group]
        a, b = (np.eye(2)[(draws.random(len(group)) > rates).astype(int)] for _ in range(2))
        found = difference("accuracy", a, b, target, group, resamples=400)
        missed += not found.low <= 0 <= found.high

    assert 0.025 <= missed / trials <= 0.08
