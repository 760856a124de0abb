"""Evaluation of a trained model on its run's test set, or on any other labelled sound."""

from __future__ import annotations

import os
import shlex
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from soundbench import distributed, files
from soundbench import recipe as recipes
from soundbench.contracts import Dataset
from soundbench.data.audit import repeated
from soundbench.data.clips import ClipTable
from soundbench.data.shared_store import sound_store
from soundbench.data.store import Store
from soundbench.errors import CallError, DataError, RunError, RunPlaceError
from soundbench.inference.chosen import ALL_CLIPS, EvaluatedClips, dataset_spec, other_sound, own_test_set, recipe_of
from soundbench.inference.classifier import Classifier
from soundbench.inference.loading import load_by_all
from soundbench.model import assembly
from soundbench.model import folder as model_folder
from soundbench.model.exported.network import as_scorer
from soundbench.model.named.names import bringing, model_path
from soundbench.model.outputs.window_logits import WindowLogits, clip_means, window_logits
from soundbench.model.scoring import Scorer
from soundbench.model.stored.reading import TABLES, missing
from soundbench.recipe import Recipe
from soundbench.report import pages, run_directory
from soundbench.report.assessment import assess
from soundbench.report.protocol import skipped
from soundbench.report.results.run import Run
from soundbench.report.run_directory import RunDirectory
from soundbench.training import checkpoints
from soundbench.training.environment import agreed_fingerprint, read_environment, refuse_changed_recipe
from soundbench.training.finishing import calibration_quality
from soundbench.training.log import Log, Say, to_stderr
from soundbench.training.rejecting.figures import closed_set, rejected_clips
from soundbench.training.run import held

__all__ = ["evaluate", "fill", "learnt", "opened", "report_folder"]

EVALUATIONS = "evaluations"
"""The folder of a run directory that evaluations are written to."""

Rows = NDArray[np.int64]
Scores = NDArray[np.float32]


def evaluate(
    run: str | os.PathLike[str],
    dataset: str | Path | Recipe | None = None,
    *,
    checkpoint: str | Path = "best",
    out: Path | str | None = None,
    device: str = "auto",
    trust_code: bool = False,
    accept_changes: bool = False,
    cache: Path | str | bool = True,
    say: Say = to_stderr,
) -> Run:
    """Evaluate a run's model on labelled sound, and write a report like that of a run.

    The processes of a group, which all call this, share the clips; the first one writes the report.

    Args:
        run: the run directory; or only a model folder, an ONNX file or the name of an installed model, which need
            `dataset` and `out`.
        dataset: a recipe, to evaluate on its test set; a manifest or a folder of class folders, to evaluate on all of
            its clips; None for the run's own test set.
        checkpoint: `best`, `last`, or a file of the run's `checkpoints/`.
        out: the folder of the report; None for a new one in the run's `evaluations/`.
        device: the device to compute on: `auto`, `cpu`, `cuda` or `cuda:N`.
        trust_code: whether Python code stored with the run (`use = "./mine.py:Net"`) may be executed.
        accept_changes: whether the run's recipe and model may have changed since soundbench wrote them.
        cache: the folder of decoded sound; True for the user's own, False for a temporary one.
        say: called with each line of the log; prints to standard error by default.

    Returns:
        The evaluation: its folder has `report.html`, `report.md`, `report.json`, `predictions.csv`, figures in it.

    Raises:
        CallError: labels that are not among the model's classes, a missing dataset, or no dataset for a model alone.
        SoundbenchError: a run, checkpoint or sound cannot be used.
    """
    distributed.join(device)
    began, log = time.monotonic(), Log(say)
    directory = opened(run, dataset is not None, out is not None)
    classifier = load_by_all(directory.path, device=device, trust_code=trust_code, accept_changes=accept_changes)
    classifier.scorer = scorer = as_scorer(classifier.scorer, str(run)).as_trained()
    environment = _environment(directory, accept_changes, log)
    recipe = _recipe(directory, dataset, classifier, trust_code)
    notes = fill(classifier, directory, checkpoint, log)
    context = (recipe, classifier, cache, log)
    sound = own_test_set(*context) if dataset is None else other_sound(dataset, *context)
    folder = report_folder(directory, out, sound.name, log)
    on_error = sound.recipe.audio.on_error
    sounds = sound_store(sound.table, sound.dataset, recipe.audio, cache, log, on_error)
    with held(folder), sounds as store:
        part = np.zeros(len(sound.table), np.int8) if sound.part is None else sound.part
        data = agreed_fingerprint(sound.table, part, store.lengths)
        if sound.part is not None:
            _refuse_changed(directory, environment, data)
        windows = _windows(classifier, sound, store, recipe.train.batch_size, log)

        def write() -> None:
            scores = clip_means(windows, scorer.loss, scorer.calibration)
            found = {
                "name": f"{recipe.name}, evaluated on {sound.name}",
                "protocol": _protocol(directory, recipe, sound, checkpoint, notes),
                **_results(directory, recipe, sound, classifier, windows, scores),
                "skipped": skipped(sound.table, store),
                "seconds": round(time.monotonic() - began, 1),
                "command": _command(directory, dataset, checkpoint, trust_code),
            }
            rejected = rejected_clips(scorer.rejector, windows)
            run_directory.write_predictions(folder, sound.table, windows.rows, scores, rejected)
            if problem := pages.write(folder, found, sound.dataset):
                log(problem)
            log(pages.summary(found))

        distributed.from_main(write)
    return Run(folder)


