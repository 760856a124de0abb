"""Fits a model's thresholds again to the scores of its export, as training has fitted them to its own."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from soundbench.contracts import Runner
from soundbench.data.clips import ClipTable
from soundbench.data.sounds import Sounds
from soundbench.inference.classifier import Classifier
from soundbench.inference.export.comparing import rated_by
from soundbench.inference.export.sounds import RunClips
from soundbench.inference.predictions import ScoredWindow
from soundbench.model.rejecting.left_out import Relabelled
from soundbench.model.rejecting.noise import COLOURS, Colour, NoiseStore
from soundbench.recipe import Recipe
from soundbench.report.thresholds import choose_thresholds
from soundbench.training.rejecting.fitting import RejectScores, fit_thresholds
from soundbench.training.rejecting.others import FITTING, fitted_on, negative_clips

__all__ = ["fit_again", "has_thresholds"]


def has_thresholds(classifier: Classifier) -> bool:
    """Whether a model has thresholds that training fits to scores."""
    rejector = classifier.scorer.rejector
    return classifier.multilabel or (rejector is not None and rejector.clip is not None)


def fit_again(classifier: Classifier, runner: Runner, clips: RunClips, marked: bool) -> tuple[Classifier, str]:
    """The model with thresholds that fit what an export gives for the validation clips; and what they are.

    Thresholds that the recipe or marks give stay as they are, and so do all if there are no validation clips.

    Args:
        classifier: the model.
        runner: computes with the export.
        clips: those of the model's run.
        marked: whether the classes' thresholds are from a person's marks.

    Raises:
        SoundbenchError: sound cannot be read.
    """
    samples, own = clips.samples(clips.parts["validation"].tolist()), clips.recipe.reject.own
    if not samples:
        return classifier, "the model's: the run has no validation clips"
    scores, evidence = _scored(classifier, runner, [one.samples for one in samples])
    thresholds, rejector = classifier.thresholds, classifier.scorer.rejector
    fits = classifier.multilabel and not marked
    if fits:
        rows = np.array([one.row for one in samples])
        thresholds = choose_thresholds(scores, clips.table.targets(rows)).tolist()
    given = own.clip_threshold is not None or own.window_threshold is not None or own.predictions is not None
    if rejector is not None and rejector.clip is not None and not given:
        count = fitted_on(rejector.module)
        others = [_scored(classifier, runner, _noise(classifier, colour, count))[1] for colour in COLOURS if own.noise]
        negatives = _negatives(clips.recipe, classifier)
        others += [_scored(classifier, runner, negatives)[1]] if negatives else []
        rejector = fit_thresholds(rejector, evidence, others, own.keep)
    elif not fits:
        return classifier, "the model's: the recipe or marks give them"
    scorer = attrs.evolve(classifier.scorer, rejector=rejector)
    again = Classifier(scorer, classifier.classes, classifier.rate, classifier.grid, thresholds, classifier.multilabel)
    return again, f"fitted again on {len(samples)} validation clips"


def _scored(
    classifier: Classifier, runner: Runner, sounds: Iterable[NDArray[np.float32]]
) -> tuple[NDArray[np.float64], RejectScores]:
    """What an export gives for N sounds: the scores of each `(N, K)`, and the reject scores of its windows."""
    flow = classifier.flow(sounds, classifier.rate, compute=rated_by(runner))
    windows = [one for one in flow if isinstance(one, ScoredWindow)]
    clip = np.array([one.sound for one in windows])
    values, classes = np.stack([one.values for one in windows]).astype(np.float64), len(classifier.classes)
    sums = np.zeros((clip[-1] + 1, classes))
    np.add.at(sums, clip, values[:, :classes])
    evidence = RejectScores(values[:, classes], clip, values[:, classes + 1] == 0)
    return sums / np.bincount(clip)[:, None], evidence


def _noise(classifier: Classifier, colour: Colour, count: int) -> list[NDArray[np.float32]]:
    """The noise that training fits on, at most a window each."""
    size, rows = classifier.grid.window, np.arange(count)
    store = NoiseStore(colour, count, size, FITTING)
    samples, scales = store.gather(rows, np.zeros_like(rows), store.lengths, size)
    return [row[:length] * scale for row, length, scale in zip(samples, store.lengths, scales, strict=True)]


def _negatives(recipe: Recipe, classifier: Classifier) -> list[NDArray[np.float32]]:
    """The half of the recipe's further sound to reject that training fits on; the report is on the other one."""
    found = negative_clips(recipe)
    if found is None:
        return []
    dataset: Any = Relabelled(*found, classifier.classes)
    table = ClipTable.of(dataset)
    sounds = Sounds.of(table, dataset, classifier.rate)
    return [sounds.load(int(number)) for number in sounds.of_rows[::2]]
