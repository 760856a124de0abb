"""What `assess` refuses, and folds together."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from helpers.scored import found, names, several

from soundbench.errors import DataError
from soundbench.report.assessment import assess, pooled


@pytest.mark.parametrize("thresholds", [None, [0.5, 0.5]])
def test_no_clip_is_an_error(thresholds: list[float] | None) -> None:
    with pytest.raises(DataError, match=r"^there are no clips to evaluate$"):
        assess(np.zeros((0, 2)), np.zeros((0, 2)), np.zeros(0, int), names(2), thresholds=thresholds)


@pytest.mark.parametrize("thresholds", [None, [0.5, 0.5]])
def test_shapes_that_disagree_are_refused(thresholds: list[float] | None) -> None:
    with pytest.raises(ValueError, match="3 classes"):
        assess(np.zeros((2, 2)), np.ones((2, 2)), np.arange(2), names(3), thresholds=thresholds)


def test_folds_are_pooled_to_mean_and_spread() -> None:
    folds = [{"metrics": {"accuracy": {"value": value, "low": None, "high": None}}} for value in (0.5, 0.6, 0.7)]

    assert pooled(folds) == {
        "accuracy": {"mean": pytest.approx(0.6), "spread": pytest.approx(0.1), "values": [0.5, 0.6, 0.7]}
    }


def test_one_fold_has_no_spread() -> None:
    report = found([[1, 0], [0, 1]], [0, 1], resamples=5)

    assert pooled([report])["accuracy"] == {"mean": 1.0, "spread": None, "values": [1.0]}
    assert pooled([]) == {}


def sited(**options: object) -> dict[str, Any]:
    truth = np.repeat([0, 1, 0], [4, 4, 2])
    predicted = np.array([0, 0, 0, 0, 0, 1, 1, 0, 1, 1])
    groups = [0, 0, 1, 1, 2, 2, 2, 2, 3, 4]
    sites = ["a"] * 4 + ["b"] * 4 + [None] * 2
    return assess(np.eye(2)[predicted], np.eye(2)[truth], groups, names(2), by={"site": sites}, **options)


def test_figures_by_value_are_those_of_its_clips_alone_the_worst_first() -> None:
    report = sited(resamples=50)
    values = report["by"]["site"]

    assert [(one["value"], one["clips"], one["groups"]) for one in values] == [("", 2, 2), ("b", 4, 1), ("a", 4, 2)]
    assert [one["metrics"]["accuracy"]["value"] for one in values] == [0.0, 0.5, 1.0]
    assert values[1]["metrics"]["accuracy"] == {"value": 0.5, "low": None, "high": None}  # of one group
    alone = found(np.eye(2)[[0, 0, 0, 0]], [0, 0, 0, 0], groups=[0, 0, 1, 1], resamples=50)
    assert values[2]["metrics"] == alone["metrics"]
    assert "by" not in found([[1, 0], [0, 1]], [0, 1], resamples=5)


@pytest.mark.parametrize("each", [False, True])
def test_figures_by_value_of_several_labels_use_the_thresholds_of_their_clips(each: bool) -> None:
    scores, target, groups = several()
    thresholds = np.random.default_rng(0).random((300, 4) if each else 4)
    sites = [str(row % 3) for row in range(300)]
    report = assess(scores, target, groups, names(4), thresholds=thresholds, by={"site": sites}, resamples=20)

    values = report["by"]["site"]
    assert sorted(one["value"] for one in values) == ["0", "1", "2"]
    precision = [one["metrics"]["mean_average_precision"]["value"] for one in values]
    assert precision == sorted(precision)
    for one in values:
        rows = np.arange(int(one["value"]), 300, 3)
        own = thresholds[rows] if each else thresholds
        alone = assess(scores[rows], target[rows], groups[rows], names(4), thresholds=own, resamples=20)
        assert one["metrics"] == alone["metrics"]


def test_a_metric_that_an_older_fold_lacks_is_not_pooled() -> None:
    old, new = (
        {"metrics": {key: {"value": 0.5} for key in keys}} for keys in (["accuracy"], ["accuracy", "brier_score"])
    )

    assert list(pooled([new, old])) == list(pooled([old, new])) == ["accuracy"]