def report_folder(run: RunDirectory, out: Path | str | None, name: str, log: Log) -> RunDirectory:
    """Create the folder of an evaluation, `out` or a new one in the run directory, and log to it.

    Raises:
        RunError: it is not empty, cannot be written to, or is reached through a link.
    """

    def create() -> RunDirectory:
        if (run.path / EVALUATIONS).is_symlink():
            raise RunPlaceError(f"{run.path / EVALUATIONS}: {files.LINK}")
        return RunDirectory.create(out) if out else RunDirectory.new(run.path / EVALUATIONS, name)

    log.directory = distributed.from_main(create)
    log(f"evaluation: {log.directory.path}")
    return log.directory


def _windows(classifier: Classifier, sound: EvaluatedClips, store: Store, batch: int, say: Say) -> WindowLogits:
    """The logits of the windows of the clips that can be read.

    Raises:
        DataError: there are none.
    """
    rows = sound.rows[store.lengths[sound.rows] > 0]
    if not len(rows):
        raise DataError("no clip is left to evaluate: none can be read")
    if line := distributed.idle(len(rows), "clips"):
        say(line)
    for line in repeated(sound.table, store.sounds):
        say(line)
    embeddings = classifier.scorer.embeds
    return window_logits(classifier.scorer, store, sound.table, rows, classifier.grid, batch, embeddings=embeddings)


# The model ------------------------------------------------------------------------------------------------------------


def opened(run: str | os.PathLike[str], dataset: bool, out: bool) -> RunDirectory:
    """The run directory; of a model alone, one that has nothing but its path."""
    path = model_path(run)
    if not path.is_file() and not (path / TABLES).exists():
        if bringing(path):
            raise missing(path, TABLES)
        return RunDirectory.open(path)
    if not dataset:
        raise CallError(f"{os.fspath(run)}: a model alone has no test set: give labelled sound with --dataset")
    if not out:
        raise CallError(f"{os.fspath(run)}: a model alone has no place for reports: give a folder with --out")
    return RunDirectory(path)


