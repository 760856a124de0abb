"""Marks: a table of segments in which a person has written which are right."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator, Mapping
from pathlib import Path

import attrs

from soundbench import files, limits
from soundbench.data.clips import normal
from soundbench.errors import DataError, MissingDataError
from soundbench.inference.review.segments import COLUMNS, TABLE
from soundbench.messages import printable

__all__ = ["Mark", "read_marks"]

_NEEDED = ("path", "label", "score", "correct")
_RIGHT = frozenset({"yes", "y", "true", "1"})
_WRONG = frozenset({"no", "n", "false", "0"})
_OPEN = frozenset({"", "?"})
# So many mistakes are listed.
_LISTED = 20


@attrs.frozen
class Mark:
    """A detection that is marked.

    Attributes:
        path: the sound.
        label: the class.
        score: its score.
        right: whether the class is there.
        where: its place in the table, for messages.
        per: whether it is of a `window` or an `event`; empty if the table does not say.
        model: the digest of the model that gave the score; empty if the table does not say.
    """

    path: str
    label: str
    score: float
    right: bool
    where: str
    per: str = ""
    model: str = ""


def read_marks(path: Path) -> list[Mark]:
    """The marked rows of a table: `segments.csv`, or one with its columns `path`, `label`, `score` and `correct`.

    In `correct` stand yes or no, y or n, true or false, 1 or 0; a row that is empty there, or has ?, is left out.
    Spreadsheets may have changed the commas to semicolons or tabs, and points in numbers to commas.

    Raises:
        MissingDataError: there is no such table.
        DataError: it has mistakes, each on a line with its place; or no row is marked.
    """
    mistakes: list[str] = []
    found: list[Mark] = []
    rows = 0
    for line, row in _rows(path):
        rows += 1
        where = f"{path}: line {line}"
        try:
            mark = _mark(row, where)
        except ValueError as error:
            mistakes.append(f"{where}: {error}")
            continue
        found += [mark] if mark else []
    if len(mistakes) > _LISTED:
        mistakes = [*mistakes[:_LISTED], f"{path}: {len(mistakes) - _LISTED} more lines with mistakes"]
    if mistakes:
        raise DataError("\n".join(mistakes))
    if not found:
        raise DataError(f"{path}: none of its {rows} rows is marked; write yes or no into the column correct")
    return found


def _mark(row: Mapping[str, str], where: str) -> Mark | None:
    """The mark of a row; None if it is not marked."""
    given = row["correct"].strip().casefold()
    if given in _OPEN:
        return None
    if given not in _RIGHT | _WRONG:
        allowed = "yes or no (or y, n, true, false, 1, 0; empty or ? if it is open)"
        raise ValueError(f"correct must be {allowed}, is {_shown(row['correct'])}")
    try:
        score = float(row["score"])
    except ValueError:
        score = math.nan
    if not 0 <= score <= 1:
        raise ValueError(f"score must be a number from 0 to 1, is {_shown(row['score'])}")
    for name in ("path", "label"):
        if not row[name].strip():
            raise ValueError(f"{name} is empty")
    if row.get("per", "") not in ("", "window", "event"):
        raise ValueError(f"per must be window or event, is {_shown(row['per'])}")
    label = str(normal(row["label"]))
    return Mark(row["path"], label, score, given in _RIGHT, where, row.get("per", ""), row.get("model", ""))


def _shown(text: str) -> str:
    return f'"{printable(text)[:40]}"'


def _rows(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """The rows with the number of the line in which each ends."""
    if not path.exists():
        raise MissingDataError(f"{path}: no such table; segments writes one as {TABLE}")
    try:
        with files.explain_os_errors(path):
            text = files.read_bytes(path, limits.TABLE).decode("utf-8-sig")
    except UnicodeDecodeError:
        raise DataError(f"{path}: is not UTF-8; save it as CSV UTF-8") from None
    head = text.partition("\n")[0]
    delimiter = max(",;\t", key=head.count)
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        lacking = [name for name in _NEEDED if name not in (reader.fieldnames or ())]
        if lacking:
            raise DataError(f"{path}: has no column {', '.join(lacking)}; segments writes {', '.join(COLUMNS)}")
        for row in reader:
            if None in row or None in row.values():
                raise DataError(f"{path}: line {reader.line_num}: has not as many cells as the header")
            if delimiter != ",":
                row["score"] = row["score"].replace(",", ".")
            yield reader.line_num, row
    except csv.Error as error:
        raise DataError(f"{path}: line {reader.line_num}: is no CSV: {error}") from None
