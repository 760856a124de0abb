"""The rows of a manifest: of a table, a selection table of Raven, JSON lines, or a list of paths and class numbers."""

from __future__ import annotations

import difflib
import json
import math
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from soundbench.errors import DataError
from soundbench_plugins.layers.text_tables import MOST_COLUMNS, cells_of, header_of, opened

__all__ = [
    "COLUMNS",
    "RAVEN_LABELS",
    "BadRow",
    "Faults",
    "Fields",
    "Listed",
    "Row",
    "is_half",
    "is_raven",
    "misspelt",
    "named_cells",
    "raven_selections",
    "rows_of",
    "seconds_or_none",
    "short",
]

COLUMNS = ("path", "label", "labels", "start", "stop", "fold", "group")
HALF = re.compile("[\ud800-\udc7f\udd00-\udfff]")
MOST = 10  # bad rows that a message shows
NAMELESS = re.compile(r"|Unnamed: \d+")  # a column of row numbers, as pandas writes it

BEGIN, END, OFFSET = "begin time (s)", "end time (s)", "file offset (s)"
RAVEN_LABELS = ("label", "annotation", "species", "class", "common name", "tag", "type", "sound type", "call type")


class BadRow(Exception):
    """What is wrong with a row."""

    def __str__(self) -> str:
        return short(super().__str__())


class Faults:
    """The bad rows of a file, the first few with their errors."""

    def __init__(self, file: Path) -> None:
        self.file, self.count, self.lines = file, 0, list[str]()

    @property
    def shown(self) -> bool:
        """Whether another bad row is shown with its error."""
        return len(self.lines) < MOST

    def add(self, line: int, error: BadRow) -> None:
        """Count a bad row."""
        if self.shown:
            self.lines.append(f"{self.file}, line {line}: {error}")
        self.count += 1

    def check(self) -> None:
        """Raise a `DataError` if there are bad rows."""
        rest = self.count - len(self.lines)
        if self.lines:
            raise DataError("\n".join(self.lines + [f"{self.file}: {rest} more bad rows"] * (rest > 0)))


Fields = dict[str, Any]
Row = tuple[int, Fields | BadRow]  # its line, and its cells by name or its error


class Listed(Fields):
    """The fields of a row of a list; its class number is none of them, as a table may have a column of any name."""

    def __init__(self, path: str, number: str) -> None:
        super().__init__(path=path)
        self.number = number


def rows_of(file: Path, numbers: bool) -> Iterator[Row]:
    """The rows of a manifest, by its suffix or its first line.

    Args:
        file: the manifest.
        numbers: whether the names of class numbers are known, so that it may be a list of them.

    Raises:
        MissingDataError: it does not exist.
        DataError: it cannot be read, has no header, or more than a thousand columns.
    """
    if file.suffix.lower() == ".jsonl":
        yield from _jsonl_rows(file)
        return
    with opened(file, "a manifest") as lines:
        number, line, header, separator = header_of(file, lines, _is_header)
        if separator:
            rows = _table_rows(f"{file}, line {number}", header, cells_of(file, lines, line, number, separator))
            yield from _raven_rows(file, header, rows) if is_raven(header) else rows
            return
    if number and file.suffix.lower() in (".csv", ".tsv"):
        has = f"must have the columns path and label (or labels), has {short(', '.join(header))}"
        raise DataError(f"{file}, line {number}: {has}")
    if number and not numbers:
        raise DataError(
            f"{file}: has no header with the columns path and label; if it is a list of paths and class numbers, "
            "dataset.labels must be the file of the class names"
        )
    yield from _list_rows(file)


def _is_header(cells: Sequence[str]) -> bool:
    names = {cell.casefold() for cell in cells}
    return ("path" in names and bool({"label", "labels"} & names)) or is_raven(cells)


def is_raven(cells: Sequence[str]) -> bool:
    """Whether these are the columns of a selection table."""
    return {BEGIN, END} <= {cell.casefold() for cell in cells}


def _table_rows(place: str, header: Sequence[str], rows: Iterator[tuple[int, list[str]]]) -> Iterator[Row]:
    raven = is_raven(header)
    names = [_column(name) for name in header]
    for name in names:
        reason = "" if raven else misspelt(name, names)
        if reason or (name and names.count(name) > 1):
            raise DataError(f"{place}: column {short(name)!r} {reason or 'appears twice'}")
    yield from named_cells(names, rows)


def named_cells(names: Sequence[str], rows: Iterator[tuple[int, list[str]]]) -> Iterator[Row]:
    """The cells of each row by the names of their columns; a column of row numbers may have none."""
    nameless = [place for place, name in enumerate(names) if not name]
    verbatim = [place for place, name in enumerate(names) if name == "path"]
    for line, cells in rows:
        if len(cells) != len(names):
            hint = "; quote a text that holds the separator" if len(cells) > len(names) else ""
            yield line, BadRow(f"{len(cells)} cells under {len(names)} columns{hint}")
            continue
        lost = [cells[place] for place in nameless if not re.fullmatch(r"\s*\d*\s*", cells[place])]
        if lost:
            yield line, BadRow(f"the cell {lost[0]!r} is under a column without a name")
            continue
        row = dict(zip(names, map(str.strip, cells), strict=True))
        row.update(("path", cells[place]) for place in verbatim)
        row.pop("", None)
        yield line, row