def _recipe(run: RunDirectory, dataset: str | Path | Recipe | None, classifier: Classifier, trust_code: bool) -> Recipe:
    """The run's recipe; for a model folder alone, a recipe that processes sound as the model does."""
    if run.recipe.exists() or dataset is None:
        return recipes.read(run.recipe, trust_code=trust_code)
    source = str(run.path if run.path.is_file() else run.path / "model.toml")
    tables = model_folder.read_model_tables(run.path)
    model = recipes.read_model(tables, base=run.path, trust_code=trust_code, source=source)
    same = {name: getattr(model, name) for name in ("audio", "featurizer", "backbone", "pooling", "head", "loss")}
    named = recipe_of(dataset)
    spec = named.dataset if named else dataset_spec(Path(str(dataset)), classifier)
    return Recipe(name=run.path.resolve().name, source=source, dataset=spec, **same)


def fill(classifier: Classifier, run: RunDirectory, checkpoint: str | Path, say: Say) -> list[str]:
    """Load a checkpoint's weights into the network, which already has the best ones; returns notes for the protocol."""
    if checkpoint == "best":
        return []
    if run.path.is_file():
        raise CallError(f"{run.path}: an exported file has no other checkpoint: leave out --checkpoint")
    state = checkpoints.latest(run.checkpoints, say) if checkpoint == "last" else checkpoints.load(Path(checkpoint))
    if state is None:
        raise RunError(f"{run.checkpoints}: there is no checkpoint")
    try:
        classifier.network.load_state_dict(state["average"] or state["network"])
    except RuntimeError as error:
        text = " ".join(str(error).split())
        raise RunError(f"{checkpoint}: the checkpoint does not fit the run's model: {text}") from None
    chosen = [f"the checkpoint after step {state['step']}, not the one that validation selected"]
    if classifier.multilabel:
        chosen.append("the thresholds are those of the best epoch")
    if classifier.scorer.rejector is not None and classifier.scorer.rejector.clip is not None:
        chosen.append("what rejects sound was fitted to the best epoch")
    return chosen


def _environment(run: RunDirectory, accept_changes: bool, say: Say) -> Mapping[str, Any]:
    """The content of `environment.json`, or a checkpoint's copy; the run's recipe must be as it says. Empty without."""
    if not run.recipe.exists():
        return {}
    found = read_environment(run)
    if found is None:
        say(f"{run.environment}: missing or damaged; using the last checkpoint's copy")
        state = checkpoints.latest(run.checkpoints, say)
        if state is None:
            raise RunError(f"{run.environment}: missing or damaged, and there is no checkpoint with a copy of it")
        found = state["environment"]
    if not accept_changes:
        refuse_changed_recipe(run, found)
    return found


def _refuse_changed(run: RunDirectory, environment: Mapping[str, Any], data: str) -> None:
    if environment.get("data") != data:
        raise RunError(
            f"{run.path}: the data, and with it the test set, has changed since the run began; "
            f"use --dataset {run.recipe} to evaluate on the data as it is now"
        )


# The report -----------------------------------------------------------------------------------------------------------


def _results(
    run: RunDirectory,
    recipe: Recipe,
    sound: EvaluatedClips,
    classifier: Classifier,
    windows: WindowLogits,
    scores: Scores,
) -> dict[str, Any]:
    """What `report.json` says of the scores and of the model that gave them."""
    scorer = classifier.scorer
    found = {
        **_figures(run, recipe, sound, windows.rows, scores, classifier.thresholds if classifier.multilabel else None),
        **_calibration(run, windows, scorer, sound.table),
        **closed_set(scorer, windows, sound.table, scores),
        "device": str(scorer.machine.device),
        "precision": "fp32",
        "sounds": recipe.report.sounds,
        **scorer.cost(classifier.grid.window),
    }
    keys = ("metrics", "clips", "groups")
    own = files.read_json(run.report_json, *keys) if run.report_json.exists() else {}
    return found | ({"own": {key: own[key] for key in keys}} if own.get("metrics") else {})


