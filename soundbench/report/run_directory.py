"""The run directory: every name inside it, how it is created and opened, and its tables of clips and predictions.

How files are written and read, so that nothing finished is lost, is in `soundbench/files.py`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import attrs
import numpy as np

from soundbench import files, limits
from soundbench.contracts import Clip
from soundbench.data import digests
from soundbench.data.clips import ClipTable, Column
from soundbench.errors import RunError, RunPlaceError
from soundbench.files import append_line, explain_os_errors, read_table, write_rows
from soundbench.messages import escaped
from soundbench.report import lock

__all__ = [
    "FOLDS",
    "Predictions",
    "RunDirectory",
    "changed_results",
    "clips_column",
    "default_name",
    "log",
    "read_predictions",
    "restore_history",
    "seal_results",
    "write_clips",
    "write_predictions",
]

FOLDS = "folds.json"
"""The file that marks a directory with a run for each fold, and lists the folds."""

_PROBE = ".probe"
# What a run writes before its recipe.toml, whole or not yet renamed: where there is nothing else, no run has begun.
_FIRST = {_PROBE, lock.LOCK, lock.NOTE, FOLDS, "environment.json", "model", "model/code"}
_UNFINISHED = re.compile(r"\.(recipe\.toml|environment\.json|folds\.json|\.lock\.json)\..*")
_CODE = re.compile(r"model/code/[^/]+")

_CLIP_COLUMNS = ("part", "path", "start", "stop", "fold", "group", "labels")
_PREDICTION_COLUMNS = ("path", "start", "stop", "fold", "group", "label", "predicted", "score")
_SCORE = "score:"
_REJECTED = "rejected"
_TRUTH = {"true": True, "false": False}
_BLOCK = 4096  # rows of a table that are in memory as cells


class _Place:
    """A name inside the run directory; on a run directory, its path."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __get__(self, run: RunDirectory, owner: type) -> Path:
        return run.path / self.name


