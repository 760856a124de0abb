"""Confident learning, the worst mistakes, and intervals of classes, against what their papers say."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from soundbench.report.html import tables
from soundbench.report.html.mistakes import worst, worst_of_several_labels
from soundbench.report.html.suspects import suspects, suspects_of_several_labels


def joint(scores: np.ndarray, labels: np.ndarray) -> dict[int, int]:
    """Equations 1 and 2 of the paper, clip by clip: the class of each clip that is off the diagonal."""
    count = scores.shape[1]
    means = [
        np.mean([row[code] for row, label in zip(scores, labels, strict=True) if label == code])
        for code in range(count)
    ]
    found = {}
    for number, (row, label) in enumerate(zip(scores, labels, strict=True)):
        reached = [code for code in range(count) if row[code] >= means[code]]
        if reached and (best := max(reached, key=lambda code: row[code])) != label:
            found[number] = best
    return found


@pytest.mark.parametrize("seed", range(5))
def test_the_suspects_are_off_the_diagonal_of_the_confident_joint(seed: int) -> None:
    draws = np.random.default_rng(seed)
    scores, labels = draws.dirichlet(np.ones(4), 200), draws.integers(0, 4, 200)
    found = suspects(scores, labels)
    assert {one.row: one.other for one in found} == joint(scores, labels)
    margins = [scores[one.row, one.other] - scores[one.row, labels[one.row]] for one in found]
    assert [one.margin for one in found] == pytest.approx(margins)
    assert margins == sorted(margins, reverse=True)


def test_labels_that_were_changed_are_found_first() -> None:
    draws = np.random.default_rng(0)
    truth = draws.integers(0, 5, 500)
    scores = draws.dirichlet(np.ones(5), 500) * 0.05 + 0.95 * np.eye(5)[truth]
    wrong = draws.choice(500, 20, replace=False)
    labels = truth.copy()
    labels[wrong] = (truth[wrong] + 1) % 5
    found = suspects(scores, labels)
    assert {one.row for one in found[:20]} == set(wrong.tolist())
    assert all(one.other == truth[one.row] for one in found[:20])


def test_scores_that_are_no_numbers_and_a_class_without_clips_make_no_suspect() -> None:
    scores = np.array([[0.1, 0.9, 0.0], [np.nan, 1.0, 0.0], [0.2, 0.1, 0.7], [0.9, 0.0, 0.1]])
    found = suspects(scores, np.array([0, 0, 0, 0]))
    assert found == []
    assert suspects(np.full((3, 2), np.nan), np.array([0, 1, 1])) == []


def test_of_several_labels_each_may_be_missing_or_wrong() -> None:
    draws = np.random.default_rng(1)
    targets = draws.random((200, 3)) < 0.4
    scores = np.clip(0.15 + 0.7 * targets + draws.normal(0, 0.002, targets.shape), 0, 1)
    for place in ((7, 1), (9, 2)):
        scores[place] = 0.95 if targets[place] else 0.05
        targets[place] = ~targets[place]
    found = suspects_of_several_labels(scores, targets)
    assert {(one.row, one.label) for one in found[:2]} == {(7, 1), (9, 2)}
    assert all(one.missing == (not targets[one.row, one.label]) for one in found)


def test_mistakes_begin_with_the_highest_score_of_a_wrong_class() -> None:
    scores = np.array([[0.9, 0.1], [0.4, 0.6], [np.nan, 0.7], [np.nan, np.nan], [0.3, 0.2]])
    found = worst(scores, np.array([1, 0, 0, 1, 0]))
    assert [(one.row, one.predicted, one.score) for one in found] == [(0, 0, 0.9), (2, 1, 0.7), (1, 1, 0.6)]


def test_of_several_labels_a_mistake_is_a_false_positive() -> None:
    scores = np.array([[0.9, 0.8, 0.1], [0.45, 0.2, 0.95], [0.3, 0.4, 0.5], [np.nan, 0.1, 0.2]])
    targets = np.array([[1, 0, 0], [0, 0, 1], [0, 0, 0], [0, 0, 1]], bool)
    found = worst_of_several_labels(scores, targets, [0.4, None, 0.5])
    assert [(one.row, one.predicted) for one in found] == [(0, 1), (2, 2), (1, 0)]


@pytest.mark.parametrize(("right", "count"), [(0, 7), (3, 7), (7, 7), (45, 60), (1, 1)])
def test_the_interval_of_a_class_is_wilsons(right: int, count: int) -> None:
    expected = stats.binomtest(right, count).proportion_ci(0.95, method="wilson")
    assert tables.wilson(right / count, count) == pytest.approx((expected.low, expected.high), abs=1e-12)
    assert tables.wilson(None, count) == tables.wilson(0.5, 0.0) == (None, None)


def test_clips_of_one_group_are_worth_one_observation() -> None:
    targets = np.array([[1, 0], [1, 0], [1, 0], [0, 1], [1, 1], [0, 1]], bool)
    worth = tables._independent(targets, ["a", "a", "a", "b", "b", "c"])
    assert worth.tolist() == pytest.approx([4**2 / (3**2 + 1), 3**2 / (2**2 + 1)])
    assert tables._independent(targets, list("abcdef")).tolist() == [4, 3]
    assert tables._independent(np.zeros((2, 3), bool), ["a", "b"]).tolist() == [0, 0, 0]
