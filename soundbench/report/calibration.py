"""How well scores are calibrated: whether they are probabilities, and how far from it they are by chance alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from soundbench.messages import markdown
from soundbench.report.metrics.brier_score import BRIER_SCORE
from soundbench.report.metrics.expected_calibration_error import BINS, EXPECTED_CALIBRATION_ERROR, Pairs, pairs_of
from soundbench.report.metrics.metric import Sample
from soundbench.report.metrics.negative_log_likelihood import NEGATIVE_LOG_LIKELIHOOD
from soundbench.report.one_label import OneLabel
from soundbench.report.resampling import LEVEL, Once
from soundbench.report.several_labels import SeveralLabels

__all__ = ["OTHER_FOLDS", "lines", "quality", "rows", "sentence"]

OTHER_FOLDS = "the test clips of the other folds"
"""What each fold is calibrated on in a report of folds, where some have too few validation clips of their own."""

Floats = npt.NDArray[np.float64]

# How often labels are drawn for the noise floor; less often if there are so many pairs that it would take seconds.
_DRAWS, _FEWEST = 1000, 20
_WORK = 50_000_000


def quality(scores: npt.ArrayLike, targets: npt.ArrayLike, *, multilabel: bool, seed: int = 0) -> dict[str, Any]:
    """How well scores are calibrated, in plain Python types.

    Args:
        scores: `(N, K)`, N at least 1; what of it is no probability is made one as `metrics/probabilities.py` says.
        targets: `(N, K)`, greater than zero for the labels of a clip.
        multilabel: whether a clip can have several labels; each score is then a probability by itself, and each pair of
            clip and class counts. Else the highest score of each clip is compared with whether its class is the true
            one.
        seed: of the draws of the noise floor.

    Returns:
        `negative_log_likelihood`, `brier_score` and `expected_calibration_error`, as in a report's `metrics`;
        `noise_floor`: the `mean` and the 95% quantile (`high`) of the calibration error of a perfectly calibrated model
        with these scores; `reliability`, a row for each bin: its `low` and `high` score, the mean `score`, the `share`
        that came true, and how many `clips` (several labels: clips and classes) are in it.

    Raises:
        DataError: a clip has no label where it needs one.
    """
    scores, carried = np.asarray(scores), np.asarray(targets) > 0
    clips = SeveralLabels(scores, carried, 0.5) if multilabel else OneLabel(scores, carried, None)
    sample: Sample = clips.sample(Once(len(carried)))
    pairs = pairs_of(sample)
    figures = (NEGATIVE_LOG_LIKELIHOOD, BRIER_SCORE, EXPECTED_CALIBRATION_ERROR)
    return {
        **{metric.name: float(metric.value(sample)[0]) for metric in figures},
        "noise_floor": _noise_floor(pairs, seed),
        "reliability": _reliability(pairs),
    }


def _noise_floor(pairs: Pairs, seed: int) -> dict[str, float]:
    """The calibration error where each pair comes true with its own probability, of many draws.

    It is far from 0 if pairs are few: with 100 in each bin, a bin's share is off by some 0.04 where scores are near a
    half. This is the consistency resampling of Bröcker and Smith (Increasing the Reliability of Reliability Diagrams,
    Weather and Forecasting 22, 2007).
    """
    random, size = np.random.default_rng(seed), len(pairs.bin)
    errors = []
    for _ in range(int(np.clip(_WORK // size, _FEWEST, _DRAWS))):
        gaps = pairs.probability - (random.random(size) < pairs.probability)
        errors.append(np.abs(np.bincount(pairs.bin, weights=gaps)).sum() / size)
    return {"mean": float(np.mean(errors)), "high": float(np.quantile(errors, LEVEL))}


def _reliability(pairs: Pairs) -> list[dict[str, Any]]:
    """A row for each bin that has pairs, in the order of their scores."""
    rows = []
    for number in range(BINS):
        own = pairs.bin == number
        if own.any():
            probability = pairs.probability[own]
            rows.append(
                {
                    "low": float(probability.min()),
                    "high": float(probability.max()),
                    "score": float(probability.mean()),
                    "share": float(pairs.came_true[own].mean()),
                    "clips": int(own.sum()),
                }
            )
    return rows


def sentence(found: Mapping[str, Any]) -> str:
    """By what `report["calibration"]` says that scores are calibrated, and on what it was fitted; or why it was not."""
    source = found.get("source")
    on = f" on {source}" if source else ""
    if "clips" in found:
        on = f" on {found['clips']} clips of {found['groups']} groups" + (f" ({source})" if source else "")
    if "reason" in found:
        return f"The scores are not calibrated: {found['use']} was not fitted{on}: {found['reason']}."
    if not on and _unchanged(found):
        asked = "the recipe asks for none" if found["use"] == "none" else f"{found['use']} was not fitted"
        return f"The scores are not calibrated: {asked}."
    said = f"The scores are calibrated by {found['use']}" + (f", fitted{on}." if on else ".")
    return f"{said} Other figures of this report are of each fold's own scores." if source == OTHER_FOLDS else said


def _unchanged(found: Mapping[str, Any]) -> bool:
    """Whether scores are as they are without a calibration."""
    return found["use"] == "none" or ("before" in found and found["before"] == found["after"])


def rows(found: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """The figures of `report["calibration"]` before and after, each with its title; none without a test set."""
    if "before" not in found:
        return
    both = found["before"], found["after"]
    for metric in (NEGATIVE_LOG_LIKELIHOOD, BRIER_SCORE, EXPECTED_CALIBRATION_ERROR):
        before, after = (f"{one[metric.name]:.3f}" for one in both)
        yield metric.title, before, after
    floors = (one["noise_floor"] for one in both)
    before, after = (f"{floor['mean']:.3f}, in {LEVEL:.0%} of cases up to {floor['high']:.3f}" for floor in floors)
    yield f"{EXPECTED_CALIBRATION_ERROR.title} of a perfectly calibrated model", before, after


def lines(report: Mapping[str, Any]) -> Iterator[str]:
    """The section of `report.md`, line by line; none for a model without a calibration."""
    found = report.get("calibration")
    if not found:
        return
    yield from ("", "## Calibration", "", markdown(sentence(found)))
    if figures := list(rows(found)):
        yield from ("", "| | before | after |", "| --- | --- | --- |")
        yield from (f"| {' | '.join(row)} |" for row in figures)