@attrs.frozen
class RunDirectory:
    """A run directory, which need not exist; `create` and `new` make one, `open` checks that it exists.

    Attributes:
        path: the folder. All other attributes are paths inside it.
    """

    path: Path = attrs.field(converter=Path)

    recipe = _Place("recipe.toml")
    environment = _Place("environment.json")
    clips = _Place("clips.csv")
    history = _Place("history.csv")
    log = _Place("log.txt")
    profile = _Place("profile.txt")
    checkpoints = _Place("checkpoints")
    model = _Place("model")
    model_toml = _Place("model/model.toml")
    weights = _Place("model/weights.safetensors")
    card = _Place("model/README.md")
    code = _Place("model/code")
    assets = _Place("model/assets")
    predictions = _Place("predictions.csv")
    logits = _Place("logits.safetensors")
    report_json = _Place("report.json")
    report_md = _Place("report.md")
    report_html = _Place("report.html")
    confusion_csv = _Place("confusion.csv")
    figures = _Place("figures")
    confusion_png = _Place("figures/confusion.png")
    confusion_labels = _Place("figures/confusion_labels.txt")
    digests = _Place("digests.json")

    @classmethod
    def create(cls, path: Path | str) -> RunDirectory:
        """Create a run directory, as a new folder or in an empty one; one where a run has not begun counts as empty.

        Raises:
            RunError: the path is a file or a folder that is not empty, or cannot be written to.
        """
        run = cls(path)
        with explain_os_errors(run.path):
            if run.path.exists() and not run.path.is_dir():
                raise RunPlaceError(f"{run.path}: is a file; a run needs a new folder or an empty one")
            run.path.mkdir(parents=True, exist_ok=True)
            if run._holds_something():
                resume = f", or resume this run with --resume {run.path}" if run.recipe.exists() else ""
                raise RunPlaceError(f"{run.path}: exists and is not empty; give another folder with --out{resume}")
            probe = run.path / _PROBE  # only writing shows whether writing is possible
            with files.open_to_append(probe) as file:
                file.write(b"\n")
            probe.unlink()
        return run

    @classmethod
    def new(cls, folder: Path | str, recipe_name: str, now: datetime | None = None) -> RunDirectory:
        """Create a run directory in `folder` under a name that is not in use, even if others do so at the same time."""
        while True:
            path = Path(folder) / default_name(recipe_name, now or datetime.now(), Path(folder))
            with explain_os_errors(path):
                try:
                    path.mkdir(parents=True)
                except FileExistsError:
                    continue
            return cls.create(path)

    @classmethod
    def open(cls, path: Path | str, *needed: str) -> RunDirectory:
        """A run directory that exists.

        Args:
            path: the folder.
            needed: further files that must be inside, such as `model/model.toml`.

        Raises:
            RunError: it is not a run directory, or something needed is missing; the message says what.
        """
        run = cls(path)
        with explain_os_errors(run.path):
            if not run.path.exists():
                raise RunPlaceError(f"{run.path}: no such run directory")
            if not run.path.is_dir():
                raise RunPlaceError(f"{run.path}: is a file, not a run directory")
            if not run.recipe.exists():
                inside = [run.path / name for name in sorted(p.parent.name for p in run.path.glob("*/recipe.toml"))]
                hint = f"; did you mean {inside[-1]}?" if inside else ""
                if not hint and not run._holds_something():
                    hint = f"; no run has begun here: start one with soundbench run RECIPE --out {run.path}"
                raise RunPlaceError(f"{run.path}: not a run directory: {run.recipe.name} is missing{hint}")
            missing = [name for name in needed if not (run.path / name).exists()]
        if missing:
            raise RunError(f"{run.path}: the run is not finished: {', '.join(missing)} missing")
        return run

    @property
    def has_folds(self) -> bool:
        """Whether it holds a run for each fold, also where `folds.json` is lost."""
        return (self.path / FOLDS).exists() or any(self.path.glob("fold-*/recipe.toml"))

    def clear(self) -> None:
        """Remove what a run has left that was killed before it had written its recipe; for whoever holds the lock."""
        with explain_os_errors(self.path):
            for path in sorted(self.path.rglob("*"), reverse=True):
                if path.is_dir():
                    path.rmdir()
                elif path.name not in (lock.LOCK, lock.NOTE):
                    path.unlink()

    def _holds_something(self) -> bool:
        """Whether there is more than what a run leaves that is killed before it has written its recipe."""
        for path in self.path.rglob("*"):
            name = path.relative_to(self.path).as_posix()
            first = name in _FIRST or _UNFINISHED.fullmatch(name) or _CODE.fullmatch(name)
            if not first or path.is_symlink():
                return True
        return False

    def fold(self, fold: int | str) -> RunDirectory:
        """The run directory of one fold, inside this one; it need not exist."""
        text = str(fold)
        name = f"{int(text):02d}" if text.isdecimal() and len(text) <= limits.DIGITS else _safe(text)
        return RunDirectory(self.path / f"fold-{name}")


def default_name(recipe_name: str, now: datetime, folder: Path | None = None) -> str:
    """A run directory's name, such as `urbansound_campplus-20261122-101500`, with `-2` and so on if `folder` has it."""
    name = f"{_safe(recipe_name)}-{now:%Y%m%d-%H%M%S}"
    count, free = 1, name
    while folder is not None and (folder / free).exists():
        count += 1
        free = f"{name}-{count}"
    return free


def log(run: RunDirectory, text: str, now: datetime | None = None) -> None:
    """Append text to `log.txt`, after the time; its further lines are indented: none looks like another entry."""
    time = (now or datetime.now().astimezone()).isoformat(timespec="seconds")
    indented = text.rstrip("\n").replace("\n", "\n    ")
    append_line(run.log, f"{time} {escaped(indented)}")


