"""Metrics of several labels a clip, against an independent library and by hand."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from helpers.scored import several
from sklearn.metrics import average_precision_score, f1_score

from soundbench.report.assessment import assess
from soundbench.report.metrics.mean_average_precision import average_precision

CLASSES = ["a", "b", "c", "d"]


def test_average_precision_is_what_an_independent_library_finds() -> None:
    scores, target, _ = several()
    weights = np.random.default_rng(1).integers(0, 4, (3, len(scores))).astype(float)
    for column, true in zip(scores.T, target.T, strict=True):
        for found, own in zip(average_precision(column, true > 0, weights), weights, strict=True):
            kept = own > 0
            assert found == pytest.approx(average_precision_score(true[kept], column[kept], sample_weight=own[kept]))


def test_metrics_are_what_an_independent_library_finds() -> None:
    scores, target, groups = several()
    thresholds = np.array([0.4, 0.5, 0.6, 0.7])
    found = assess(scores, target, groups, CLASSES, thresholds=thresholds)
    said = scores >= thresholds
    metrics = {name: figure["value"] for name, figure in found["metrics"].items()}
    assert metrics["mean_average_precision"] == pytest.approx(average_precision_score(target, scores))
    assert metrics["macro_f1"] == pytest.approx(f1_score(target, said, average="macro"))
    assert metrics["micro_f1"] == pytest.approx(f1_score(target, said, average="micro"))
    for code, row in enumerate(found["per_class"]):
        assert row["average_precision"] == pytest.approx(average_precision_score(target[:, code], scores[:, code]))
        assert row["f1"] == pytest.approx(f1_score(target[:, code], said[:, code]))
        assert row["support"] == target[:, code].sum()
    constant = average_precision_score(target, np.full_like(scores, 0.5))
    assert found["baseline"]["mean_average_precision"]["value"] == pytest.approx(constant)


def test_the_interval_is_of_groups() -> None:
    """Ten copies of each clip are no more evidence than one, where they are of its group."""
    scores, target, _ = several(80)
    clips = np.arange(80)
    one = assess(scores, target, clips, CLASSES, thresholds=[0.5] * 4)["metrics"]["mean_average_precision"]
    many = [np.repeat(part, 10, axis=0) for part in (scores, target, clips)]
    copies = assess(*many, CLASSES, thresholds=[0.5] * 4)["metrics"]["mean_average_precision"]
    alone = assess(many[0], many[1], np.arange(800), CLASSES, thresholds=[0.5] * 4)["metrics"]["mean_average_precision"]
    assert copies["value"] == pytest.approx(one["value"])
    assert copies["high"] - copies["low"] == pytest.approx(one["high"] - one["low"], rel=0.15)
    assert alone["high"] - alone["low"] < 0.6 * (one["high"] - one["low"])
    assert one["low"] < one["value"] < one["high"]


def test_one_group_has_no_interval_and_a_class_without_clips_is_left_out() -> None:
    scores, target, _ = several(40)
    target[:, 3] = 0
    found = assess(scores, target, np.zeros(40, int), CLASSES, thresholds=[0.5] * 4)
    assert found["metrics"]["mean_average_precision"]["low"] is None
    assert found["classes_without_clips"] == ["d"]
    assert found["per_class"][3]["average_precision"] is None
    expected = average_precision_score(target[:, :3], scores[:, :3])
    assert found["metrics"]["mean_average_precision"]["value"] == pytest.approx(expected)


def test_scores_that_are_no_numbers_rank_last_and_are_counted() -> None:
    scores = np.array([[0.9, 0.1], [np.nan, 0.8]])
    found = assess(scores, np.array([[1, 0], [1, 1]]), np.arange(2), ["a", "b"], thresholds=[0.5, 0.5])
    assert found["clips_without_finite_scores"] == 1
    assert found["per_class"][0]["predicted"] == 1


def test_without_any_number_no_order_of_the_clips_is_better_than_another() -> None:
    """Clips of equal score stand at one rank, and so do those whose scores are all NaN."""
    target = np.array([[1.0], [1.0], [0.0], [0.0]])
    for turned in (target, target[::-1]):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            found = assess(np.full((4, 1), np.nan), turned, np.arange(4), ["a"], thresholds=[0.5], resamples=10)
        assert found["metrics"]["mean_average_precision"]["value"] == pytest.approx(0.5)


def test_clips_that_carry_nothing_are_measured_without_a_warning() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = assess(np.full((4, 2), 0.5), np.zeros((4, 2)), np.arange(4), ["a", "b"], thresholds=[0.5, 0.5])
    assert found["baseline"]["mean_average_precision"]["value"] == 0.0
    assert found["classes_without_clips"] == ["a", "b"]