def _figures(
    run: RunDirectory,
    recipe: Recipe,
    sound: EvaluatedClips,
    rows: Rows,
    scores: Scores,
    thresholds: Sequence[float] | None,
) -> dict[str, Any]:
    """The results for the scored clips; with one label per clip, also the class counts behind the baseline."""
    table = sound.table
    prior = _prior(run, table) if thresholds is None else None
    figures = assess(
        scores,
        table.targets(rows),
        table.group_codes[rows],
        table.classes,
        prior=prior,
        thresholds=thresholds,
        by=table.values_of([name for name in sound.recipe.report.by if name in table.columns], rows),
        seed=recipe.train.seed,
    )
    return figures if thresholds is not None else {**figures, "prior": prior or table.class_counts(rows).tolist()}


def _calibration(run: RunDirectory, windows: WindowLogits, scorer: Scorer, table: ClipTable) -> dict[str, Any]:
    """How well the scores are calibrated, before and after; nothing for a model that has no calibration."""
    if scorer.calibration is None:
        return {}
    tables = model_folder.read_model_tables(run.model if run.model.exists() else run.path)
    return {"calibration": {"use": tables["calibration"]["use"], **calibration_quality(windows, scorer, table)}}


def _prior(run: RunDirectory, table: ClipTable) -> list[int] | None:
    """The number of training clips of each class in the run.

    None for a model folder alone: its baseline is the commonest class of the evaluated clips, the best constant guess.
    """
    trained = [row["labels"] for row in learnt(run) if row["part"] == "train"]
    return [trained.count(name) for name in table.classes] if trained else None


def _protocol(
    run: RunDirectory, recipe: Recipe, sound: EvaluatedClips, checkpoint: str | Path, notes: list[str]
) -> dict[str, Any]:
    """The protocol: results are comparable only within the same one."""
    own = sound.part is not None
    if not own:
        notes = ["this protocol differs from the run's own: the results are for other sound", *notes]
        own_paths = {row["path"] for row in learnt(run)}
        known = sum(path in own_paths for path in sound.table.paths)
        if not run.clips.exists():
            notes.append("it is not known what the model was trained on")
        elif known and _named_alike(sound.dataset, recipe):
            notes.append(f"{known} of the clips come from files that the run was trained or validated on")
        if lacking := [name for name in sound.recipe.report.by if name not in sound.table.columns]:
            notes.append(f"no figures by {', '.join(map(repr, lacking))}: these clips have no such column")
    tables = recipe.tables()
    return {
        "model": str(run.path),
        "checkpoint": str(checkpoint),
        "evaluated": sound.evaluated,
        "dataset": sound.recipe.tables()["dataset"],
        **({"split": sound.recipe.tables()["split"]} if sound.evaluated != ALL_CLIPS else {}),
        **({} if own or not run.clips.exists() else {"trained_on": tables["dataset"]}),
        "classes": len(sound.table.classes),
        "seed": recipe.train.seed,
        "audio": tables["audio"],
        "notes": notes,
    }


def learnt(run: RunDirectory) -> list[dict[str, str]]:
    """The clips that a run was trained and validated on; none for a model folder alone."""
    if not run.clips.exists():
        return []
    rows = files.read_rows(run.clips, "part", "path", "labels")
    return [row for row in rows if row["part"] in ("train", "validation")]


def _named_alike(dataset: Dataset, recipe: Recipe) -> bool:
    """Whether equal paths mean the same sound as in the run's data: without files, only with the same dataset."""
    if not hasattr(dataset, "read"):
        return True
    ours, theirs = (getattr(one, "fingerprint", None) for one in (assembly.make_dataset(recipe), dataset))
    return ours == theirs


def _command(run: RunDirectory, dataset: str | Path | Recipe | None, checkpoint: str | Path, trust: bool) -> str:
    """The command that reproduces the evaluation."""
    words = ["soundbench", "evaluate", str(run.path)]
    words += ["--dataset", dataset.source if isinstance(dataset, Recipe) else str(dataset)] if dataset else []
    words += ["--checkpoint", str(checkpoint)] if checkpoint != "best" else []
    return shlex.join([*words, *(["--trust-code"] if trust else [])])
