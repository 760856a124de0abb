"""Thresholds of several labels a clip."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from helpers.scored import several
from sklearn.metrics import f1_score

from soundbench.report.thresholds import choose_thresholds


def test_a_threshold_is_a_number_where_some_scores_are_none() -> None:
    scores = np.array([[0.8], [np.nan], [0.2], [np.nan]])
    assert choose_thresholds(scores, [[1], [0], [0], [0]]).tolist() == [pytest.approx(0.5)]
    assert choose_thresholds(scores, [[1], [0], [1], [0]]).tolist() == [pytest.approx(0.1)]


def test_a_threshold_has_the_best_f1_of_all() -> None:
    scores, target, _ = several()
    chosen = choose_thresholds(scores, target)
    for code in range(4):
        own = f1_score(target[:, code], scores[:, code] >= chosen[code])
        best = max(f1_score(target[:, code], scores[:, code] >= other) for other in np.linspace(0, 1, 101))
        assert own == pytest.approx(best)


def test_thresholds_lie_between_scores_and_need_a_positive() -> None:
    chosen = choose_thresholds([[0.9, 0.4], [0.8, 0.3], [0.2, 0.1]], [[1, 0], [1, 0], [0, 0]])
    assert chosen.tolist() == pytest.approx([0.5, 0.5])
    assert choose_thresholds([[0.3], [0.2]], [[1], [1]]).tolist() == pytest.approx([0.1])


def test_where_all_scores_are_none_a_threshold_is_zero() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert choose_thresholds(np.full((2, 1), np.nan), [[1.0], [0.0]]).tolist() == [0.0]
