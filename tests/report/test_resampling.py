"""The bootstrap over groups, against slow loops, textbook intervals and its own coverage."""

from __future__ import annotations

import math
import tracemalloc

import numpy as np
import pytest
import scipy.special
import scipy.stats
from helpers.clock import within
from helpers.scored import found, names, scored

from soundbench.report import metrics, resampling
from soundbench.report.assessment import assess
from soundbench.report.metrics.accuracy import ACCURACY
from soundbench.report.resampling import LeftOut, Once, Resamples, SameDraws, few, interval


def f1(true: np.ndarray, predicted: np.ndarray) -> float:
    """Of one class, from its definition."""
    right = (true & predicted).sum()
    return float(right and 2 / (true.sum() / right + predicted.sum() / right))


def measured(truth: np.ndarray, predicted: np.ndarray, among_top: np.ndarray) -> dict[str, float]:
    """The metrics of some clips, from their definitions."""
    present = np.unique(truth)
    return {
        "accuracy": float(np.mean(truth == predicted)),
        "macro_f1": float(np.mean([f1(truth == code, predicted == code) for code in present])),
        "balanced_accuracy": float(np.mean([np.mean(predicted[truth == code] == code) for code in present])),
        "top3": float(np.mean(among_top)),
    }


def slow_intervals(scores: np.ndarray, target: np.ndarray, groups: np.ndarray) -> dict[str, np.ndarray]:
    """The definition, with loops: draw groups, take all their clips, measure them; the same without each group."""
    truth, predicted = target.argmax(1), scores.argmax(1)
    among_top = (np.argsort(-scores, axis=1, kind="stable")[:, :3] == truth[:, None]).any(1)
    draws, count = np.random.default_rng(12345), len(np.unique(groups))
    members = [np.flatnonzero(groups == group) for group in np.unique(groups)]
    clips = (truth, predicted, among_top)
    whole = measured(*clips)
    resampled = [[members[number] for number in draws.integers(0, count, count)] for _ in range(1500)]
    drawn = [measured(*(column[np.concatenate(rows)] for column in clips)) for rows in resampled]
    without = [measured(*(np.delete(column, rows) for column in clips)) for rows in members]
    sizes = np.array([len(rows) for rows in members])
    t = scipy.stats.t.ppf(0.975, sizes.sum() ** 2 / (sizes**2).sum() - 1)
    found = {}
    for name, value in whole.items():
        values, left_out = (np.array([one[name] for one in each]) for each in (drawn, without))
        error = math.sqrt((count - 1) / count * ((left_out - left_out.mean()) ** 2).sum())
        reach = t * max(error, values.std()) / (value * (1 - value))  # of its logit, by the delta method
        found[name] = scipy.special.expit(scipy.special.logit(value) + reach * np.array([-1, 1]))
    return found


@pytest.mark.parametrize(("clips", "groups", "classes"), [(150, 25, 5), (120, 120, 4)])
def test_intervals_agree_with_a_slow_bootstrap_of_the_definition(clips: int, groups: int, classes: int) -> None:
    scores, target, group = scored(clips, classes, groups)
    report = assess(scores, target, group, names(classes), resamples=20000)

    for name, bounds in slow_intervals(scores, target, group).items():
        own = report["metrics"][name]
        assert [own["low"], own["high"]] == pytest.approx(bounds, abs=0.02), name


def test_the_interval_of_clips_that_stand_alone_is_the_binomial_one() -> None:
    clips, right = 400, 300
    scores = np.eye(2)[[0] * right + [1] * (clips - right)]
    report = found(scores, [0] * clips, resamples=20000)

    spread = math.sqrt(0.75 * 0.25 / clips)
    accuracy = report["metrics"]["accuracy"]
    assert accuracy["low"] == pytest.approx(0.75 - 1.96 * spread, abs=0.004)
    assert accuracy["high"] == pytest.approx(0.75 + 1.96 * spread, abs=0.004)


def test_clips_scored_alike_in_groups_of_ten_widen_the_interval_as_sqrt_ten() -> None:
    right = np.repeat(np.arange(200) % 4 > 0, 10)
    scores = np.eye(2)[(~right).astype(int)]
    truth = np.zeros(2000, int)
    alone = found(scores, truth, resamples=8000)["metrics"]["accuracy"]
    together = found(scores, truth, groups=np.repeat(np.arange(200), 10), resamples=8000)["metrics"]["accuracy"]

    ratio = (together["high"] - together["low"]) / (alone["high"] - alone["low"])
    assert ratio == pytest.approx(math.sqrt(10), rel=0.06)


