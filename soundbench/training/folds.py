"""`--folds all`: a run for each fold of the dataset, and one report that pools their test clips."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from soundbench import distributed, files
from soundbench import recipe as recipes
from soundbench.contracts import Loss
from soundbench.data.clips import ClipTable, Fold
from soundbench.data.splits import VALIDATION_SHARE
from soundbench.errors import Problem, RecipeError, RunError
from soundbench.model import assembly, logits
from soundbench.model.logits import HeldOutLogits
from soundbench.model.plan import refuse_unknown_columns
from soundbench.model.rejecting.thresholds import fit_threshold
from soundbench.recipe import Recipe
from soundbench.report import calibration, pages, run_directory
from soundbench.report.assessment import assess, pooled
from soundbench.report.rejecting.figures import kept_figures, pooled_rejection
from soundbench.report.results.run import Run
from soundbench.report.run_directory import FOLDS, Predictions, RunDirectory
from soundbench.training import finishing
from soundbench.training.environment import accept_recipe, read_environment, record_recipe, refuse_changed_recipe
from soundbench.training.log import Say, resume_line, to_stderr
from soundbench.training.rejecting import fitting as rejecting
from soundbench.training.run import device_set, held, leaving_out, new_directory, resume, run

__all__ = ["resume_folds", "run_folds"]

# What tells the clips of a table apart.
_PLACE = ("path", "start", "stop")


def run_folds(
    recipe: Recipe | str | Path,
    *,
    out: Path | str | None = None,
    cache: Path | str | bool = True,
    accept_changes: bool = False,
    leave_out: Sequence[str] = (),
    say: Say = to_stderr,
) -> Run:
    """Train and test once for each fold, with that fold as the test set; `fold-01/`, ... and a report beside them.

    The arguments are those of `run`.

    Raises:
        RecipeError: the dataset has fewer than two folds, or validation is a list of folds.
    """
    recipe = leaving_out(recipes.given(recipe), leave_out)
    distributed.join(recipe.train.device)
    if recipe.split.validation == "auto":
        recipe = recipe.with_tables(split=attrs.evolve(recipe.split, validation=VALIDATION_SHARE))
    folds = _folds(recipe)
    problems = []
    if len(folds) < 2:
        problems.append(Problem("dataset", f"--folds all needs a dataset with folds; this one has {len(folds)}"))
    if isinstance(recipe.split.validation, list):
        problems.append(
            Problem("split.validation", "--folds all tests on every fold; give a share of the clips, such as 0.1")
        )
    if problems:
        raise RecipeError(recipe.source, problems)
    with new_directory(out, recipe.name) as directory:

        def write() -> None:
            recipes.write_code(recipe, directory.code)
            # Written before recipe.toml, or a directory without it would be resumed as a single run.
            files.write_json(directory.path / FOLDS, {"folds": folds})
            record_recipe(directory, recipes.relocated(recipe, "./model/code").to_toml())

        distributed.from_main(write)
        _run_each(recipe, directory, folds, say, trust_code=True, cache=cache, accept_changes=accept_changes)
    return Run(directory)


def resume_folds(
    directory: Path,
    *,
    trust_code: bool = False,
    device: str | None = None,
    cache: Path | bool = True,
    accept_changes: bool = False,
    say: Say = to_stderr,
) -> Run:
    """Resume `run_folds`: finished folds are kept, the interrupted one is resumed, and the others follow.

    Raises:
        RunError: there is no such directory, another process works in it, or its recipe or the folds of its data have
            changed.
    """
    found = RunDirectory.open(directory)
    files.refuse_links(found.path)
    before = read_environment(found)
    if before and not accept_changes:
        refuse_changed_recipe(found, before)
    recipe = recipes.read(found.recipe, device_set(device), trust_code=trust_code)
    distributed.join(recipe.train.device)
    with held(found):
        if accept_changes or not before:
            distributed.from_main(lambda: accept_recipe(found))
        if not before and distributed.is_main():
            say(f"{found.environment}: was missing or damaged, and is made anew; the recipe cannot be checked")
        folds = distributed.from_main(lambda: _same_folds(found, _folds(recipe), say))
        options: dict[str, Any] = {
            "trust_code": trust_code,
            "device": device,
            "cache": cache,
            "accept_changes": accept_changes,
        }
        _run_each(recipe, found, folds, say, **options)
    return Run(found)


def _folds(recipe: Recipe) -> list[Fold]:
    """The folds of the data; refuses what `report.by` names and they lack, before a folder is made."""
    table = ClipTable.of(assembly.make_dataset(recipe))
    refuse_unknown_columns(recipe, table)
    return table.folds_in_order()


def _same_folds(directory: RunDirectory, folds: list[Fold], say: Say) -> list[Fold]:
    """The folds of a directory, which must be those of its data; `folds.json` is made anew if it is damaged."""
    path = directory.path / FOLDS
    try:
        found = files.read_json(path, "folds")["folds"]
    except RunError:
        say(f"{path}: was damaged, and is made anew")
        files.write_json(path, {"folds": folds})
        return folds
    if found != folds:
        raise RunError(f"{path}: the data has other folds now; start a new run")
    return folds


def _read_folds(path: Path) -> list[Fold]:
    folds = files.read_json(path, "folds")["folds"]
    if not isinstance(folds, list) or not folds or not all(isinstance(fold, int | str) for fold in folds):
        raise RunError(f"{path}: damaged: folds must be a list of numbers or names")
    return folds


def _run_each(
    recipe: Recipe,
    directory: RunDirectory,
    folds: Sequence[Fold],
    say: Say,
    *,
    cache: Path | str | bool,
    **resuming: Any,
) -> None:
    """A run for each fold, and the report over all; `resuming` holds the options of `resume`."""
    finished = []
    for number, fold in enumerate(folds, start=1):
        own = directory.fold(fold)
        if distributed.is_main():
            say(f"fold {fold}: {number} of {len(folds)}")
        try:
            _run_fold(recipe, own, fold, say, cache=cache, **resuming)
        except BaseException as error:
            if own.recipe.exists():
                line = resume_line(recipe, directory, resuming.get("device"), cache)
                note = f"to resume with the other folds, too: {line}"
                error.add_note(note)
                if distributed.is_main():
                    say(note)
            raise
        finished.append(own)

    def pool() -> None:
        held_out = _held_out(finished)
        if held_out:
            logits.write(directory.logits, logits.joined(held_out))
        report = _pool(recipe, finished, folds, held_out)
        if problem := pages.write(directory, report, assembly.make_dataset(recipe)):
            say(problem)
        say(pages.summary(report))

    distributed.from_main(pool)


def _run_fold(
    recipe: Recipe, own: RunDirectory, fold: Fold, say: Say, *, cache: Path | str | bool, **resuming: Any
) -> None:
    """The run of one fold, from its beginning or resumed."""
    if distributed.from_main(lambda: own.recipe.exists() or own.checkpoints.exists()):
        resume(own.path, cache=cache, say=say, **resuming)
        return
    one = recipe.with_tables(split=attrs.evolve(recipe.split, test=[fold]))
    run(one, out=own.path, cache=cache, accept_changes=resuming["accept_changes"], say=say)


def _held_out(runs: Sequence[RunDirectory]) -> list[HeldOutLogits]:
    """The logits of each fold's test clips, whose network was not trained on them; none if older runs have none."""
    return [logits.read(one.logits) for one in runs] if all(one.logits.exists() for one in runs) else []


