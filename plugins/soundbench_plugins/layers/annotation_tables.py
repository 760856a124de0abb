"""Tables of annotations: selection tables of Raven, label files of Audacity, other tables with begin and end.

Each row is a stretch of a recording with a label. A table names the recording of a row, or all rows are of the one that
the table is named after; which file that is, is the reader's to find.
"""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import attrs

from soundbench.errors import DataError
from soundbench_plugins.layers.label_list import normal_label
from soundbench_plugins.layers.manifest_rows import (
    RAVEN_LABELS,
    BadRow,
    Fields,
    Row,
    is_raven,
    misspelt,
    named_cells,
    raven_selections,
    seconds_or_none,
    short,
)
from soundbench_plugins.layers.text_tables import cells_of, header_of, opened

__all__ = ["SUFFIXES", "Marked", "marks_of", "names_of"]

SUFFIXES = (".txt", ".csv", ".tsv")

PATHS = ("path", "begin path", "begin file", "file", "filename", "file name")
BEGINS = ("begin", "start", "onset", "begin (s)", "start (s)")
ENDS = ("end", "stop", "offset", "end (s)", "stop (s)")
LABELS = (*RAVEN_LABELS, "event_label")
OWN = (
    *("path", "begin", "start", "onset", "end", "stop", "offset", "label", "fold", "group"),
    *("begin time (s)", "end time (s)"),
)
KNOWN = frozenset((*PATHS, *BEGINS, *ENDS, *LABELS, "begin time (s)", "end time (s)", "selection"))
KINDS = (
    "a selection table of Raven (Begin Time (s), End Time (s)), a label file of Audacity (begin, tab, end, tab, label) "
    "or a table with the columns begin, end and label"
)


@attrs.frozen
class Marked:
    """A row of a table.

    Attributes:
        paths: what the row says of where its recording is, the best first; empty for that of the table.
        label: the label; None for a recording that is listed without an annotation.
        start: seconds from the start of the recording.
        stop: seconds from the start of the recording.
        fold: the fold of the recording, if the table has any.
        group: its group.
    """

    paths: tuple[str, ...]
    label: str | None
    start: float = 0.0
    stop: float = 0.0
    fold: str | None = None
    group: str | None = None


def marks_of(file: Path, label: str | None) -> Iterator[tuple[int, Marked | BadRow]]:
    """The rows of a table, each with its line.

    Args:
        file: the table; an empty one is a label file without labels.
        label: the column of the label; None for `label`, else for the one that is named as Raven's users do.

    Raises:
        MissingDataError: it does not exist.
        DataError: it cannot be read, or is no table of annotations.
    """
    with opened(file, "a table of annotations") as lines:
        number, line, header, separator = header_of(file, lines, _is_header)
        if separator:
            rows = _rows(file, number, header, cells_of(file, lines, line, number, separator), label)
        elif not number or _may_be_audacity(line):
            rows = _audacity_rows(itertools.chain([line] if number else [], lines), max(number, 1))
        else:
            raise DataError(f"{file}, line {number}: is no table of annotations, which is {KINDS}")
        yield from rows


def _is_header(cells: Sequence[str]) -> bool:
    words = len(cells) > 1 and all(seconds_or_none(cell) is None for cell in cells[:2])
    return words and any(cell.casefold() in KNOWN for cell in cells)


# Tables with a header -------------------------------------------------------------------------------------------------


def _rows(
    file: Path, number: int, header: Sequence[str], cells: Iterator[tuple[int, list[str]]], label: str | None
) -> Iterator[tuple[int, Marked | BadRow]]:
    names = {name.casefold(): name for name in header}
    place = f"{file}, line {number}"
    raven = is_raven(header)
    if twice := next((name for name in header if name and header.count(name) > 1), None):
        raise DataError(f"{place}: column {short(twice)!r} appears twice")
    if not raven and (wrong := next((name for name in header if misspelt(name, list(names), OWN)), None)):
        raise DataError(f"{place}: column {short(wrong)!r} {misspelt(wrong, list(names), OWN)}")
    begin, end = (next((names[name] for name in known if name in names), None) for known in (BEGINS, ENDS))
    if not raven and not (begin and end):
        raise DataError(f"{place}: has {short(', '.join(header))}; it must be {KINDS}")
    column = _label_column(place, names, label)
    paths = [names[name] for name in PATHS if name in names]
    rows = named_cells(header, cells)
    timed = raven_selections(names, rows, lambda row: next((row[name] for name in paths if row[name]), ""))
    for line, row in timed if raven else _with_times(rows, begin or "", end or ""):
        yield line, row if isinstance(row, BadRow) else _marked(row, names, paths, column)


