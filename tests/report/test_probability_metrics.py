"""Log-likelihood, Brier score and calibration error, against scikit-learn, closed forms and loops in float64."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from helpers.clock import within
from helpers.scored import found, names, scored, several, values
from sklearn.metrics import brier_score_loss, log_loss

from soundbench.report.assessment import assess
from soundbench.report.metrics import ONE_LABEL, SEVERAL_LABELS, metric_of
from soundbench.report.metrics.negative_log_likelihood import EPSILON

NAMES = ("negative_log_likelihood", "brier_score", "expected_calibration_error")


def softmax(clips: int, classes: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities, float32 as a network's, and truths that are drawn from them."""
    draws = np.random.default_rng(seed)
    logits = draws.normal(size=(clips, classes)) * 2
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    truth = (draws.random((clips, 1)) > shares.cumsum(axis=1)).sum(axis=1).clip(max=classes - 1)
    return shares.astype(np.float32), truth


def slow_error(probability: np.ndarray, came_true: np.ndarray, bins: int = 15) -> float:
    """The definition: sort, cut into parts of equal size, and compare means; for probabilities that all differ."""
    order = np.argsort(probability)
    edges = [number * len(order) // bins for number in range(bins + 1)]
    error = 0.0
    for first, last in pairwise(edges):
        rows = order[first:last]
        if len(rows):
            error += len(rows) / len(order) * abs(float(np.mean(probability[rows])) - float(np.mean(came_true[rows])))
    return error


@pytest.mark.parametrize(("clips", "classes"), [(400, 10), (9, 3), (31, 2)])
def test_one_label_as_scikit_learn_has_it(clips: int, classes: int) -> None:
    shares, truth = softmax(clips, classes)
    report = values(found(shares, truth, resamples=0))
    exact = shares.astype(np.float64)
    exact /= exact.sum(axis=1, keepdims=True)

    assert report["negative_log_likelihood"] == pytest.approx(log_loss(truth, exact, labels=range(classes)))
    brier = brier_score_loss(truth, exact, labels=range(classes), scale_by_half=False)
    assert report["brier_score"] == pytest.approx(brier)
    top = exact.max(axis=1), exact.argmax(axis=1) == truth
    assert report["expected_calibration_error"] == pytest.approx(slow_error(*top))


def test_several_labels_as_scikit_learn_has_them() -> None:
    draws = np.random.default_rng(4)
    scores = draws.random((300, 4))
    target = draws.random((300, 4)) < scores
    report = values(assess(scores, target, np.arange(300), names(4), thresholds=[0.5] * 4, resamples=0))
    columns = list(zip(target.T, scores.T, strict=True))

    losses = [log_loss(truth, own, labels=[False, True]) for truth, own in columns]
    assert report["negative_log_likelihood"] == pytest.approx(np.mean(losses))
    assert report["brier_score"] == pytest.approx(np.mean([brier_score_loss(truth, own) for truth, own in columns]))
    assert report["expected_calibration_error"] == pytest.approx(slow_error(scores.ravel(), target.ravel()))


def test_closed_forms() -> None:
    even = values(found(np.full((8, 4), 0.25), [0, 1, 2, 3] * 2, resamples=0))
    assert even["negative_log_likelihood"] == pytest.approx(math.log(4))
    assert even["brier_score"] == pytest.approx(0.75**2 + 3 * 0.25**2)
    assert even["expected_calibration_error"] == pytest.approx(0.0)  # a quarter of them is of the first class

    sure = values(found(np.eye(3)[[0, 1, 2, 0]], [0, 1, 2, 0], resamples=0))
    assert [sure[name] for name in NAMES] == [0.0, 0.0, 0.0]
    wrong = values(found(np.eye(2)[[0, 0, 0, 0]], [1, 1, 1, 1], resamples=0))
    assert wrong["negative_log_likelihood"] == pytest.approx(-math.log(EPSILON))
    assert (wrong["brier_score"], wrong["expected_calibration_error"]) == (2.0, 1.0)


def test_scores_that_do_not_add_up_to_one_are_shares_of_their_sum() -> None:
    shares, truth = softmax(200, 5)
    doubled = shares * np.random.default_rng(0).uniform(0.1, 5, (200, 1)).astype(np.float32)

    expected, report = (values(found(scores, truth, resamples=0)) for scores in (shares, doubled))
    assert [report[name] for name in NAMES] == pytest.approx([expected[name] for name in NAMES], rel=1e-5)


@pytest.mark.parametrize("nothing", [np.nan, -np.inf, -3.0, 0.0])
def test_what_is_no_probability_counts_as_none(nothing: float) -> None:
    scores = np.array([[nothing, 0.4], [0.5, 0.5], [nothing, nothing]])
    report = values(found(scores, [0, 0, 0], resamples=0))

    assert report["negative_log_likelihood"] == pytest.approx((-2 * math.log(EPSILON) + math.log(2)) / 3, rel=1e-6)
    assert report["brier_score"] == pytest.approx((2 + 0.5 + 1) / 3, rel=1e-6)
    several_labels = assess(scores, np.eye(2)[[0, 0, 0]], np.arange(3), names(2), thresholds=[0.5] * 2, resamples=0)
    first = -2 * math.log(EPSILON) - math.log(0.5)
    second = -math.log(0.6) - math.log(0.5)
    assert values(several_labels)["negative_log_likelihood"] == pytest.approx((first + second) / 6, rel=1e-6)


def test_an_infinite_score_and_a_single_class_are_survived() -> None:
    for report in (found([[np.inf, 1.0], [0.0, 1.0]], [0, 1], resamples=20), found([[0.3], [np.nan]], [0, 0])):
        assert all(math.isfinite(figure["value"]) for figure in report["metrics"].values())


def test_the_order_of_clips_and_equal_scores_do_not_matter() -> None:
    scores, target, groups = several()  # one decimal: hundreds of equal scores
    order = np.random.default_rng(0).permutation(len(scores))
    one, other = (
        assess(scores[rows], target[rows], groups[rows], names(4), thresholds=[0.5] * 4, resamples=0)
        for rows in (np.arange(len(scores)), order)
    )
    assert values(one) == pytest.approx(values(other))


def slow_metrics(shares: np.ndarray, truth: np.ndarray, bins: np.ndarray) -> list[float]:
    """Of some clips, with the bins of all."""
    rows = np.arange(len(truth))
    top, right = shares.max(axis=1), shares.argmax(axis=1) == truth
    gaps = [abs(np.sum(top[bins == number] - right[bins == number])) for number in range(15)]
    brier = np.mean(((shares - np.eye(shares.shape[1])[truth]) ** 2).sum(axis=1))
    return [float(-np.mean(np.log(shares[rows, truth]))), float(brier), float(np.sum(gaps) / len(truth))]


def test_intervals_are_those_of_drawn_groups() -> None:
    shares, truth = softmax(160, 4)
    exact = shares.astype(np.float64) / shares.sum(axis=1, keepdims=True, dtype=np.float64)
    groups = np.random.default_rng(1).integers(0, 40, 160)
    report = found(shares, truth, groups, resamples=20000)["metrics"]
    top = exact.max(axis=1)
    bins = np.searchsorted(np.sort(top)[np.arange(1, 15) * 160 // 15], top, side="right")
    members = [np.flatnonzero(groups == group) for group in np.unique(groups)]
    draws = np.random.default_rng(7)
    drawn = []
    for _ in range(2000):
        rows = np.concatenate([members[number] for number in draws.integers(0, len(members), len(members))])
        drawn.append(slow_metrics(exact[rows], truth[rows], bins[rows]))

    for name, column in zip(NAMES, np.array(drawn).T, strict=True):
        low, value, high = (report[name][bound] for bound in ("low", "value", "high"))
        assert 0 <= low <= value <= high
        width = np.ptp(np.quantile(column, [0.025, 0.975]))
        # The jackknife, which widens intervals, takes the gaps of the calibration error for larger than chance makes
        # them where they are near 0: that interval errs on the wide side.
        widest = 1.6 if name == "expected_calibration_error" else 1.2
        assert 0.98 <= (high - low) / width <= widest, name


def test_they_are_numbers_of_which_less_is_better() -> None:
    for name in NAMES:
        assert metric_of(name).lower_is_better
        assert not metric_of(name).share
    for table in (ONE_LABEL, SEVERAL_LABELS):
        assert [metric.name for metric in table if metric.lower_is_better] == list(NAMES)


def test_a_report_of_888_clips_takes_little_time() -> None:
    scores, target, groups = scored(888, 10, 134)
    with within():
        assess(scores, target, groups, names(10), by={"site": [str(row % 25) for row in range(888)]})


def test_every_figure_is_a_number_for_programs() -> None:
    report: dict[str, Any] = found([[0.5, 0.5], [0.2, 0.8]], [0, 1], resamples=10)
    for name in NAMES:
        assert {type(value) for value in report["metrics"][name].values()} == {float}
