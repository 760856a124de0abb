"""Evaluation of a trained model on annotated recordings: the events that it finds in them, scored."""

from __future__ import annotations

import os
import shlex
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import attrs

from soundbench import distributed, files
from soundbench import recipe as recipes
from soundbench.contracts import Recording
from soundbench.data.clips import ClipTable, normal
from soundbench.errors import CallError, DataError
from soundbench.inference.chosen import recipe_of, test_set
from soundbench.inference.classifier import Classifier
from soundbench.inference.evaluation import fill, learnt, opened, report_folder
from soundbench.inference.events import Event
from soundbench.inference.formats.base import Row
from soundbench.inference.loading import load_by_all
from soundbench.inference.many_files import Done, Wanted, score_files
from soundbench.inference.progress import Progress
from soundbench.inference.scoring import page
from soundbench.inference.scoring.figures import Criteria, Scored, assess_events, matched
from soundbench.messages import nearest
from soundbench.model import assembly
from soundbench.model.scoring import Scorer
from soundbench.recipe import Recipe, annotations_spec
from soundbench.recipe.tables import ANNOTATIONS_DATASET
from soundbench.report.results.run import Run
from soundbench.report.run_directory import RunDirectory
from soundbench.training.log import Log, Say, to_stderr
from soundbench.training.run import held

__all__ = ["EVENTS", "evaluate_events"]

EVENTS = "events.csv"
"""The file of an evaluation with every annotation and every event, and whether it has a partner."""

COLUMNS = ("path", "kind", "label", "start", "end", "score", "onset", "overlap")


@attrs.frozen
class _Annotated:
    """The recordings to evaluate on.

    Attributes:
        name: the name of the evaluation.
        evaluated: which recordings these are, for the protocol.
        dataset: the table of the dataset.
        recordings: with their annotations.
        negatives: the class of the dataset that is no event, if any.
        on_error: whether a recording that cannot be read is an error.
    """

    name: str
    evaluated: str
    dataset: dict[str, Any]
    recordings: Sequence[Recording]
    negatives: str | None
    on_error: str


def evaluate_events(
    run: str | os.PathLike[str],
    tables: str | Path | Recipe,
    *,
    sounds: str | Path | None = None,
    wanted: Callable[[Classifier], Wanted] | None = None,
    how: Criteria | None = None,
    ignore: Collection[str] = (),
    checkpoint: str | Path = "best",
    out: Path | str | None = None,
    device: str = "auto",
    trust_code: bool = False,
    accept_changes: bool = False,
    cache: Path | str | bool = True,
    progress: Callable[[list[Path]], Progress] | None = None,
    say: Say = to_stderr,
) -> Run:
    """Find events in annotated recordings, and score them against the annotations.

    The processes of a group, which all call this, share the recordings; the first one writes the report.

    Args:
        run: the run directory; or only a model folder or the name of an installed model, which need `out`.
        tables: a table of annotations, or a folder of them; or a recipe whose dataset has annotated recordings, of
            which those of its test set are scored.
        sounds: the folder of the recordings; None for that of the tables.
        wanted: the windows, and how scores become events; None for the model's, and its own rules.
        how: when an event is right; None for the defaults.
        ignore: labels that are no events, besides the `negatives` of the dataset and of the run's own.
        checkpoint: `best`, `last`, or a file of the run's `checkpoints/`.
        out: the folder of the report; None for a new one in the run's `evaluations/`.
        device: the device to compute on: `auto`, `cpu`, `cuda` or `cuda:N`.
        trust_code: whether Python code stored with the run (`use = "./mine.py:Net"`) may be executed.
        accept_changes: whether the run's recipe and model may have changed since soundbench wrote them.
        cache: the folder of what near duplicates are found by, where the recipe's split needs them.
        progress: makes the progress line for the recordings.
        say: called with each line of the log; prints to standard error by default.

    Returns:
        The evaluation: its folder has `report.md`, `report.json` and `events.csv` in it.

    Raises:
        CallError: labels that are not among the model's classes, or a recipe without annotated recordings.
        SoundbenchError: a run, checkpoint, table or recording cannot be used.
    """
    distributed.join(device)
    began, log, how = time.monotonic(), Log(say), how or Criteria()
    directory = opened(run, True, out is not None)
    classifier = load_by_all(directory.path, device=device, trust_code=trust_code, accept_changes=accept_changes)
    notes = fill(classifier, directory, checkpoint, log)
    rules = wanted(classifier) if wanted else Wanted("event", rules=classifier.event_rules())
    sound = _annotated(tables, sounds, cache, log)
    no_event = {normal(name) for name in (*ignore, sound.negatives, _negatives(directory, trust_code)) if name}
    classes = _classes(sound.recordings, classifier.classes, no_event, ignore)
    folder = report_folder(directory, out, sound.name, log)
    with held(folder):
        if line := distributed.idle(len(sound.recordings), "recordings"):
            log(line)
        scored, errors = _scored(classifier, sound, rules, set(classes), progress)
        for path, reason in errors.items():
            log(f"{path}: {reason}; it is not scored")

        def write() -> None:
            found = {
                "name": f"{directory.path.resolve().name}, events in {sound.name}",
                "protocol": _protocol(directory, sound, classifier, rules, how, checkpoint, no_event, notes),
                **assess_events(scored, classes, how),
                "device": str(classifier.scorer.machine.device) if isinstance(classifier.scorer, Scorer) else "cpu",
                "seconds": round(time.monotonic() - began, 1),
                "command": _command(run, tables, sounds, checkpoint, rules, how, ignore, classifier),
            }
            files.write_rows(folder.path / EVENTS, COLUMNS, _rows(scored, classes, how))
            files.write_text(folder.report_md, page.as_markdown(found))
            files.write_json(folder.report_json, found)
            log(page.as_text(found))

        distributed.from_main(write)
    return Run(folder)


