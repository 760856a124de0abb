"""The bootstrap over groups, against slow loops, textbook intervals and its own coverage."""

from __future__ import annotations

import math
import time
import tracemalloc

import numpy as np
import pytest
from helpers.scored import found, names, scored

from soundbench.report.assessment import assess
from soundbench.report.resampling import Once, Resamples, percentiles


def f1(true: np.ndarray, predicted: np.ndarray) -> float:
    """Of one class, from its definition."""
    right = (true & predicted).sum()
    return float(right and 2 / (true.sum() / right + predicted.sum() / right))


def slow_intervals(scores: np.ndarray, target: np.ndarray, groups: np.ndarray, resamples: int) -> dict[str, np.ndarray]:
    """The definition, with loops: draw groups, take all their clips, measure them."""
    truth, predicted = target.argmax(1), scores.argmax(1)
    draws = np.random.default_rng(12345)
    members = [np.flatnonzero(groups == group) for group in np.unique(groups)]
    drawn: dict[str, list[float]] = {"accuracy": [], "macro_f1": [], "balanced_accuracy": [], "top3": []}
    for _ in range(resamples):
        rows = np.concatenate([members[number] for number in draws.integers(0, len(members), len(members))])
        present = np.unique(truth[rows])
        drawn["accuracy"].append(float(np.mean(truth[rows] == predicted[rows])))
        drawn["macro_f1"].append(float(np.mean([f1(truth[rows] == code, predicted[rows] == code) for code in present])))
        recalls = [np.mean(predicted[rows][truth[rows] == code] == code) for code in present]
        drawn["balanced_accuracy"].append(float(np.mean(recalls)))
        top = np.argsort(-scores[rows], axis=1, kind="stable")[:, :3]
        drawn["top3"].append(float(np.mean((top == truth[rows][:, None]).any(1))))
    return {name: np.quantile(values, [0.025, 0.975]) for name, values in drawn.items()}


@pytest.mark.parametrize(("clips", "groups", "classes"), [(150, 25, 5), (120, 120, 4)])
def test_intervals_agree_with_a_slow_bootstrap_of_the_definition(clips: int, groups: int, classes: int) -> None:
    scores, target, group = scored(clips, classes, groups)
    report = assess(scores, target, group, names(classes), resamples=20000)

    for name, bounds in slow_intervals(scores, target, group, 1500).items():
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


def test_the_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    draws, covered, naive, trials = np.random.default_rng(5), 0, 0, 400
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
    shares = Resamples(np.unique(groups, return_inverse=True)[1], 20000, 1).sums(
        np.stack([right, right | True], axis=1)
    )
    accuracy = assess(scores, target, groups, names(5), resamples=20000)["metrics"]["accuracy"]

    assert percentiles(shares[:, 0] / shares[:, 1]) == pytest.approx((accuracy["low"], accuracy["high"]), abs=0.006)


def test_sums_come_block_by_block(monkeypatch: pytest.MonkeyPatch) -> None:
    group, values = np.arange(3000), np.random.default_rng(0).integers(0, 9, (3000, 4))
    whole = Resamples(group, 400, 0).sums(values)
    monkeypatch.setattr("soundbench.report.resampling._WEIGHTS", 30_000)
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


def test_fifty_classes_two_thousand_groups_in_a_second_and_bounded_memory() -> None:
    scores, target, groups = scored(8732, 50, 2000)
    tracemalloc.start()
    assess(scores, target, groups, names(50))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    best = math.inf
    for _ in range(3):
        began = time.perf_counter()
        assess(scores, target, groups, names(50))
        best = min(best, time.perf_counter() - began)

    assert best < 1.0
    assert peak < 100e6
