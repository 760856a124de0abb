"""The stages of a run after training: `Fitted`, with a calibration; `Scored`, with the test set; then the report."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import torch
from numpy.typing import NDArray

from soundbench import distributed
from soundbench import recipe as recipes
from soundbench.contracts import Calibration, Dataset, HeldOut, Loss
from soundbench.data.clips import ClipTable
from soundbench.errors import SoundbenchError
from soundbench.model import assembly, logits
from soundbench.model.logits import HeldOutLogits
from soundbench.model.network import cost
from soundbench.model.outputs.window_logits import WindowLogits, clip_means, refuse_not_finite
from soundbench.model.rejecting.rejector import state_of
from soundbench.model.scoring import ClipScores, Scorer
from soundbench.model.weights import place_of
from soundbench.recipe import ComponentSpec, Recipe
from soundbench.report import calibration, pages, run_directory
from soundbench.report.card import start
from soundbench.report.card.cross_validation import cross_validation
from soundbench.report.card.writing import write_card
from soundbench.report.protocol import protocol, skipped
from soundbench.report.thresholds import choose_thresholds
from soundbench.training import loop
from soundbench.training.log import Log
from soundbench.training.rejecting import fitting as rejecting
from soundbench.training.rejecting.figures import figures as rejecting_figures
from soundbench.training.rejecting.figures import rejected_clips, with_scores
from soundbench.training.rejecting.fitting import Rejection
from soundbench.training.stages import Opened, Trained, save_model

__all__ = [
    "Fitted",
    "Scored",
    "calibrated",
    "calibration_quality",
    "clip_scores_of",
    "fit",
    "is_given",
    "score_test",
    "write_report",
]

RESAMPLES = 2000

# What is fitted on fewer validation clips or groups says more of them than of the network.
LEAST_CLIPS, LEAST_GROUPS = 50, 5

# How many logits are fitted on at most; more would take memory, and change nothing that one could see.
MOST_LOGITS = 20_000_000


# Fitted ---------------------------------------------------------------------------------------------------------------


@attrs.frozen
class Fitted:
    """A trained run with its calibration.

    Attributes:
        trained: the stage before.
        scorer: the network of the best epoch; its scores are calibrated.
        thresholds: one for each class, of calibrated scores; empty where a clip has one label.
        calibration: what the report says of the calibration: `use`, `clips` and `groups` that it was fitted on, and
            where it was not, the `reason`.
        rejection: what rejects sound.
    """

    trained: Trained
    scorer: Scorer
    thresholds: Sequence[float]
    calibration: Mapping[str, Any]
    rejection: Rejection


def fit(trained: Trained, log: Log) -> Fitted:
    """Fit the calibration and what rejects sound, and keep them in the model folder.

    They are fitted on the validation set, or on logits that the recipe names.

    Args:
        trained: the stage before.
        log: the run's log.

    Raises:
        RunError: the logits that the recipe names cannot be used; or scores that are not finite.
    """
    opened, scorer = trained.opened, trained.scorer
    spec, multilabel = opened.prepared.recipe.calibration, opened.prepared.table.multilabel
    fitted: dict[str, Any] = {"use": recipes.relocated(opened.prepared.recipe, "./model/code").calibration.use}
    windows = _validation(opened, scorer)
    held_out = _held_out(opened, windows, spec)
    if held_out is not None and not is_given(spec):
        source = "validation set" if spec.own.predictions is None else spec.own.predictions.name
        fitted |= {"source": source, "clips": held_out.clips, "groups": held_out.groups}
        spec, reason = calibrated(spec, held_out, scorer.loss, multilabel, opened.prepared.recipe.source)
        fitted |= {"reason": reason} if reason else {}
    elif _lacks_numbers(spec):
        fitted |= {"reason": "there is no validation set"}
    if attrs.fields(spec.component.options):
        log(f"calibration: {fitted['use']}, {_said(fitted)}")
    made = assembly.make_calibration(spec, len(opened.prepared.table.classes), opened.prepared.recipe.source)
    scorer = attrs.evolve(scorer, calibration=made)
    thresholds = trained.thresholds
    if multilabel and held_out is not None:
        thresholds = choose_thresholds(clip_scores_of(held_out, scorer.loss, made), held_out.target).tolist()
    rejection = rejecting.fit(opened, scorer, windows, log)
    state = state_of(rejection.rejector.module)
    save_model(opened, scorer.network, thresholds, spec, rejection.spec, state)
    return Fitted(trained, scorer, thresholds, fitted, rejection)


def _validation(opened: Opened, scorer: Scorer) -> WindowLogits | None:
    """What the network gives for the windows of the validation set, if there is one."""
    if not len(opened.parts["validation"]):
        return None
    windows = opened.windows(scorer, opened.parts["validation"], _with_embeddings(opened))
    refuse_not_finite(windows.index, windows.logits, "validation", loop.ADVICE)
    return windows


def _with_embeddings(opened: Opened) -> bool:
    """Whether what rejects sound needs embeddings."""
    return bool(getattr(opened.prepared.recipe.reject.component.obj, "embeddings", False))


def _held_out(opened: Opened, windows: WindowLogits | None, spec: ComponentSpec) -> HeldOutLogits | None:
    """The logits to fit on; None where there are none, or nothing can be fitted."""
    if not attrs.fields(spec.component.options):
        return None
    table, stored = opened.prepared.table, spec.own.predictions
    if stored is not None:
        return logits.read(stored, table.classes)
    return None if windows is None else logits.of_windows(windows, table)


def is_given(spec: ComponentSpec) -> bool:
    """Whether a component has numbers to fit, and the recipe gives all of them."""
    numbers = _numbers(spec)
    return bool(numbers) and all(name in spec.options for name in numbers)


def _lacks_numbers(spec: ComponentSpec) -> bool:
    """Whether a component has numbers to fit, and the recipe gives none of them."""
    numbers = _numbers(spec)
    return bool(numbers) and not any(name in spec.options for name in numbers)


def _numbers(spec: ComponentSpec) -> list[str]:
    """The options that are fitted where a recipe does not give them."""
    return [field.name for field in attrs.fields(spec.component.options) if field.default is None]


def calibrated(
    spec: ComponentSpec, held_out: HeldOutLogits, loss: Loss, multilabel: bool, source: str
) -> tuple[ComponentSpec, str]:
    """The component with the options that fit these clips; or as it is, and the reason.

    Args:
        spec: the component with the options of the recipe.
        held_out: logits of clips that the network was not trained on.
        loss: gives the scores.
        multilabel: whether a clip may have any number of labels.
        source: the name of the recipe in messages.
    """
    if held_out.clips < LEAST_CLIPS or held_out.groups < LEAST_GROUPS:
        return spec, f"fewer than {LEAST_CLIPS} clips or {LEAST_GROUPS} groups"
    clips = _thinned(held_out)
    values, target = (torch.from_numpy(array).double() for array in (clips.logits, clips.target))
    fitting = HeldOut(values, torch.from_numpy(clips.clip), target, loss.scores, multilabel)
    made = assembly.make_calibration(spec, len(held_out.classes), source)
    options = distributed.from_main(lambda: dict(made.fit(fitting)))
    return attrs.evolve(spec, options=spec.options | options), ""


def _thinned(held_out: HeldOutLogits) -> HeldOutLogits:
    """Every n-th clip, so that there are not too many logits."""
    every = -(-held_out.logits.size // MOST_LOGITS)
    if every == 1:
        return held_out
    kept = held_out.clip % every == 0
    per_clip = {name: getattr(held_out, name)[::every] for name in ("target", "group", "identity")}
    return attrs.evolve(held_out, logits=held_out.logits[kept], clip=held_out.clip[kept] // every, **per_clip)


def _said(fitted: Mapping[str, Any]) -> str:
    if "clips" not in fitted:
        return f"not fitted: {fitted['reason']}" if "reason" in fitted else "as the recipe gives it"
    clips = f"{fitted['clips']} clips of {fitted['groups']} groups ({fitted['source']})"
    return f"not fitted on {clips}: {fitted['reason']}" if "reason" in fitted else f"fitted on {clips}"


def clip_scores_of(held_out: HeldOutLogits, loss: Loss, calibration: Calibration | None = None) -> NDArray[np.float32]:
    """The scores of clips `(N, K)`, by a loss and a calibration."""
    return clip_means(WindowLogits(held_out.clip, held_out.logits), loss, calibration)


# Scored ---------------------------------------------------------------------------------------------------------------


@attrs.frozen
class Scored:
    """A run with its test set scored.

    Attributes:
        fitted: the stage before.
        windows: the logits of the windows of the test clips.
        test: the calibrated scores of the test clips; None where the recipe has no test set.
    """

    fitted: Fitted
    windows: WindowLogits
    test: ClipScores | None


def score_test(fitted: Fitted) -> Scored:
    """Score the test set; this happens once in a run.

    Raises:
        RunError: scores that are not finite.
    """
    opened = fitted.trained.opened
    windows = opened.windows(fitted.scorer, opened.parts["test"], _with_embeddings(opened))
    refuse_not_finite(windows.index, windows.logits, "test", loop.ADVICE)
    if not len(windows.index):
        return Scored(fitted, windows, None)
    means = clip_means(windows, fitted.scorer.loss, fitted.scorer.calibration)
    return Scored(fitted, windows, ClipScores(windows.rows, means))


def write_report(scored: Scored, began: float, log: Log) -> dict[str, Any]:
    """Write the predictions and the report of a run; the content of `report.json`.

    Args:
        scored: the run.
        began: when it began, by `time.monotonic`.
        log: the run's log.
    """
    trained, opened = scored.fitted.trained, scored.fitted.trained.opened
    prepared, directory = opened.prepared, opened.directory
    recipe, table, machine = prepared.recipe, prepared.table, prepared.machine
    as_written = recipes.relocated(recipe, "./model/code")
    figures = _figures(scored, log)
    report = {
        "name": recipe.name,
        "protocol": protocol(as_written, table, prepared.cut, opened.parts, trained.best_epoch, prepared.learnt),
        **figures,
        "title": str(getattr(prepared.made.dataset, "title", "")),
        "licenses": {"model": recipe.report.license, "data": _data_license(recipe, prepared.made.dataset)},
        "folds": [{"test": recipe.tables()["split"]["test"], "metrics": figures["metrics"]}],
        "prior": opened.prior.tolist(),
        "parts": {name: len(rows) for name, rows in opened.parts.items()},
        "skipped": skipped(table, opened.store),
        "device": str(machine.device),
        "precision": machine.precision,
        "tf32": machine.tf32,
        **cost(trained.scorer.network, prepared.grid.window),
        "sounds": recipe.report.sounds,
        "seconds": round(time.monotonic() - began, 1),
    }
    began_with = distributed.from_main(lambda: _began_with(recipe))
    report |= {"began_with": began_with} if began_with else {}
    crossed, unlike = distributed.from_main(lambda: cross_validation(as_written))
    report |= {"cross_validation": crossed} if crossed else {}

    def write() -> None:
        if scored.test is not None:
            rejected = rejected_clips(scored.fitted.rejection.rejector, scored.windows)
            run_directory.write_predictions(directory, table, scored.test.index, scored.test.scores, rejected)
            logits.write(directory.logits, with_scores(scored.fitted.rejection, scored.windows, table))
        problems = [unlike, pages.write(directory, report, prepared.made.dataset), write_card(directory)]
        run_directory.seal_results(directory)
        for problem in filter(None, problems):
            log(problem)
        log(pages.summary(report))

    distributed.from_main(write)
    return report


def _data_license(recipe: Recipe, dataset: Dataset) -> str:
    """What the recipe states, or else the dataset itself."""
    return recipe.report.data_license or str(getattr(dataset, "license", ""))


def _began_with(recipe: Recipe) -> list[dict[str, str]]:
    """What is known of the weights that `[init]` names; nothing where it names none."""
    given = recipe.init.from_
    if given is None:
        return []
    try:
        place = place_of(given)
    except SoundbenchError:  # removed since the run began with them
        place = Path(given)
    return start.known_of(given, place)


def _figures(scored: Scored, log: Log) -> dict[str, Any]:
    """The metrics of the test set, if there is one, those of its calibration, and what is rejected."""
    fitted, opened, test = scored.fitted, scored.fitted.trained.opened, scored.test
    figures: dict[str, Any] = {"metrics": {}, "clips": 0, "groups": 0}
    quality: dict[str, Any] = {}
    if test is not None:
        # Metrics are computed in memory: one process has all scores there, not each.
        figures = distributed.from_main(partial(opened.assess, test, fitted.thresholds, RESAMPLES))
        measured = partial(calibration_quality, scored.windows, fitted.scorer, opened.prepared.table)
        quality = distributed.from_main(measured)
    scores = None if test is None else test.scores
    others = rejecting_figures(opened, fitted.scorer, fitted.rejection, scored.windows, scores, RESAMPLES, log)
    return figures | {"calibration": {**fitted.calibration, **quality}} | others


def calibration_quality(windows: WindowLogits, scorer: Scorer, table: ClipTable) -> dict[str, Any]:
    """How well the scores of clips are calibrated, `before` and `after` the scorer's calibration."""
    held_out = logits.of_windows(windows, table)
    return {
        name: calibration.quality(
            clip_scores_of(held_out, scorer.loss, how), held_out.target, multilabel=table.multilabel
        )
        for name, how in (("before", None), ("after", scorer.calibration))
    }