# The recordings -------------------------------------------------------------------------------------------------------


def _annotated(given: str | Path | Recipe, sounds: str | Path | None, cache: Path | str | bool, say: Say) -> _Annotated:
    """The recordings of the test set of a recipe, or all of tables."""
    recipe = recipe_of(given)
    if recipe is None:
        spec = annotations_spec(Path(str(given)), Path(sounds) if sounds else None)
        dataset: Any = assembly.make_component([], "dataset", spec)
        found, name = list(dataset.recordings()), Path(str(given)).resolve().stem
        evaluated, on_error = "all recordings of the tables", "fail"
    else:
        if sounds:
            raise CallError("--sounds is for tables of annotations; a recipe names the folder of its recordings")
        dataset, spec = assembly.make_dataset(recipe), recipe.dataset
        if not hasattr(dataset, "recordings"):
            raise CallError(f"{recipe.source}: its dataset has no annotated recordings; use {ANNOTATIONS_DATASET!r}")
        recipe, table, rows = test_set(recipe, ClipTable.of(dataset), dataset, cache, say)
        tested = {os.path.realpath(str(table.paths[row])) for row in rows.tolist()}
        found = [one for one in dataset.recordings() if os.path.realpath(one.path) in tested]
        name, evaluated, on_error = recipe.name, "the test set of the recipe's split", recipe.audio.on_error
    if not found:
        raise DataError(f"{given}: no annotated recording to evaluate on")
    return _Annotated(name, evaluated, spec.table(), found, getattr(dataset, "negatives", None), on_error)


def _negatives(run: RunDirectory, trust_code: bool) -> str | None:
    """The class of the run's own dataset that is no event; None if there is none, or for a model folder alone."""
    if not run.recipe.exists():
        return None
    recipe = recipes.read(run.recipe, trust_code=trust_code)
    found: str | None = getattr(assembly.make_dataset(recipe), "negatives", None)
    return found


def _classes(
    recordings: Sequence[Recording], classes: Sequence[str], no_event: Collection[str], ignore: Collection[str]
) -> list[str]:
    """The classes of the model that are scored.

    Raises:
        CallError: there are none, or labels that the model does not have.
    """
    counts = Counter(normal(mark.label) for one in recordings for mark in one.annotations)
    unknown = [name for name in sorted(counts) if name not in classes and name not in no_event]
    if unknown:
        listed = ", ".join(f"{name!r} ({counts[name]})" for name in unknown)
        hint = nearest(unknown[0], classes) or ";"
        raise CallError(
            f"labels that are not among the model's classes, with their number of annotations: {listed}{hint} "
            f"its classes: {', '.join(classes)}; leave labels out with --ignore"
        )
    for name in ignore:
        if normal(name) not in classes and normal(name) not in counts:
            raise CallError(f"--ignore: neither the model nor the tables have {name!r}{nearest(name, classes)}")
    found = [name for name in classes if name not in no_event]
    if not found:
        raise CallError("no class is left to score: all are left out")
    return found


# Scoring --------------------------------------------------------------------------------------------------------------


