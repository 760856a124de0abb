"""CSV with a header, one line per row (RFC 4180, but lines end in LF); on request one column of scores per class.

Every row has as many cells as the header, in UTF-8, and what is unknown is an empty cell: R's `read.csv` makes NA of it
in columns of numbers, and with `na.strings = ""` in those of text, where a class may be called NA. `rejected` is TRUE
or FALSE, which R and pandas both read as such.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence

import attrs

from soundbench.inference.formats.base import Count, Format, Row, iso

__all__ = ["Csv", "split_labels"]


@attrs.frozen
class Csv(Format):
    r"""Comma-separated values; the labels of a row share a cell: `|` between them, `\` before a `|` or `\` inside."""

    name = "csv"
    suffix = ".csv"
    dated = True

    def header(self) -> str:
        """The names of the columns."""
        return _joined([*self.columns, *self.score_columns.values()])

    def lines(self, row: Row | Count, number: int) -> str:
        """The cells of a row."""
        if isinstance(row, Count):
            cells = [row.path, row.label or "", str(row.count)]
            cells += [_short(value) for value in (row.seconds, row.best_score, row.first_start)]
            return _joined([*cells, *([iso(row.first_begin_time)] if self.times else []), *self.stated.values()])
        span = [] if row.start is None else [_short(row.start), _short(row.end or 0.0)]
        span += [iso(row.begin_time), iso(row.end_time)] if self.times else []
        cells = [row.path, *span, row.label, _short(row.score)]
        if row.scores is not None:
            cells += [row.nearest or "", str(row.rejected).upper()] if self.rejects else []
            cells.append("|".join(re.sub(r"([\\|])", r"\\\1", label) for label in row.labels))
        scores = [_short((row.scores or {})[label]) for label in self.score_columns]
        return _joined([*cells, *self.stated.values(), *scores])


def split_labels(cell: str) -> list[str]:
    """The labels that share a cell."""
    found = re.findall(r"((?:[^\\|]|\\.)+)", cell, flags=re.DOTALL)
    return [re.sub(r"\\(.)", r"\1", label, flags=re.DOTALL) for label in found]


def _joined(cells: Sequence[str]) -> str:
    r"""One row. The csv module quotes only the line breaks of its line terminator, so that is `\r\n` at first."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\r\n").writerow(cells)
    return text.getvalue()[:-2] + "\n"


def _short(value: float | None) -> str:
    return "" if value is None else f"{value:.6f}".rstrip("0").rstrip(".")