def _pool(
    recipe: Recipe, runs: Sequence[RunDirectory], folds: Sequence[Fold], held_out: Sequence[HeldOutLogits]
) -> dict[str, Any]:
    """The report over all folds: every clip counts once, and groups of the same name are one group."""
    reports = [files.read_json(one.report_json) for one in runs]
    predictions = [run_directory.read_predictions(one) for one in runs]
    classes = predictions[0].classes
    names = [group for one in predictions for group in one.groups]
    groups = np.unique(np.array(names), return_inverse=True)[1]
    scores, targets = (np.concatenate([getattr(one, name) for one in predictions]) for name in ("scores", "targets"))
    figures = assess(
        scores,
        targets,
        groups,
        classes,
        prior=np.sum([one["prior"] for one in reports], axis=0),
        thresholds=_thresholds(reports, [len(one.clips) for one in predictions]),
        by=_columns(recipe, runs),
        seed=recipe.train.seed,
    )
    per_fold = [
        {"test": [fold], "metrics": one["metrics"], "clips": one["clips"], "groups": one["groups"]}
        for fold, one in zip(folds, reports, strict=True)
    ]
    protocol = {**reports[0]["protocol"], "split": {**recipe.tables()["split"], "test": "each fold in turn"}}
    protocol["purged"] = sum(one["protocol"]["purged"] for one in reports)
    protocol["notes"] = _notes([one["protocol"].get("notes", []) for one in reports], folds)
    protocol["best_epoch"] = [one["protocol"]["best_epoch"] for one in reports]
    skipped = {clip["path"]: clip for one in reports for clip in one["skipped"]["clips"]}
    return {
        "name": recipe.name,
        "protocol": protocol,
        **figures,
        **({"calibration": _calibration(recipe, reports, scores, held_out)} if held_out else {}),
        **_rejection(recipe, reports, predictions, groups, held_out),
        "folds": per_fold,
        "across_folds": pooled(per_fold),
        "skipped": {"count": len(skipped), "clips": list(skipped.values())},
        "device": reports[0]["device"],
        "precision": reports[0]["precision"],
        "sounds": recipe.report.sounds,
        **{
            name: reports[0][name] for name in ("title", "tf32", "parameters", "macs") if name in reports[0]
        },  # an older run may lack them
        "seconds": sum(one["seconds"] for one in reports),
    }


