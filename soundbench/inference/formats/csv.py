"""CSV with a header, one line per row (RFC 4180, but lines end in LF); on request one column of scores per class."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence

import attrs

from soundbench.inference.formats.base import Format, Row, iso

__all__ = ["Csv"]


@attrs.frozen
class Csv(Format):
    r"""Comma-separated values; the labels of a row share a cell: `|` between them, `\` before a `|` or `\` inside."""

    name = "csv"
    suffix = ".csv"
    dated = True

    def header(self) -> str:
        """The names of the columns."""
        span = [] if self.per == "clip" else ["start", "end"]
        span += ["begin_time", "end_time"] if self.times else []
        near = ["nearest", "rejected"] if self.rejects else []
        more = [] if self.per == "event" else [*near, "labels", *self.classes]
        return _joined(["path", *span, "label", "score", *more])

    def lines(self, row: Row, number: int) -> str:
        """The cells of a row."""
        span = [] if row.start is None else [_short(row.start), _short(row.end or 0.0)]
        span += [iso(row.begin_time), iso(row.end_time)] if self.times else []
        cells = [row.path, *span, row.label, _short(row.score)]
        if row.scores is not None:
            cells += [row.nearest or "", str(row.rejected).lower()] if self.rejects else []
            cells += [
                "|".join(re.sub(r"([\\|])", r"\\\1", label) for label in row.labels),
                *(_short(row.scores[label]) for label in self.classes),
            ]
        return _joined(cells)


def _joined(cells: Sequence[str]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(cells)
    return text.getvalue()


def _short(value: float) -> str:
    return f"{value:.6f}".rstrip("0").rstrip(".")
