"""The results of `soundbench infer`, read again from CSV, JSON lines or Parquet: what was found, where, how surely."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs

from soundbench import files, limits
from soundbench.errors import DataError, MissingDataError, RunError
from soundbench.inference.formats.csv import split_labels
from soundbench.inference.formats.parquet import pyarrow
from soundbench.inference.journal import SETTINGS
from soundbench.messages import printable

__all__ = ["Detection", "Results"]

_NAMES = ("results.csv", "results.jsonl", "results.parquet")
_NEEDED = ("path", "start", "end", "label", "score")
# Rows of a Parquet file in memory at a time.
_BATCH = 10_000

Cells = Mapping[str, Any]


@attrs.frozen
class Detection:
    """A class that was found in a stretch of a sound.

    Attributes:
        path: the sound, as the results name it.
        start: seconds from the beginning of the sound.
        end: seconds from the beginning of the sound.
        label: the class.
        score: its score.
    """

    path: str
    start: float
    end: float
    label: str
    score: float


@attrs.frozen
class Results:
    """The results of windows or events.

    Attributes:
        path: the file.
        per: what its rows describe, `window` or `event`.
        scores: the digest of the model that gave the scores, as `model.folder.scores_digest`; empty if unknown.

    Raises:
        MissingDataError: there is no such file.
        DataError: it holds no results of windows or events.
    """

    path: Path
    per: str
    scores: str

    @classmethod
    def of(cls, place: Path) -> Results:
        """The results in a file, or in the folder that `infer --out` wrote."""
        if place.is_dir():
            found = [place / name for name in _NAMES if (place / name).is_file()]
            if not found:
                raise DataError(
                    f"{place}: holds no {', '.join(_NAMES[:-1])} or {_NAMES[-1]}, as infer --out writes them"
                )
            settings = files.read_json(place / SETTINGS, "work") if (place / SETTINGS).exists() else {}
            return cls(found[0], _per(found[0]), str(settings.get("scores", "")))
        if not place.exists():
            raise MissingDataError(f"{place}: no such file or folder")
        return cls(place, _per(place), "")

    def detections(self) -> Iterator[Detection]:
        """What was found, row by row; a row of a window has a detection for each of its labels whose score it states.

        Raises:
            DataError: a row that cannot be read, with its number.
        """
        for where, row in _rows(self.path):
            try:
                start, end = (_number(row, name, where) for name in ("start", "end"))
                if not 0 <= start < end:
                    raise DataError(f"{where}: a stretch has 0 <= start < end, is {start:g} to {end:g}")
                for label, score in _labels(row, where).items():
                    yield Detection(str(row["path"]), start, end, label, score)
            except KeyError as error:
                raise DataError(f"{where}: has no {error.args[0]}") from None


def _labels(row: Cells, where: str) -> dict[str, float]:
    """The labels of a row with their scores; none if the sound was rejected."""
    best = {str(row["label"]): _number(row, "score", where)}
    given = row.get("labels")
    if given is None:  # of an event
        return best
    if not isinstance(given, str | list):
        raise DataError(f"{where}: labels must be a list, is {printable(str(given))[:40]!r}")
    labels = split_labels(given) if isinstance(given, str) else list(map(str, given))
    scores = row.get("scores")
    found = {}
    for label in labels:
        column = f"score:{label}" if f"score:{label}" in row else label
        if isinstance(scores, Mapping):
            found[label] = _number(scores, label, where)
        elif label in best:
            found[label] = best[label]
        elif column in row:
            found[label] = _number(row, column, where)
    return found


def _number(row: Cells, name: str, where: str) -> float:
    """A finite number; a score is from 0 to 1."""
    value = row[name]
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number) or (name not in ("start", "end") and not 0 <= number <= 1):
        wanted = "seconds" if name in ("start", "end") else "a number from 0 to 1"
        raise DataError(f"{where}: {name} must be {wanted}, is {printable(str(value))[:40]!r}")
    return number


def _per(path: Path) -> str:
    """What the rows of a file describe."""
    row: Cells = next((row for _, row in _rows(path)), dict.fromkeys(_NEEDED))
    if "count" in row and "start" not in row:
        raise DataError(f"{path}: holds counts, no windows or events: run infer without --summary")
    if "start" not in row and "label" in row:
        raise DataError(f"{path}: its rows are whole clips: run infer with --per event or --per window")
    lacking = [name for name in _NEEDED if name not in row]
    if lacking:
        raise DataError(
            f"{path}: has no {', '.join(lacking)}; it must be CSV, JSON lines or Parquet of infer --per event or window"
        )
    return "window" if "labels" in row else "event"


def _rows(path: Path) -> Iterator[tuple[str, Cells]]:
    """The rows of a file, each with its place in messages."""
    with files.explain_os_errors(path), files.open_regular(path) as file:
        first = file.read(4)
    read: Callable[[Path], Iterator[tuple[str, Cells]]] = _of_csv
    if first == b"PAR1":
        read = _of_parquet
    elif first.startswith(b"{"):
        read = _of_json
    yield from read(path)


def _of_csv(path: Path) -> Iterator[tuple[str, Cells]]:
    with files.explain_os_errors(path), files.open_text(path, limits.TABLE, newline="") as file:
        reader = csv.DictReader(file, strict=True)
        try:
            if not set(_NEEDED) <= set(reader.fieldnames or ()):  # of whole clips, or no results
                yield f"{path}: line 1", dict.fromkeys(reader.fieldnames or ())
                return
            for row in reader:
                where = f"{path}: line {reader.line_num}"
                if None in row or None in row.values():
                    raise DataError(f"{where}: has not as many cells as the header")
                yield where, row
        except (csv.Error, UnicodeDecodeError) as error:
            raise DataError(f"{path}: line {reader.line_num}: is no CSV in UTF-8: {error}") from None


def _of_json(path: Path) -> Iterator[tuple[str, Cells]]:
    with files.explain_os_errors(path), files.open_text(path, limits.TABLE, errors="replace") as file:
        for number, line in enumerate(file, start=1):
            try:
                row = files.parse_json(line)
            except ValueError as error:
                raise DataError(f"{path}: line {number}: is no JSON: {error}") from None
            if not isinstance(row, dict):
                raise DataError(f"{path}: line {number}: is no JSON object")
            if "error" in row and "label" not in row:  # of a sound that could not be scored
                continue
            yield f"{path}: line {number}", row


def _of_parquet(path: Path) -> Iterator[tuple[str, Cells]]:
    arrow, parquet = pyarrow()
    number = 0
    try:
        with parquet.ParquetFile(path) as file:
            if not set(_NEEDED) <= set(names := file.schema_arrow.names):  # of whole clips, or no results
                yield f"{path}: row 0", dict.fromkeys(names)
                return
            for batch in file.iter_batches(_BATCH):
                for row in batch.to_pylist():
                    number += 1
                    yield f"{path}: row {number}", row
    except (arrow.ArrowException, OSError, UnicodeDecodeError) as error:
        raise RunError(f"{path}: damaged: {' '.join(str(error).split())}") from None