def _notes(each: Sequence[Sequence[str]], folds: Sequence[Fold]) -> list[str]:
    """The notes of all folds: those that are the same in each, then the others, each with its fold."""
    shared = [note for note in each[0] if all(note in notes for notes in each)]
    own = [(fold, note) for fold, notes in zip(folds, each, strict=True) for note in notes if note not in shared]
    return [*shared, *(f"fold {fold}: {note}" for fold, note in own)]


def _calibration(
    recipe: Recipe, reports: Sequence[dict[str, Any]], scores: NDArray[np.float64], held_out: Sequence[HeldOutLogits]
) -> dict[str, Any]:
    """How well the scores of all folds are calibrated, before and after.

    Where one of the folds has no validation set, or one that is too small, the calibration of each fold is fitted on
    the test clips of the others, which its test clips have no part in; the scores of its own report stay as they are.
    """
    classes, multilabel = held_out[0].classes, bool(reports[0].get("multilabel"))
    loss = assembly.make_loss(recipe.loss, len(classes), recipe.source)
    own = [one.get("calibration", {}) for one in reports]
    targets = logits.joined(held_out).target
    before = np.concatenate([finishing.clip_scores_of(one, loss) for one in held_out])
    found: dict[str, Any] = {"use": own[0].get("use", recipe.calibration.use)}
    if all("clips" in one and "reason" not in one for one in own):
        found |= {"source": "the validation set of each fold"}
    elif attrs.fields(recipe.calibration.component.options) and not finishing.is_given(recipe.calibration):
        pairs = [(one, [other for other in held_out if other is not one]) for one in held_out]
        scores = np.concatenate([_fitted_on(recipe, loss, one, others, multilabel) for one, others in pairs])
        found |= {"source": calibration.OTHER_FOLDS}
    for name, values in (("before", before), ("after", scores)):
        found[name] = calibration.quality(values, targets, multilabel=multilabel)
    return found