def _scored(
    classifier: Classifier,
    sound: _Annotated,
    wanted: Wanted,
    classes: Collection[str],
    progress: Callable[[list[Path]], Progress] | None,
) -> tuple[list[Scored], dict[str, str]]:
    """The recordings with the events that are found in them, and those that cannot be read, each with the reason.

    The processes share the recordings, and each gets what is found in all.
    """
    names = [Path(one.path).name for one in sound.recordings]
    if any(other != names for other in distributed.gather(names)):
        raise DataError("the processes do not have the same recordings")
    own = sound.recordings[distributed.rank() :: distributed.world()]
    paths = [Path(one.path) for one in own]
    left, events, found = iter(own), list[Event](), list[Scored | str]()
    for one in score_files(classifier, paths, wanted, progress(paths) if progress else None):
        if isinstance(one, Row) and one.label in classes:
            events.append(Event(one.label, one.start or 0.0, one.end or 0.0, one.score))
        if not isinstance(one, Done):
            continue
        recording = next(left)
        if one.error and sound.on_error == "fail":
            raise DataError(f"{recording.path}: {one.error}; fix or remove this recording")
        if one.error:
            found.append(one.error)
        else:
            marks = [attrs.evolve(mark, label=normal(mark.label)) for mark in recording.annotations]
            kept = [mark for mark in marks if mark.label in classes]
            found.append(Scored(recording.path, recording.group or recording.path, one.seconds, kept, events))
        events = []
    shares = [iter(share) for share in distributed.gather(found)]
    every = [(one.path, next(shares[number % len(shares)])) for number, one in enumerate(sound.recordings)]
    scored = [one for _, one in every if isinstance(one, Scored)]
    if not scored:
        raise DataError("no recording is left to evaluate on: none can be read")
    return scored, {path: error for path, error in every if isinstance(error, str)}


def _rows(scored: Sequence[Scored], classes: Sequence[str], how: Criteria) -> Iterator[Sequence[object]]:
    """Every annotation and every event, with whether it has a partner by onset and by overlap."""
    for one in scored:
        rows: list[tuple[object, ...]] = []
        for label in classes:
            annotated, found = one.spans(label)
            pairs = matched(annotated, found, how)
            for number, (start, end) in enumerate(annotated.tolist()):
                has = [str(bool(columns[number] >= 0)).lower() for columns in pairs]
                rows.append((one.path, "annotation", label, start, end, None, *has))
            scores = [event.score for event in one.events if event.label == label]
            for number, (start, end) in enumerate(found.tolist()):
                has = [str(bool((columns == number).any())).lower() for columns in pairs]
                rows.append((one.path, "event", label, start, end, round(scores[number], 6), *has))
        yield from sorted(rows, key=lambda row: (row[3], row[4], row[1]))


def _protocol(
    run: RunDirectory,
    sound: _Annotated,
    classifier: Classifier,
    wanted: Wanted,
    how: Criteria,
    checkpoint: str | Path,
    no_event: Collection[str],
    notes: list[str],
) -> dict[str, Any]:
    """What the figures are of: they are comparable only within the same protocol."""
    known = {os.path.realpath(row["path"]) for row in learnt(run)}
    if not run.clips.exists():
        notes = [*notes, "it is not known what the model was trained on"]
    elif count := sum(os.path.realpath(one.path) in known for one in sound.recordings):
        notes = [*notes, f"{count} of the recordings are those that the run was trained or validated on"]
    grid, rules = classifier.grid_of(wanted.window, wanted.hop), attrs.asdict(wanted.rules)
    on: Any = rules.pop("on")
    if isinstance(on, tuple):
        on = {name: value for name, value in zip(classifier.classes, on, strict=True) if name not in no_event}
    return {
        "model": str(run.path),
        "checkpoint": str(checkpoint),
        "evaluated": sound.evaluated,
        "dataset": sound.dataset,
        "collar": how.collar,
        "overlap": how.overlap,
        "window": grid.window / classifier.rate,
        "hop": grid.hop / classifier.rate,
        "threshold": on,
        **rules,
        "no_events": sorted(no_event),
        "notes": notes,
    }


def _command(
    run: str | os.PathLike[str],
    tables: str | Path | Recipe,
    sounds: str | Path | None,
    checkpoint: str | Path,
    wanted: Wanted,
    how: Criteria,
    ignore: Collection[str],
    classifier: Classifier,
) -> str:
    """The command that repeats the evaluation."""
    source = tables.source if isinstance(tables, Recipe) else str(tables)
    words = ["soundbench", "evaluate", os.fspath(run), "--events", source]
    usual, rules = classifier.event_rules(), wanted.rules
    options: dict[str, tuple[Any, Any]] = {
        "sounds": (sounds, None),
        "window": (wanted.window, None),
        "hop": (wanted.hop, None),
        "threshold": (rules.on, usual.on),
        **{name: (getattr(rules, name), getattr(usual, name)) for name in ("off", "smooth", "shortest", "gap")},
        "refractory": (rules.refractory, usual.refractory),
        "collar": (how.collar, Criteria().collar),
        "overlap": (how.overlap, Criteria().overlap),
        "checkpoint": (str(checkpoint), "best"),
    }
    for name, (value, default) in options.items():
        words += [f"--{name}", str(value)] if value != default else []
    for name in ignore:
        words += ["--ignore", name]
    return shlex.join(words)
