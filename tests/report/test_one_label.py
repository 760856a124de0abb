"""Metrics of one label a clip, against an independent library and by hand."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
from helpers.scored import found, names, scored, values
from sklearn import metrics

from soundbench.errors import DataError
from soundbench.report.assessment import assess


def plain(value: Any) -> bool:
    """Whether JSON holds it as it is, and no number in it is NaN or infinite."""
    if isinstance(value, dict):
        return all(type(key) is str and plain(item) for key, item in value.items())
    if isinstance(value, list):
        return all(plain(item) for item in value)
    return value is None or type(value) in (str, int, bool) or (type(value) is float and math.isfinite(value))


@pytest.mark.parametrize(("clips", "classes"), [(300, 10), (50, 4), (40, 2), (500, 50)])
def test_values_are_those_of_scikit_learn(clips: int, classes: int) -> None:
    scores, target, groups = scored(clips, classes, clips // 4)
    truth, predicted = target.argmax(1), scores.argmax(1)
    report = assess(scores, target, groups, names(classes), prior=target.sum(0), resamples=10)

    present = np.unique(truth)
    precision, recall, f1, support = metrics.precision_recall_fscore_support(
        truth, predicted, labels=range(classes), zero_division=0
    )
    assert values(report)["accuracy"] == pytest.approx(metrics.accuracy_score(truth, predicted))
    assert values(report)["macro_f1"] == pytest.approx(
        metrics.f1_score(truth, predicted, labels=present, average="macro", zero_division=0)
    )
    assert values(report)["balanced_accuracy"] == pytest.approx(recall[present].mean())
    if classes > 3:
        assert values(report)["top3"] == pytest.approx(
            metrics.top_k_accuracy_score(truth, scores, k=3, labels=range(classes))
        )
    assert report["confusion"] == metrics.confusion_matrix(truth, predicted, labels=range(classes)).tolist()
    for code, row in enumerate(report["per_class"]):
        assert (row["class"], row["support"]) == (f"class {code}", support[code])
        if support[code]:
            expected = [precision[code], recall[code], f1[code]]
            assert [row["precision"], row["recall"], row["f1"]] == pytest.approx(expected)


def test_values_by_hand() -> None:
    report = found([[3, 1, 0, 2], [3, 1, 0, 2], [0, 3, 2, 1], [0, 1, 2, 3]], [0, 3, 1, 1], resamples=10)

    expected = {
        "accuracy": 2 / 4,
        "macro_f1": (2 / 3 + 2 / 3 + 0) / 3,
        "balanced_accuracy": (1 + 1 / 2) / 3,
        "top3": 1.0,
    }
    assert {name: values(report)[name] for name in expected} == pytest.approx(expected)
    assert report["confusion"] == [[1, 0, 0, 0], [0, 1, 0, 1], [0, 0, 0, 0], [1, 0, 0, 0]]
    assert (report["clips"], report["groups"]) == (4, 4)


def test_the_baseline_always_predicts_the_most_common_class_of_training() -> None:
    report = found(np.eye(3)[[0, 1, 1, 1, 2]], [0, 1, 1, 1, 2], prior=[5, 2, 9], resamples=10)

    assert report["baseline"]["class"] == "class 2"
    assert report["baseline"]["accuracy"]["value"] == pytest.approx(1 / 5)
    assert report["baseline"]["macro_f1"]["value"] == pytest.approx(2 * 1 / (5 + 1) / 3)
    truth, always = [0, 1, 1, 1, 2], [2] * 5
    assert report["baseline"]["macro_f1"]["value"] == pytest.approx(metrics.f1_score(truth, always, average="macro"))


def test_without_training_clips_the_baseline_predicts_the_most_common_class_of_these() -> None:
    scores, target = np.eye(3)[[0, 1, 1]], np.eye(3)[[0, 1, 1]]
    baseline = assess(scores, target, np.arange(3), names(3), resamples=10)["baseline"]

    assert (baseline["class"], baseline["of"]) == ("class 1", "these clips")
    assert baseline["accuracy"]["value"] == pytest.approx(2 / 3)
    assert "of" not in found(scores, [0, 1, 1], resamples=10)["baseline"]


def test_equal_priors_and_equal_scores_go_to_the_first_class() -> None:
    report = found([[1, 1, 1, 1, 1], [0, 1, 1, 1, 1], [0, 0, 1, 1, 1]], [0, 4, 4], resamples=10)

    assert report["baseline"]["class"] == "class 0"
    assert [row["predicted"] for row in report["per_class"]] == [1, 1, 1, 0, 0]
    # Of five equal scores the truth at 0 is first; at 4 it comes after 1, 2, 3, and after 2, 3.
    assert values(report)["top3"] == pytest.approx(2 / 3)


def test_a_class_without_clips_is_left_out_and_said() -> None:
    report = found([[1, 0, 0], [0, 0, 1], [0, 0, 1]], [0, 0, 2], resamples=200)

    assert report["classes_without_clips"] == ["class 1"]
    assert values(report)["macro_f1"] == pytest.approx((2 / 3 + 2 / 3) / 2)
    assert report["per_class"][1] == {
        "class": "class 1", "precision": None, "recall": None, "f1": None, "support": 0, "predicted": 0,
    }  # fmt: skip
    assert report["confusion"][1] == [0, 0, 0]


def test_a_class_never_predicted_has_precision_zero_and_one_predicted_without_clips_too() -> None:
    report = found([[0, 1, 0], [0, 1, 0]], [0, 0], resamples=10)

    assert [row["precision"] for row in report["per_class"]] == [0.0, 0.0, None]
    assert [row["recall"] for row in report["per_class"]] == [0.0, None, None]


def test_of_one_group_there_is_no_interval() -> None:
    report = found([[1, 0], [0, 1], [1, 0]], [0, 1, 1], groups=[7, 7, 7])

    assert report["metrics"]["accuracy"] == {"value": pytest.approx(2 / 3), "low": None, "high": None}
    assert report["baseline"]["accuracy"]["low"] is None
    assert report["groups"] == 1


def test_without_resamples_there_is_no_interval() -> None:
    assert found([[1, 0], [0, 1]], [0, 1], resamples=0)["metrics"]["macro_f1"]["high"] is None


def test_two_classes_have_no_top3() -> None:
    assert "top3" not in values(found([[1, 0], [0, 1]], [0, 1], resamples=5))


def test_scores_that_are_no_numbers_count_as_the_lowest_and_are_counted() -> None:
    report = found([[np.nan, 0, 0, 0], [np.nan] * 4, [np.inf, 0, 1, 0]], [1, 3, 0], resamples=20)

    assert [row["predicted"] for row in report["per_class"]] == [2, 1, 0, 0]
    assert report["clips_without_finite_scores"] == 3
    assert plain(report)


@pytest.mark.parametrize("classes", [2, 5])
def test_the_result_is_plain_json(classes: int) -> None:
    scores, target, groups = scored(60, classes, 9)
    options = {"resamples": np.int64(50), "seed": np.int64(3)}
    report = assess(scores, target, groups, np.array(names(classes)), prior=target.sum(0), **options)

    assert plain(report)
    assert json.loads(json.dumps(report, allow_nan=False)) == report


def test_a_clip_without_a_label_is_an_error() -> None:
    with pytest.raises(DataError, match=r"^1 of the clips to evaluate have no label$"):
        assess(np.zeros((2, 2)), np.array([[0, 0], [0, 1]]), np.arange(2), names(2))