def _rejection(
    recipe: Recipe,
    reports: Sequence[dict[str, Any]],
    predictions: Sequence[Predictions],
    groups: NDArray[np.int64],
    held_out: Sequence[HeldOutLogits],
) -> dict[str, Any]:
    """What is rejected, over all folds; nothing if older runs do not say.

    Where a fold has no threshold of its own, each fold is judged by one that is fitted on the test clips of the others.
    """
    if not all("reject" in one for one in reports):
        return {}
    scores, targets = (np.concatenate([getattr(one, name) for one in predictions]) for name in ("scores", "targets"))
    rejected = [one.rejected for one in predictions]
    own: list[dict[str, Any]] = [one["reject"] for one in reports]
    anew = _by_others(held_out, rejected, own[0]["keep"]) if any("reason" in one for one in own) else None
    kept = kept_figures(scores, targets, np.concatenate(anew or rejected), groups, seed=recipe.train.seed)
    found: dict[str, Any] = {"reject": pooled_rejection(own, kept)}
    if anew is not None:
        del found["reject"]["reason"]
        found["reject"]["source"] = calibration.OTHER_FOLDS
    left = [row for one in reports for row in one.get("left_out", [])]
    return found | ({"left_out": left} if left else {})


def _by_others(
    held_out: Sequence[HeldOutLogits], rejected: Sequence[NDArray[np.bool_]], keep: float
) -> list[NDArray[np.bool_]] | None:
    """Whether each clip of each fold is rejected by the threshold of the other folds' clips; None without any.

    Args:
        held_out: of each fold.
        rejected: what each fold rejects itself, which holds for digital silence.
        keep: the share of clips that a threshold keeps.
    """
    if not held_out or any(one.reject is None for one in held_out):
        return None
    each = [rejecting.of_held_out(one) for one in held_out]
    loud = [one.of_clips[~one.silent_clips] for one in each]
    found = []
    for place, (one, own) in enumerate(zip(each, rejected, strict=True)):
        others = np.concatenate(loud[:place] + loud[place + 1 :])
        if len(others) < rejecting.LEAST_CLIPS or np.ptp(others) == 0:
            return None
        found.append(np.where(one.silent_clips, own, one.of_clips < fit_threshold(others, [], keep)))
    return found


def _fitted_on(
    recipe: Recipe, loss: Loss, one: HeldOutLogits, others: Sequence[HeldOutLogits], multilabel: bool
) -> NDArray[np.float32]:
    """The scores of one fold's clips, calibrated on the others."""
    spec, _ = finishing.calibrated(recipe.calibration, logits.joined(others), loss, multilabel, recipe.source)
    return finishing.clip_scores_of(one, loss, assembly.make_calibration(spec, len(one.classes), recipe.source))


def _columns(recipe: Recipe, runs: Sequence[RunDirectory]) -> dict[str, list[str]]:
    """The values of all test clips in the columns of `report.by`, from the tables of clips; empty text for none.

    Raises:
        RunError: a table is damaged, or has no row for a clip.
    """
    columns: dict[str, list[str]] = {name: [] for name in recipe.report.by}
    for one in runs if columns else ():
        inside = [run_directory.clips_column(name) for name in columns]
        rows = {_place(row): row for row in files.read_rows(one.clips, *_PLACE, *inside)}
        for clip in files.read_rows(one.predictions, *_PLACE):
            if _place(clip) not in rows:
                raise RunError(f"{one.clips}: damaged: it has no row for {clip['path']}, which was tested")
            for values, name in zip(columns.values(), inside, strict=True):
                values.append(rows[_place(clip)][name])
    return columns


def _place(row: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(row[name] for name in _PLACE)


def _thresholds(reports: Sequence[dict[str, Any]], clips: Sequence[int]) -> NDArray[np.float64] | None:
    """The thresholds of each clip's own fold, `(N, K)`; None where a clip has one label."""
    if not reports[0].get("multilabel"):
        return None
    return np.repeat([[row["threshold"] for row in one["per_class"]] for one in reports], clips, axis=0)
