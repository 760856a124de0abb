"""The quality of scores as probabilities: against a closed form, and models that are known to be calibrated or not."""

from __future__ import annotations

import json
import math
from itertools import pairwise

import numpy as np
import pytest
from helpers.clock import within
from helpers.scored import found, names, several

from soundbench.errors import DataError
from soundbench.report.assessment import assess
from soundbench.report.calibration import quality


def model(clips: int, sharpness: float, classes: int = 10, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """A model's probabilities, and targets drawn from them when its logits are divided by `sharpness`."""
    draws = np.random.default_rng(seed)
    logits = draws.normal(size=(clips, classes)) * 2
    true, said = (np.exp(factor * logits) for factor in (1.0, sharpness))
    chances = true / true.sum(axis=1, keepdims=True)
    truth = (draws.random((clips, 1)) > chances.cumsum(axis=1)).sum(axis=1).clip(max=classes - 1)
    return said / said.sum(axis=1, keepdims=True), np.eye(classes)[truth]


def test_figures_are_those_of_a_report() -> None:
    scores, target = model(300, 1.5)
    report = found(scores, target.argmax(axis=1), resamples=0)["metrics"]
    figures = quality(scores.astype(np.float32), target, multilabel=False)
    for name in ("negative_log_likelihood", "brier_score", "expected_calibration_error"):
        assert figures[name] == report[name]["value"]

    scores, target, groups = several()
    report = assess(scores, target, groups, names(4), thresholds=[0.5] * 4, resamples=0)["metrics"]
    figures = quality(scores, target, multilabel=True)
    for name in ("negative_log_likelihood", "brier_score", "expected_calibration_error"):
        assert figures[name] == report[name]["value"]


def test_the_bins_add_up_to_the_error_and_the_clips() -> None:
    scores, target = model(700, 2.0)
    figures = quality(scores, target, multilabel=False)
    rows = figures["reliability"]

    assert len(rows) == 15
    assert sum(row["clips"] for row in rows) == 700
    assert {row["clips"] for row in rows} <= {46, 47}
    assert all(row["low"] <= row["score"] <= row["high"] for row in rows)
    assert all(before["high"] < after["low"] for before, after in pairwise(rows))
    gaps = sum(row["clips"] * abs(row["score"] - row["share"]) for row in rows) / 700
    assert gaps == pytest.approx(figures["expected_calibration_error"])
    assert sum(row["clips"] * row["share"] for row in rows) / 700 == pytest.approx(
        (scores.argmax(axis=1) == target.argmax(axis=1)).mean()
    )
    assert json.loads(json.dumps(figures)) == figures


def test_the_floor_of_one_bin_of_equal_scores_is_that_of_a_binomial() -> None:
    """All scores a half: the error is |B / N - 1/2| with B binomial, whose mean is known (de Moivre)."""
    clips = 100
    figures = quality(np.full((clips, 2), 0.5), np.eye(2)[np.arange(clips) % 2], multilabel=False)
    expected = math.comb(clips, clips // 2) / 2 ** (clips + 1)  # of N even: E|B - N/2| = N C(N, N/2) / 2^(N+1)

    assert figures["expected_calibration_error"] == 0.0
    assert len(figures["reliability"]) == 1
    assert figures["noise_floor"]["mean"] == pytest.approx(expected, rel=0.1)
    assert figures["noise_floor"]["high"] == pytest.approx(0.1, abs=0.011)  # two standard deviations of 0.05


def test_a_calibrated_model_stands_at_its_floor_and_an_overconfident_one_far_above() -> None:
    below, errors, floors = 0, [], []
    for seed in range(40):
        figures = quality(*model(400, 1.0, seed=seed), multilabel=False)
        below += figures["expected_calibration_error"] <= figures["noise_floor"]["high"]
        errors.append(figures["expected_calibration_error"])
        floors.append(figures["noise_floor"]["mean"])
    assert below >= 34  # 38 are expected; fewer than 35 in one of a hundred
    assert np.mean(errors) == pytest.approx(np.mean(floors), rel=0.1)

    over = quality(*model(400, 2.5), multilabel=False)
    assert over["expected_calibration_error"] > 3 * over["noise_floor"]["high"]


def test_more_clips_have_a_lower_floor() -> None:
    few, many = (quality(*model(clips, 1.0), multilabel=False)["noise_floor"]["mean"] for clips in (100, 10_000))
    assert many == pytest.approx(few / 10, rel=0.25)


def test_several_labels_are_calibrated_each_by_itself() -> None:
    draws = np.random.default_rng(2)
    scores = draws.random((500, 6))
    figures = quality(scores, draws.random((500, 6)) < scores, multilabel=True)

    assert figures["expected_calibration_error"] <= 1.3 * figures["noise_floor"]["high"]
    assert sum(row["clips"] for row in figures["reliability"]) == 3000


@pytest.mark.parametrize("scores", [[[np.nan, np.nan]], [[0.0, 0.0]], [[np.inf, -np.inf]], [[1.0, 0.0]]])
def test_a_single_clip_and_scores_that_are_no_numbers(scores: list[list[float]]) -> None:
    for multilabel in (False, True):
        figures = quality(scores, [[1, 0]], multilabel=multilabel)
        assert all(math.isfinite(figures[name]) for name in ("negative_log_likelihood", "expected_calibration_error"))


def test_a_clip_without_a_label_is_refused_where_it_needs_one() -> None:
    with pytest.raises(DataError, match="1 of the clips to evaluate have no label"):
        quality(np.full((2, 2), 0.5), [[1, 0], [0, 0]], multilabel=False)
    quality(np.full((2, 2), 0.5), [[1, 0], [0, 0]], multilabel=True)


def test_the_same_seed_gives_the_same_floor_in_little_time() -> None:
    scores, target = model(888, 1.0)
    with within():
        first = quality(scores, target, multilabel=False, seed=3)
    assert quality(scores, target, multilabel=False, seed=3) == first
    assert quality(scores, target, multilabel=False, seed=4)["noise_floor"] != first["noise_floor"]
