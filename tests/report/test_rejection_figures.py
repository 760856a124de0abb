"""What a report says of sound of none of the classes."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.scored import scored

from soundbench.report.rejecting.figures import kept_figures, lines, pooled_rejection, sentence


def test_the_share_kept_and_the_accuracy_of_the_kept_ones() -> None:
    scores, targets, groups = scored(300, 4, 40)
    rejected = np.arange(300) % 3 == 0
    found = kept_figures(scores, targets, rejected, groups)
    right = scores.argmax(1) == targets.argmax(1)
    assert found["kept"]["value"] == pytest.approx(2 / 3)
    assert found["accuracy_of_kept"]["value"] == pytest.approx(right[~rejected].mean())
    for figure in found.values():
        assert figure["low"] < figure["value"] < figure["high"]


def test_where_nothing_is_kept_there_is_no_accuracy_and_in_one_group_no_interval() -> None:
    scores, targets, _ = scored(10, 3, 4)
    found = kept_figures(scores, targets, np.ones(10, bool), np.zeros(10, int))
    assert found["kept"] == {"value": 0.0, "low": None, "high": None}
    assert found["accuracy_of_kept"] == {"value": None, "low": None, "high": None}


def test_scores_that_are_no_numbers_count_as_the_lowest() -> None:
    scores = np.array([[np.nan, 0.2], [0.9, np.nan]])
    found = kept_figures(scores, np.eye(2), [False, False], [0, 1], resamples=0)
    assert found["accuracy_of_kept"]["value"] == 0.0


def test_the_section_names_classes_without_breaking_the_table() -> None:
    report = {
        "reject": {
            "use": "energy",
            "keep": 0.95,
            **kept_figures(np.eye(2), np.eye(2), [False, True], [0, 1]),
            "silence": {"unknown": 1.0, "clips": 1, "seconds": 5.0},
            "negatives": {"unknown": 0.5, "clips": 2, "seconds": 10.0, "false_alarms_per_hour": 360.0},
        },
        "left_out": [{"class": "a|<b>", "clips": 3, "auroc": 0.9, "false_positive_rate_at_95": 0.5, "unknown": 0.6}],
    }
    text = "\n".join(lines(report))
    assert "| silence: unknown | 100.0% |" in text
    assert "| false alarms per hour of it | 360.0 |" in text
    assert "| a\\|\\<b\\> | 3 | 0.900 | 50.0% | 60.0% |" in text
    assert list(lines({})) == []


def test_folds_are_pooled_by_clips_and_noise_by_networks() -> None:
    one = {"use": "energy", "keep": 0.95, "silence": {"unknown": 1.0}, "white_noise": {"unknown": 0.5}}
    other = {"use": "energy", "keep": 0.95, "silence": {"unknown": 1.0}, "white_noise": {"unknown": 1.0}}
    found = pooled_rejection([one, other], {"kept": {"value": 0.9}})
    assert found["white_noise"] == {"unknown": 0.75}
    assert found["kept"] == {"value": 0.9}
    assert "pink_noise" not in found
    assert "reason" not in found


def test_folds_without_a_threshold_are_counted() -> None:
    one = {"use": "energy", "keep": 0.95, "reason": "fewer than 50 clips or 5 groups"}
    found = pooled_rejection([one, one, {"use": "energy", "keep": 0.95}], {})
    assert found["reason"] == "in 2 of 3 folds: fewer than 50 clips or 5 groups"
    assert f"({found['reason']})" in sentence(found)