def test_the_interval_covers_the_truth_about_as_often_as_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "ONE_LABEL", (ACCURACY,))
    draws, covered, naive, trials = np.random.default_rng(5), 0, 0, 300
    group = np.repeat(np.arange(60), 8)
    for _ in range(trials):
        rates = draws.beta(3, 2, 60)[group]  # every group has its own rate of success; 0.6 in the mean
        scores = np.eye(2)[(draws.random(480) > rates).astype(int)]
        truth = np.zeros(480, int)
        accuracy = found(scores, truth, group, resamples=400)["metrics"]["accuracy"]
        covered += accuracy["low"] <= 0.6 <= accuracy["high"]
        accuracy = found(scores, truth, resamples=400)["metrics"]["accuracy"]
        naive += accuracy["low"] <= 0.6 <= accuracy["high"]

    assert 0.91 <= covered / trials <= 0.98
    assert naive / trials < 0.85  # clips taken for independent promise too much


def test_the_same_seed_gives_counts_the_same_interval_whatever_groups_are_called_and_however_clips_are_ordered() -> (
    None
):
    scores, target, groups = scored(300, 6, 40)
    first = assess(scores, target, groups, names(6), seed=4)
    order = np.random.default_rng(0).permutation(300)
    again = assess(scores[order], target[order], (1000 - groups * 7)[order], names(6), seed=4)
    other = assess(scores, target, groups, names(6), seed=5)

    for name in ("accuracy", "macro_f1", "balanced_accuracy", "top3"):
        assert again["metrics"][name] == first["metrics"][name]
    assert again["baseline"] == first["baseline"]
    assert other["metrics"]["accuracy"]["low"] != first["metrics"]["accuracy"]["low"]


def test_many_kinds_of_group_go_through_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    scores, target, groups = scored(600, 5, 150)
    whole = assess(scores, target, groups, names(5), resamples=20000)["metrics"]
    monkeypatch.setattr("soundbench.report.resampling._KINDS", 7)
    blocks = assess(scores, target, groups, names(5), resamples=20000)["metrics"]

    for name, figure in whole.items():
        assert blocks[name]["value"] == figure["value"]
        assert [blocks[name]["low"], blocks[name]["high"]] == pytest.approx([figure["low"], figure["high"]], abs=0.006)


def test_sums_over_resamples_are_those_of_drawn_groups() -> None:
    draws = np.random.default_rng(2)
    group, column = draws.integers(0, 12, 90), draws.normal(size=90)
    group[:12] = np.arange(12)
    values = np.stack([column, np.ones(90), *(group == number for number in range(12))], axis=1)
    sums = Resamples(group, 500, 3).sums(values)

    sizes = np.bincount(group)
    drawn = sums[:, 2:] / sizes  # how often each group
    assert np.array_equal(drawn, np.round(drawn))
    assert (drawn.sum(axis=1) == 12).all()
    assert sums[:, 0] == pytest.approx(drawn @ np.bincount(group, weights=column))
    assert (sums[:, 1] == drawn @ sizes).all()
    weights = np.concatenate(list(Resamples(group, 500, 3).of_clips()))
    assert np.array_equal(weights, drawn[:, group])
    assert Once(90).sums(values) == pytest.approx(values.sum(axis=0)[None])


def test_sums_give_the_interval_that_counts_give() -> None:
    scores, target, groups = scored(300, 5, 40)
    right = target.argmax(axis=1) == scores.argmax(axis=1)
    columns, group = np.stack([right, right | True], axis=1), np.unique(groups, return_inverse=True)[1]
    resamples = Resamples(group, 20000, 1)
    drawn, left_out = (sums[:, 0] / sums[:, 1] for sums in (resamples.sums(columns), LeftOut(group, 1).sums(columns)))
    bounds = interval(float(right.mean()), drawn, left_out, resamples.units, share=True)
    accuracy = assess(scores, target, groups, names(5), resamples=20000)["metrics"]["accuracy"]

    assert bounds == pytest.approx((accuracy["low"], accuracy["high"]), abs=0.006)


@pytest.mark.parametrize("groups", [9, 450])
def test_the_jackknife_leaves_out_groups_one_by_one_or_in_two_hundred_blocks(groups: int) -> None:
    draws = np.random.default_rng(2)
    group = np.concatenate([np.arange(groups), draws.integers(0, groups, 300)])
    left_out = LeftOut(group, 3)
    weights = np.concatenate(list(left_out.of_clips()))

    assert set(np.unique(weights)) == {0.0, 1.0}
    assert (np.sum(weights == 0, axis=0) == 1).all()  # each clip is left out once
    assert len(weights) == min(groups, 200)
    for own in weights:  # and no group in part
        assert not set(group[own == 0]) & set(group[own == 1])
    values = draws.normal(size=(len(group), 2))
    assert left_out.sums(values) == pytest.approx(weights @ values)
    outcome = draws.integers(0, 4, len(group))

    def count(unit: np.ndarray, units: int, rows: np.ndarray) -> np.ndarray:
        return np.bincount(unit * 4 + outcome[rows], minlength=units * 4).reshape(units, 4).astype(float)

    assert np.array_equal(left_out.counts(outcome, 4, count), weights @ np.eye(4)[outcome])
    same = SameDraws(group, 50, 3)
    drawn = np.concatenate(list(same.of_clips()))
    assert np.array_equal(same.counts(outcome, 4, count), drawn @ np.eye(4)[outcome])


