"""Tables of a run in columns: a pandas frame where pandas can be imported, else a `Table` of NumPy arrays."""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Iterator, Mapping
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from soundbench import files
from soundbench.errors import RunError
from soundbench.messages import nearest, printable

__all__ = ["Columns", "Frame", "Table", "frame", "pandas", "read_columns"]

Columns = Mapping[str, NDArray[Any]]

Frame = Any
"""A `pandas.DataFrame`, or a `Table` where pandas cannot be imported."""

# The rows and columns that a table shows, and the characters of a cell.
ROWS, COLUMNS, LONGEST = 10, 12, 40


def pandas() -> Any | None:
    """The module pandas; None where it cannot be imported."""
    try:
        return importlib.import_module("pandas")
    except ImportError:
        return None


def frame(columns: Columns) -> Frame:
    """Columns of equal length as a pandas frame, or as a `Table`."""
    module = pandas()
    return Table(columns) if module is None else module.DataFrame(dict(columns))


def read_columns(path: Path, *needed: str, numbers: Callable[[str], bool]) -> Columns:
    """The columns of a CSV file, in its order.

    Args:
        path: the file, which exists.
        needed: columns that it must have.
        numbers: whether the column of a name holds numbers; an empty cell is then NaN. Other columns hold text.

    Returns:
        Arrays `(N,)`, float64 or object (of str).

    Raises:
        RunError: it is damaged: no table, a column is missing, or a cell is not a number where it must be.
    """
    names, rows = files.read_table(path)
    lacking = [name for name in needed if name not in names]
    if lacking:
        raise RunError(f"{path}: damaged: it has no column {', '.join(lacking)}")
    places = [place for place, name in enumerate(names) if numbers(name)]
    others = [place for place in range(len(names)) if place not in set(places)]
    values, texts = [], []
    for number, row in enumerate(rows, start=2):
        try:  # row by row: as text, all scores would take ten times the memory
            values.append(np.array([row[place] or "nan" for place in places], np.float64))
        except ValueError:
            wrong = next(place for place in places if not _is_number(row[place]))
            where = f"row {number}, column {printable(names[wrong])}"
            raise RunError(f"{path}: damaged: {where}: {printable(row[wrong])!r} is not a number") from None
        texts.append([row[place] for place in others])
    found = dict(zip(places, np.array(values, np.float64).reshape(len(values), len(places)).T, strict=True))
    found |= dict(zip(others, np.array(texts, object).reshape(len(texts), len(others)).T, strict=True))
    return {name: found[place] for place, name in enumerate(names)}


def _is_number(cell: str) -> bool:
    try:
        float(cell or "nan")
    except ValueError:
        return False
    return True


class Table:
    """A table of N rows, read-only: `table["label"]` is the column of that name, an array `(N,)`.

    What it offers, a pandas frame offers alike: `table[name]`, `table.columns`, `len(table)` (the rows), `table.shape`,
    `name in table` and iteration (the names), and `dict(table)`.

    Args:
        columns: the columns by their names, of equal length.
    """

    def __init__(self, columns: Columns) -> None:
        self._columns = {name: _read_only(column) for name, column in columns.items()}

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of the columns."""
        return tuple(self._columns)

    @property
    def shape(self) -> tuple[int, int]:
        """The number of rows and of columns."""
        return len(self), len(self._columns)

    def keys(self) -> tuple[str, ...]:
        """The names of the columns, for `dict(table)`."""
        return self.columns

    def __getitem__(self, name: str) -> NDArray[Any]:
        try:
            return self._columns[name]
        except KeyError:
            raise KeyError(f"no column {name!r}{nearest(name, self.columns)}") from None

    def __contains__(self, name: object) -> bool:
        return name in self._columns

    def __iter__(self) -> Iterator[str]:
        return iter(self._columns)

    def __len__(self) -> int:
        return len(next(iter(self._columns.values()), ()))

    def __repr__(self) -> str:
        rows = list(self._rows())
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
        return "\n".join([*(line.rstrip() for line in lines), *self._rest()])

    def _repr_html_(self) -> str:
        """The first rows, for a notebook."""
        tags = ["th", *("td" for _ in range(ROWS))]
        rows = zip(tags, self._rows(), strict=False)
        lines = ["".join(f"<{tag}><bdi>{escape(cell)}</bdi></{tag}>" for cell in row) for tag, row in rows]
        rest = "".join(f"<div>{line}</div>" for line in self._rest())
        return f"<table>{''.join(f'<tr>{line}</tr>' for line in lines)}</table>{rest}"

    def _rows(self) -> Iterator[tuple[str, ...]]:
        """The names of the first columns, and their first rows, as text."""
        names = self.columns[:COLUMNS]
        yield tuple(_cell(name) for name in names)
        for row in range(min(len(self), ROWS)):
            yield tuple(_cell(self._columns[name][row]) for name in names)

    def _rest(self) -> list[str]:
        """The line that says how much is not shown."""
        rows, columns = self.shape
        return [f"... {rows:,} rows, {columns:,} columns in all"] if rows > ROWS or columns > COLUMNS else []


def _read_only(column: NDArray[Any]) -> NDArray[Any]:
    view = column.view()
    view.flags.writeable = False
    return view


def _cell(value: Any) -> str:
    if isinstance(value, str):
        text = printable(value)
        return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"
    if isinstance(value, float):
        return "" if math.isnan(value) else f"{value:.4g}"
    return str(value)
