"""Fits what rejects sound: the component to the sound of training, its thresholds to that of validation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs
import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from soundbench import recipe as recipes
from soundbench.data.clips import ClipTable
from soundbench.data.store import Store
from soundbench.errors import RunError
from soundbench.model import assembly
from soundbench.model.logits import HeldOutLogits
from soundbench.model.outputs.window_logits import WindowLogits
from soundbench.model.rejecting.noise import COLOURS
from soundbench.model.rejecting.rejector import Rejector, computed
from soundbench.model.rejecting.thresholds import fit_threshold
from soundbench.model.scoring import Scorer
from soundbench.recipe import ComponentSpec
from soundbench.training.log import Log
from soundbench.training.rejecting.others import FITTING, Other, fitted_on, negatives, noise
from soundbench.training.stages import Opened, held_out_scores

__all__ = [
    "Rejection",
    "RejectScores",
    "fit",
    "fit_module",
    "fit_thresholds",
    "has_silent_class",
    "of_held_out",
    "scored",
]

# A threshold that is fitted on fewer validation clips or groups says more of them than of the network.
LEAST_CLIPS, LEAST_GROUPS = 50, 5

# How many training clips what knows the sound of training is fitted on, and how many of each class at least.
MOST_CLIPS, LEAST_OF_CLASS = 5000, 20

Floats = NDArray[np.floating[Any]]


@attrs.frozen(eq=False)
class RejectScores:
    """The reject scores of V windows of N clips.

    Attributes:
        scores: of each window, `(V,)`.
        clip: the clip of each window, from 0 to N - 1, `(V,)`.
        silent: whether all samples of each window are zero, `(V,)`.
    """

    scores: Floats
    clip: NDArray[np.int64]
    silent: NDArray[np.bool_]

    @property
    def of_clips(self) -> NDArray[np.float64]:
        """The score of each clip, the mean over its windows, `(N,)`."""
        return np.bincount(self.clip, weights=self.scores.astype(np.float64)) / np.bincount(self.clip)

    @property
    def silent_clips(self) -> NDArray[np.bool_]:
        """Whether all windows of each clip are silent, `(N,)`."""
        return np.equal(np.bincount(self.clip, weights=~self.silent), 0)


@attrs.frozen(eq=False)
class Rejection:
    """What rejects sound, fitted.

    Attributes:
        rejector: says which sound is of none of the classes.
        spec: its component, with the thresholds in its table.
        reason: why no threshold was fitted; empty if one was.
        negatives: the sound that the recipe names, if it names any.
    """

    rejector: Rejector
    spec: ComponentSpec
    reason: str
    negatives: Other | None

    @property
    def fitted(self) -> bool:
        """Whether there is a threshold."""
        return self.rejector.clip is not None


def fit(opened: Opened, scorer: Scorer, validation: WindowLogits | None, log: Log) -> Rejection:
    """Fit what rejects sound to the windows of training, and its thresholds to those of validation.

    Args:
        opened: the run.
        scorer: the network of the best epoch.
        validation: the windows of the validation clips, with embeddings if the component needs them; None without any.
        log: the run's log.

    Raises:
        DataError: sound that `reject.negatives` names cannot be used.
        RunError: reject scores that are not finite.
    """
    prepared, spec = opened.prepared, opened.prepared.recipe.reject
    table, own = prepared.table, spec.own
    module: Any = assembly.make_reject(spec, len(table.classes), prepared.recipe.source)
    silence = own.silence and (table.multilabel or not has_silent_class(opened.store, table, opened.parts["train"]))
    rejector = Rejector.of(module, attrs.evolve(own, silence=silence), torch.device("cpu"))
    given = own.clip_threshold is not None or own.window_threshold is not None
    held_out = held_out_scores(prepared.recipe, table.classes)
    reason = "" if given else _reason(validation, held_out, table)
    fits, noises = hasattr(module, "fit"), []
    if own.noise and (fits or not (reason or given)):
        count = fitted_on(module)
        noises = [noise(opened, scorer, colour, FITTING, rejector.embeddings, count).windows for colour in COLOURS]
    if fits:
        train = opened.windows(scorer, _few_of_each(table, opened.parts["train"]), rejector.embeddings)
        fit_module(module, train, table.targets(train.index), noises)
    other = negatives(opened, scorer, rejector.embeddings, log)
    if not (reason or given):
        known = of_held_out(held_out) if held_out is not None else scored(rejector, validation)  # type: ignore[arg-type]
        others = [*noises, *([other.part(0).windows] if other else [])]
        rejector = fit_thresholds(rejector, known, [scored(rejector, one) for one in others], own.keep)
        reason = "" if rejector.clip is not None else "all clips have the same reject score"
    own = attrs.evolve(own, clip_threshold=rejector.clip, window_threshold=rejector.window, silence=silence)
    said = f"no threshold: {reason}"
    if not reason:
        thresholds = ("none" if one is None else f"{one:.6g}" for one in (rejector.clip, rejector.window))
        said = f"thresholds {' (clips), '.join(thresholds)} (windows)"
    log(f"reject: {recipes.relocated(prepared.recipe, './model/code').reject.use}, {said}")
    return Rejection(rejector, attrs.evolve(spec, own=own), reason, other)


def _few_of_each(table: ClipTable, rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """At most about `MOST_CLIPS` of the rows, as many of each class: neither time nor memory grows with the data."""
    if table.multilabel:
        return rows[:: -(-len(rows) // MOST_CLIPS)]
    most, labels = max(MOST_CLIPS // len(table.classes), LEAST_OF_CLASS), table.label_codes[rows]
    of_class = (rows[labels == code] for code in np.unique(labels))
    return np.sort(np.concatenate([own[:: -(-len(own) // most)] for own in of_class]))


def _reason(validation: WindowLogits | None, held_out: HeldOutLogits | None, table: ClipTable) -> str:
    """Why no threshold can be fitted; empty if it can."""
    if held_out is not None:
        clips, groups = held_out.clips, held_out.groups
    elif validation is not None:
        clips, groups = len(validation.rows), len(np.unique(table.group_codes[validation.rows]))
    else:
        return "there is no validation set"
    few = clips < LEAST_CLIPS or groups < LEAST_GROUPS
    return f"fewer than {LEAST_CLIPS} clips or {LEAST_GROUPS} groups" if few else ""


def of_held_out(found: HeldOutLogits) -> RejectScores:
    """The reject scores that a file holds, which must hold some."""
    return RejectScores(np.asarray(found.reject), found.clip, np.asarray(found.silent))


def scored(rejector: Rejector, windows: WindowLogits) -> RejectScores:
    """The reject scores of windows."""
    return RejectScores(computed(rejector, windows.logits, windows.embeddings), windows.clip, windows.silent)


def fit_module(module: nn.Module, train: WindowLogits, targets: Floats, others: Sequence[WindowLogits]) -> None:
    """Let a component know the sound of training; its buffers change.

    Args:
        module: has a method `fit`.
        train: the windows of training clips.
        targets: the labels of these windows, `(V, K)`.
        others: windows of noise, which are of no class.
    """
    every = [train, *others]
    logits = torch.from_numpy(np.concatenate([one.logits for one in every]))
    parts = [one.embeddings for one in every if one.embeddings is not None]
    vectors = torch.from_numpy(np.concatenate(parts)) if len(parts) == len(every) else None
    unlabelled = np.zeros((len(logits) - len(targets), targets.shape[1]))
    labels = np.concatenate([targets > 0, unlabelled]).astype(np.float32)
    with torch.no_grad():
        module.fit(logits, vectors, torch.from_numpy(labels))  # type: ignore[operator]


def fit_thresholds(
    rejector: Rejector, validation: RejectScores, others: Sequence[RejectScores], keep: float
) -> Rejector:
    """The rejector with thresholds for clips and windows; without any where all validation windows score the same.

    Args:
        rejector: the component, fitted.
        validation: the scores of validation clips.
        others: those of sound of none of the classes.
        keep: the share of validation clips to keep.

    Raises:
        RunError: a score is not finite.
    """
    wrong = sum(int(np.count_nonzero(~np.isfinite(one.scores))) for one in (validation, *others))
    if wrong:
        raise RunError(f"reject: {wrong} windows have reject scores that are not finite")
    clips, loud = validation.of_clips[~validation.silent_clips], validation.scores[~validation.silent]
    if not len(clips) or np.ptp(validation.scores) == 0:
        return rejector
    other_clips = np.concatenate([np.empty(0), *(one.of_clips[~one.silent_clips] for one in others)])
    other_windows = np.concatenate([np.empty(0), *(one.scores[~one.silent] for one in others)])
    return attrs.evolve(
        rejector,
        clip=fit_threshold(clips, other_clips, keep),
        window=fit_threshold(loud, other_windows, keep),
    )


def has_silent_class(store: Store, table: ClipTable, rows: NDArray[np.int64]) -> bool:
    """Whether most of the clips of some class are digitally silent.

    Args:
        store: the sound of the table's clips.
        table: the clips, with one label each.
        rows: those of training.
    """
    silent = np.array([row for row in rows.tolist() if not store.read(row).any()], np.int64)
    if not len(silent):
        return False
    return bool((2 * table.class_counts(silent) > table.class_counts(rows)).any())