def test_the_jackknife_of_a_mean_is_its_standard_error_and_the_interval_that_of_student() -> None:
    """Of normal values the interval must be that of the t-test, whose textbook formula has no resampling in it."""
    values = np.random.default_rng(0).normal(5, 2, 15)
    group, columns = np.arange(15), np.stack([values, np.ones(15)], axis=1)
    resamples = Resamples(group, 200_000, 0)
    drawn, left_out = (sums[:, 0] / sums[:, 1] for sums in (resamples.sums(columns), LeftOut(group, 0).sums(columns)))
    low, high = interval(float(values.mean()), drawn, left_out, resamples.units)
    expected = scipy.stats.t.interval(0.95, 14, values.mean(), scipy.stats.sem(values))

    assert resamples.units == pytest.approx(15)
    assert (low + high) / 2 == pytest.approx(np.mean(expected), abs=0.1)
    assert high - low == pytest.approx(np.ptp(expected), rel=0.05)


def test_a_share_stays_between_0_and_1_and_errs_downwards_where_nearly_all_is_right() -> None:
    """The exact interval of Clopper and Pearson of 97 of 100 that stand alone, which is on the wide side."""
    scores = np.eye(2)[[0] * 97 + [1] * 3]
    accuracy = found(scores, [0] * 100, resamples=20_000)["metrics"]["accuracy"]
    exact = scipy.stats.binomtest(97, 100).proportion_ci(0.95)

    assert accuracy["value"] - accuracy["low"] > 2 * (accuracy["high"] - accuracy["value"])
    assert (accuracy["low"], accuracy["high"]) == pytest.approx((exact.low, exact.high), abs=0.01)
    one_wrong = found(np.eye(2)[[0] * 11 + [1]], [0] * 12, resamples=2000)["metrics"]["accuracy"]
    assert 0 < one_wrong["low"] < one_wrong["value"] < one_wrong["high"] < 1


@pytest.mark.parametrize("degrees", [1, 1.5, 3, 11, 57.9, 58.1, 300, 1e5])
def test_the_quantile_of_student_is_that_of_scipy(degrees: float) -> None:
    found = resampling._student(0.95, degrees)
    assert found == pytest.approx(scipy.stats.t.ppf(0.975, degrees), rel=1e-5)


def test_unequal_groups_are_worth_fewer() -> None:
    group = np.repeat(np.arange(4), [10, 1, 1, 1])  # (13)^2 / (100 + 3)
    assert Resamples(group, 1, 0).units == pytest.approx(169 / 103)


def test_few_groups_are_said() -> None:
    report = found(np.eye(2)[[0, 1] * 20], [0, 1] * 20, groups=np.arange(40) % 19, resamples=50)
    assert report["interval"]["note"] == few(19)
    assert "from 19 groups" in few(19)
    for enough in (0, 1, 20, 500):
        assert few(enough) is None
    assert "note" not in found(np.eye(2)[[0, 1] * 20], [0, 1] * 20, resamples=50)["interval"]


def test_sums_come_block_by_block(monkeypatch: pytest.MonkeyPatch) -> None:
    group, values = np.arange(3000), np.random.default_rng(0).integers(0, 9, (3000, 4))
    whole = Resamples(group, 400, 0).sums(values)
    monkeypatch.setattr("soundbench.report.resampling._WEIGHTS", 30_000)
    monkeypatch.setattr("soundbench.report.resampling._KEPT", 0)
    tracemalloc.start()
    blocks = Resamples(group, 400, 0).sums(values)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert np.array_equal(blocks, whole)
    assert peak < 400 * 3000 * 8 / 4


def test_a_macro_average_in_a_resample_is_over_the_classes_that_it_holds() -> None:
    # Two groups of a class each, all right: whichever are drawn, every class that is there has F1 1.
    macro = found([[1, 0], [0, 1]], [0, 1], groups=[0, 1])["metrics"]["macro_f1"]

    assert macro == {"value": 1.0, "low": 1.0, "high": 1.0}


def test_fifty_classes_two_thousand_groups_in_bounded_time_and_memory() -> None:
    scores, target, groups = scored(8732, 50, 2000)
    tracemalloc.start()
    assess(scores, target, groups, names(50))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    with within():
        assess(scores, target, groups, names(50))

    assert peak < 100e6