def restore_history(run: RunDirectory, rows: Sequence[Mapping[str, object]]) -> bool:
    """Make `history.csv` hold the rows of the epochs up to a checkpoint; rows of later epochs are dropped.

    Returns:
        Whether rows were missing or other ones.
    """
    columns = list(dict.fromkeys(name for row in rows for name in row))
    wanted = [["" if row.get(name) is None else str(row[name]) for name in columns] for row in rows]
    try:
        header, found = read_table(run.history)
        cells = list(found)
    except RunError:
        header, cells = ["damaged"], []
    if not rows:
        with explain_os_errors(run.history):
            run.history.unlink(missing_ok=True)
        return header[:1] not in ([], ["epoch"])
    same = header == columns and cells[: len(wanted)] == wanted
    if not same or len(cells) > len(wanted):
        write_rows(run.history, columns, wanted)
    return not same


_RESULTS = ("environment", "clips", "history", "predictions", "logits", "report_json", "report_md", "report_html")
_FIGURES = ("confusion_csv", "confusion_png", "confusion_labels")


def seal_results(run: RunDirectory) -> None:
    """Write `digests.json`, the last file of a run: the digests of its results."""
    names = [getattr(run, name).relative_to(run.path).as_posix() for name in (*_RESULTS, *_FIGURES)]
    digests.write_table(run.digests, digests.table_of(run.path, names))


def changed_results(run: RunDirectory) -> list[str] | None:
    """The results of a finished run that are missing or have changed since; None if the run is not finished."""
    try:
        table = digests.read_table(run.digests)
    except RunError:
        return [run.digests.name]
    return None if table is None else digests.changed(run.path, table)


def write_clips(run: RunDirectory, table: ClipTable, parts: Iterable[str]) -> None:
    """Write `clips.csv`: every clip of the table, its part, and its further values, each a column of its name.

    A name that `clips.csv` has itself gets `dataset:` before it.
    """
    cells = zip(parts, _cells(table, np.arange(len(table)), *table.extra.values()), strict=True)
    write_rows(run.clips, (*_CLIP_COLUMNS, *map(_extra_column, table.extra)), ((part, *own) for part, own in cells))


def clips_column(name: str) -> str:
    """The column of `clips.csv` for one of `ClipTable.columns`."""
    return name if name in ("fold", "group") else _extra_column(name)


def _extra_column(name: str) -> str:
    return f"dataset:{name}" if name in _CLIP_COLUMNS else name


def write_predictions(
    run: RunDirectory, table: ClipTable, rows: np.ndarray, scores: np.ndarray, rejected: np.ndarray | None = None
) -> None:
    """Write `predictions.csv`. Scores have enough digits to be read back exactly, in their own precision.

    Args:
        run: the run directory.
        table: the clips.
        rows: `(N,)`, the rows of the clips that were scored.
        scores: `(N, K)`, their scores.
        rejected: `(N,)`, whether each is of none of the classes; None where none is. The predicted class is that with
            the highest score all the same.
    """
    marks = np.zeros(len(rows), np.bool_) if rejected is None else rejected

    def cells() -> Iterator[Sequence[object]]:
        for place, own, mark in zip(_cells(table, rows), scores, marks, strict=True):
            text = [str(score) for score in own]
            best = int(np.argmax(np.where(np.isnan(own), -np.inf, own)))
            yield (*place, table.classes[best], text[best], str(mark).lower(), *text)

    columns = [*_PREDICTION_COLUMNS, _REJECTED, *(_SCORE + name for name in table.classes)]
    write_rows(run.predictions, columns, cells())


@attrs.frozen
class Predictions:
    """The content of `predictions.csv`.

    Attributes:
        classes: the K class names, in the order of the scores.
        clips: the N clips; folds are text, and every clip has a group.
        predicted: the predicted class of each clip.
        scores: `(N, K)` float64.
        rejected: whether each clip is of none of the classes, `(N,)`.
    """

    classes: tuple[str, ...]
    clips: list[Clip]
    predicted: list[str]
    scores: np.ndarray
    rejected: np.ndarray

    @property
    def targets(self) -> np.ndarray:
        """The labels of each clip, `(N, K)` float32 of 0 and 1."""
        codes = {name: code for code, name in enumerate(self.classes)}
        targets = np.zeros((len(self.clips), len(self.classes)), np.float32)
        for row, clip in enumerate(self.clips):
            targets[row, [codes[label] for label in clip.labels]] = 1
        return targets

    @property
    def groups(self) -> list[str]:
        """The name of each clip's group, which is the same in every run on the same data."""
        return [clip.path if clip.group is None else clip.group for clip in self.clips]