def _column(name: str) -> str:
    """The name of a column: without case if it is a manifest's own, empty if it has none."""
    lower = name.casefold()
    return lower if lower in COLUMNS else "" if NAMELESS.fullmatch(name) else name


def misspelt(name: str, names: Sequence[str], known: Sequence[str] = COLUMNS) -> str:
    """The message for a column or key that looks like one of those `known`, which is not among `names`."""
    lower = name.casefold()
    if not name or lower in known:
        return ""
    near = [one for one in known if sorted(one) == sorted(lower)] or difflib.get_close_matches(
        lower, known, n=1, cutoff=0.85
    )
    return f"is unknown; did you mean {near[0]!r}?" if near and near[0] not in names else ""


def _raven_rows(file: Path, header: Sequence[str], rows: Iterator[Row]) -> Iterator[Row]:
    """The rows of a selection table: one for each selection, though Raven writes one for each view of it."""
    names = {name.casefold(): name for name in header}
    labels = [names[name] for name in RAVEN_LABELS if name in names]
    path = [names[name] for name in ("path", "begin path", "begin file") if name in names]
    if not path:
        raise DataError(
            f"{file}: a selection table needs a column Begin File or Begin Path; has {short(', '.join(header))}"
        )
    if len(labels) != 1:
        found = f"has {', '.join(labels)}; rename all but one" if labels else "such as Annotation or Species"
        raise DataError(f"{file}: a selection table needs one column with the label: {found}")

    def place(row: Fields) -> str:
        paths = [str(row[name]) for name in path if row[name]]
        return next((one for one in paths if os.path.lexists(file.parent / one)), (paths or [""])[-1])

    used = {*path, *labels, names[BEGIN], names[END], names.get("view")}
    for line, row in raven_selections(names, rows, place):
        if not isinstance(row, BadRow):
            rest = {name: cell for name, cell in row.items() if name not in used}
            row = {**rest, "path": row["path"], "label": row[labels[0]], "start": row["start"], "stop": row["stop"]}
        yield line, row


def raven_selections(names: Mapping[str, str], rows: Iterator[Row], place: Callable[[Fields], str]) -> Iterator[Row]:
    """The rows of a selection table with `path`, `start` and `stop`: one for each selection.

    Raven writes one for each view of a selection. In a table of several files, `Begin Time (s)` counts from the first
    one, and `File Offset (s)` from the start of its own.

    Args:
        names: the columns, by their names in lower case.
        rows: all rows.
        place: the path of the sound that a row names.
    """
    view = last = None
    for line, row in rows:
        if isinstance(row, BadRow):
            yield line, row
            continue
        view = view or row.get(names.get("view", ""))
        if row.get(names.get("view", "")) != view:
            continue
        begin, end = (seconds_or_none(row[names[name]]) for name in (BEGIN, END))
        path = place(row)
        if begin is None or end is None:
            given = f"{row[names[BEGIN]]!r}, {row[names[END]]!r}"
            yield line, BadRow(f"Begin Time and End Time must be seconds, are {given}")
            continue
        if OFFSET in names:
            offset = seconds_or_none(row[names[OFFSET]])
            begin, end = (offset, end + (offset - begin)) if offset is not None else (begin, end)
        elif last and last[0] != path and begin >= last[1]:
            yield line, BadRow("Begin Time may count from the first of several files; add the column File Offset (s)")
            continue
        last = (path, begin)
        yield line, {**row, "path": path, "start": begin, "stop": end}


def seconds_or_none(cell: str) -> float | None:
    """Seconds from 0 up; None for what is none."""
    try:
        return value if 0 <= (value := float(cell)) < math.inf else None
    except ValueError:
        return None


def _jsonl_rows(file: Path) -> Iterator[Row]:
    names = set[str]()
    with opened(file, "a manifest") as text:
        for line, row in enumerate(text, start=1):
            if not row.strip():
                continue
            try:
                fields = json.loads(row)
            except (ValueError, RecursionError) as error:
                reason = "nested too deeply" if isinstance(error, RecursionError) else error
                yield line, BadRow(f"not JSON: {reason}")
                continue
            if not isinstance(fields, dict):
                yield line, BadRow("not a JSON object")
                continue
            fields = {_column(name): value for name, value in fields.items()}
            names.update(fields)
            if len(names) > MOST_COLUMNS:  # each is a column, with a place for every row
                raise DataError(f"{file}, line {line}: {len(names):,} different keys; at most {MOST_COLUMNS} are read")
            wrong = next((name for name in fields if misspelt(name, list(fields))), None)
            yield line, BadRow(f"key {wrong!r} {misspelt(wrong, list(fields))}") if wrong else fields


def _list_rows(file: Path) -> Iterator[Row]:
    with opened(file, "a list of sound files") as text:
        for line, row in enumerate(text, start=1):
            path, tab, number = row.rstrip("\r\n").rpartition("\t")
            if tab:
                yield line, Listed(path, number.strip())
            elif row.strip():
                yield line, BadRow("no tab; a line must be a path, a tab and a class number")


def is_half(text: str) -> bool:
    """Whether a text has half of a character, which JSON can write and no file name can have."""
    return not text.isascii() and HALF.search(text) is not None


def short(text: str) -> str:
    """A text for a message, with its middle left out if it is long."""
    return text if len(text) <= 300 else f"{text[:200]} ... {text[-90:]}"