def _label_column(place: str, names: Mapping[str, str], label: str | None) -> str:
    if label is not None:
        if label.casefold() not in names:
            raise DataError(f"{place}: no column {label!r}, which dataset.label names; has {short(', '.join(names))}")
        return names[label.casefold()]
    found = [names[name] for name in (["label"] if "label" in names else LABELS) if name in names]
    if len(found) != 1:
        has = f"has {', '.join(found)}: rename one to label, or name it in dataset.label"
        has = has if found else f"has {short(', '.join(names))}"
        raise DataError(f"{place}: needs one column with the label, such as label, Annotation or Species; {has}")
    return found[0]


def _with_times(rows: Iterator[Row], begin: str, end: str) -> Iterator[Row]:
    for line, row in rows:
        if isinstance(row, BadRow) or not (row[begin] or row[end]):
            yield line, row
            continue
        start, stop = seconds_or_none(row[begin]), seconds_or_none(row[end])
        if start is None or stop is None:
            yield line, BadRow(f"{begin} and {end} must be seconds, are {row[begin]!r}, {row[end]!r}")
        else:
            yield line, {**row, "start": start, "stop": stop}


def _marked(row: Fields, names: Mapping[str, str], columns: Sequence[str], label: str) -> Marked | BadRow:
    paths = tuple(row[name] for name in columns if row[name])
    fold, group = (row.get(names.get(name, ""), "") or None for name in ("fold", "group"))
    if not isinstance(row.get("start"), float):
        if row[label] or not paths:
            return BadRow("no times")
        return Marked(paths, None, fold=fold, group=group)
    return _checked(Marked(paths, row[label], row["start"], row["stop"], fold, group))


def _checked(mark: Marked) -> Marked | BadRow:
    """The row with its label in normal form."""
    if mark.stop == mark.start:
        return BadRow(f"a point at {mark.start:g} s; an annotation has an end after its begin")
    if mark.stop < mark.start:
        return BadRow(f"ends at {mark.stop:g} s, before it begins at {mark.start:g} s")
    try:
        return attrs.evolve(mark, label=normal_label(mark.label or ""))
    except BadRow as error:
        return error


# Label files of Audacity ----------------------------------------------------------------------------------------------


def _may_be_audacity(line: str) -> bool:
    cells = line.split("\t")
    return len(cells) > 1 and any(seconds_or_none(cell) is not None for cell in cells[:2])


def _audacity_rows(lines: Iterator[str], number: int) -> Iterator[tuple[int, Marked | BadRow]]:
    """The labels of a track. Audacity sorts them by their begin, and writes frequencies in a line of their own."""
    last = 0.0
    for line, text in enumerate(lines, start=number):
        if not text.strip() or text.startswith("\\"):
            continue
        cells = text.rstrip("\r\n").split("\t", 2)
        start, stop = ([*map(seconds_or_none, cells[:2]), None, None])[:2]
        if start is None or stop is None:
            yield line, BadRow(f"must be begin, tab, end, tab, label, with times in seconds, is {text.strip()!r}")
        elif start < last:
            yield (
                line,
                BadRow(
                    f"begins at {start:g} s, before the line above ({last:g} s): are these labels of two recordings? "
                    "Give each a file of its own; labels of one are sorted by their begin"
                ),
            )
        else:
            last = start
            yield line, _checked(Marked((), cells[2] if len(cells) > 2 else "", start, stop))


# The recording that a table is named after ----------------------------------------------------------------------------


def names_of(table: str) -> Iterator[str]:
    """What the recording of a table may be called, with or without its suffix, the longest first.

    `a.wav.txt`, as infer writes it, `a.Table.1.selections.txt`, as Raven does, and `a.txt` are all of `a.wav`.
    """
    name = os.path.basename(table)
    for found in sorted((match.start() for match in re.finditer(r"\.", name)), reverse=True):
        if found:
            yield name[:found]