def read_predictions(run: RunDirectory) -> Predictions:
    """Read `predictions.csv`; one of an earlier version has no column `rejected`, and no clip is.

    Raises:
        RunError: it is missing or damaged.
    """
    columns, rows = read_table(run.predictions)
    head = len(_PREDICTION_COLUMNS)
    if tuple(columns[:head]) != _PREDICTION_COLUMNS:
        raise RunError(f"{run.predictions}: missing" if not columns else f"{run.predictions}: damaged: its first row")
    marked = columns[head : head + 1] == [_REJECTED]
    first = head + marked
    classes = tuple(name.removeprefix(_SCORE) for name in columns[first:])
    clips, predicted, scores, rejected = [], [], [], []
    for number, row in enumerate(rows, start=2):
        try:
            clips.append(_clip(row, classes))
            scores.append(np.array(row[first:], np.float64))
            rejected.append(_truth(row[head]) if marked else False)
        except ValueError as error:
            raise RunError(f"{run.predictions}: damaged: row {number}: {error}") from None
        predicted.append(row[6])
    table = np.array(scores).reshape(len(clips), len(classes))
    return Predictions(classes, clips, predicted, table, np.array(rejected, np.bool_))


def _truth(cell: str) -> bool:
    if cell not in _TRUTH:
        raise ValueError(f"{_REJECTED} must be true or false, is {cell!r}")
    return _TRUTH[cell]


def _clip(row: Sequence[str], classes: Sequence[str]) -> Clip:
    path, start, stop, fold, group, label = row[:6]
    return Clip(path, _split(label, classes), float(start), float(stop) if stop else None, fold or None, group)


def _cells(table: ClipTable, rows: np.ndarray, *more: Column[str]) -> Iterator[tuple[object, ...]]:
    """The cells of each of `rows` for path, start, stop, fold, group and labels, and those of `more` columns."""
    for own in (rows[first : first + _BLOCK] for first in range(0, len(rows), _BLOCK)):
        columns: list[Column[Any]] = [table.paths, table.folds, table.groups, *more]
        paths, *texts = (column.values(own) for column in columns)
        stops = (None if math.isnan(stop) else stop for stop in table.stops[own].tolist())
        places, codes = table.labels_of(own)
        ends = np.cumsum(np.bincount(places, minlength=len(own))).tolist()
        labels = (_join([table.classes[code] for code in codes[a:b].tolist()]) for a, b in pairwise([0, *ends]))
        yield from zip(paths, table.starts[own].tolist(), stops, *texts[:2], labels, *texts[2:], strict=True)


def _join(labels: Sequence[str]) -> str:
    """Labels in one cell: a single one as it is, several separated by `|`, with `|` and backslashes escaped."""
    if len(labels) == 1:
        return labels[0]
    return "|".join(re.sub(r"([\\|])", r"\\\1", label) for label in labels)


def _split(cell: str, classes: Sequence[str]) -> tuple[str, ...]:
    """The labels of a cell that `_join` made."""
    if cell in classes:
        return (cell,)
    labels = tuple(
        re.sub(r"\\(.)", r"\1", part, flags=re.DOTALL) for part in re.findall(r"(?:\\.|[^\\|])+", cell, re.S)
    )
    if any(label not in classes for label in labels):
        raise ValueError(f"{cell!r} is not among its classes")
    return labels


def _safe(name: str) -> str:
    """A valid file name on any system: other characters become `-`."""
    return re.sub(r"[^\w.-]+", "-", name).strip(".-")[:80] or "run"
