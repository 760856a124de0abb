"""`--folds all`: a run for each fold of the dataset, and one report that pools their test clips."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from soundbench import distributed, files
from soundbench import recipe as recipes
from soundbench.data.clips import ClipTable, Fold
from soundbench.errors import Problem, RecipeError, RunError
from soundbench.model import assembly
from soundbench.recipe import Recipe
from soundbench.report import pages, run_directory
from soundbench.report.assessment import assess, pooled
from soundbench.report.run_directory import RunDirectory
from soundbench.training.log import Say, resume_line, to_stderr
from soundbench.training.run import device_set, new_directory, resume, run

__all__ = ["FOLDS", "resume_folds", "run_folds"]

FOLDS = "folds.json"
"""The file that marks a directory with a run for each fold, and lists the folds."""


def run_folds(
    recipe: Recipe, *, out: Path | None = None, cache: Path | bool = True, say: Say = to_stderr
) -> RunDirectory:
    """Train and test once for each fold, with that fold as the test set; `fold-01/`, ... and a report beside them.

    Raises:
        RecipeError: the dataset has fewer than two folds, or validation is a list of folds.
    """
    distributed.join(recipe.train.device)
    table = ClipTable.of(assembly.make_dataset(recipe))
    folds = table.folds_in_order()
    problems = []
    if len(folds) < 2:
        problems.append(Problem("dataset", f"--folds all needs a dataset with folds; this one has {len(folds)}"))
    if isinstance(recipe.split.validation, list):
        problems.append(
            Problem("split.validation", "--folds all tests on every fold; give a share of the clips, such as 0.1")
        )
    if problems:
        raise RecipeError(recipe.source, problems)
    directory = new_directory(out, recipe.name)

    def write() -> None:
        recipes.write_code(recipe, directory.model / "code")
        # Written before recipe.toml, or a directory without it would be resumed as a single run.
        files.write_json(directory.path / FOLDS, {"folds": folds})
        files.write_text(directory.recipe, recipes.relocated(recipe, "./model/code").to_toml())

    distributed.from_main(write)
    return _run_each(recipe, directory, folds, say, trust_code=True, cache=cache)


def resume_folds(
    directory: Path,
    *,
    trust_code: bool = False,
    device: str | None = None,
    cache: Path | bool = True,
    say: Say = to_stderr,
) -> RunDirectory:
    """Resume `run_folds`: finished folds are kept, the interrupted one is resumed, and the others follow."""
    files.refuse_links(directory)
    recipe = recipes.read(directory / "recipe.toml", device_set(device), trust_code=trust_code)
    distributed.join(recipe.train.device)
    folds = distributed.from_main(lambda: _read_folds(directory / FOLDS))
    return _run_each(recipe, RunDirectory(directory), folds, say, trust_code=trust_code, device=device, cache=cache)


def _read_folds(path: Path) -> list[Fold]:
    folds = files.read_json(path, "folds")["folds"]
    if not isinstance(folds, list) or not folds or not all(isinstance(fold, int | str) for fold in folds):
        raise RunError(f"{path}: damaged: folds must be a list of numbers or names")
    return folds


def _run_each(
    recipe: Recipe, directory: RunDirectory, folds: Sequence[Fold], say: Say, *, cache: Path | bool, **resuming: Any
) -> RunDirectory:
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
                note = f"to resume with the other folds, too: {resume_line(recipe, directory)}"
                error.add_note(note)
                if distributed.is_main():
                    say(note)
            raise
        finished.append(own)

    def pool() -> None:
        report = _pool(recipe, finished, folds)
        pages.write(directory, report)
        say(pages.summary(report))

    distributed.from_main(pool)
    return directory


def _run_fold(recipe: Recipe, own: RunDirectory, fold: Fold, say: Say, *, cache: Path | bool, **resuming: Any) -> None:
    """The run of one fold, from its beginning or resumed."""
    if distributed.from_main(own.environment.exists):
        resume(own.path, cache=cache, say=say, **resuming)
        return
    # Not begun, or interrupted before training.
    distributed.from_main(lambda: shutil.rmtree(own.path, ignore_errors=True))
    one = recipe.with_tables(split=attrs.evolve(recipe.split, test=[fold]))
    run(one, out=own.path, cache=cache, say=say)


def _pool(recipe: Recipe, runs: Sequence[RunDirectory], folds: Sequence[Fold]) -> dict[str, Any]:
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
        seed=recipe.train.seed,
    )
    per_fold = [
        {"test": [fold], "metrics": one["metrics"], "clips": one["clips"], "groups": one["groups"]}
        for fold, one in zip(folds, reports, strict=True)
    ]
    protocol = {**reports[0]["protocol"], "split": {**recipe.tables()["split"], "test": "each fold in turn"}}
    protocol["purged"] = sum(one["protocol"]["purged"] for one in reports)
    protocol["best_epoch"] = [one["protocol"]["best_epoch"] for one in reports]
    skipped = {clip["path"]: clip for one in reports for clip in one["skipped"]["clips"]}
    return {
        "name": recipe.name,
        "protocol": protocol,
        **figures,
        "folds": per_fold,
        "across_folds": pooled(per_fold),
        "skipped": {"count": len(skipped), "clips": list(skipped.values())},
        "device": reports[0]["device"],
        "precision": reports[0]["precision"],
        "seconds": sum(one["seconds"] for one in reports),
    }


def _thresholds(reports: Sequence[dict[str, Any]], clips: Sequence[int]) -> NDArray[np.float64] | None:
    """The thresholds of each clip's own fold, `(N, K)`; None where a clip has one label."""
    if not reports[0].get("multilabel"):
        return None
    return np.repeat([[row["threshold"] for row in one["per_class"]] for one in reports], clips, axis=0)
