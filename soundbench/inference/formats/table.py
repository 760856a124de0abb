"""A table for people: one line per row, with tabs between the path, the times and the labels with their scores."""

from __future__ import annotations

import attrs

from soundbench.inference.formats.base import Count, Format, Row
from soundbench.messages import printable

__all__ = ["Table"]


@attrs.frozen
class Table(Format):
    """Lines of columns separated by tabs."""

    name = "table"

    def header(self) -> str:
        """The precision, where it is stated."""
        return f"scores are computed in {self.precision}\n" if self.stated else ""

    def lines(self, row: Row | Count, number: int) -> str:
        """The path, the start and end if there are any, and each label to show with its score."""
        if isinstance(row, Count):
            return f"{printable(row.path)}\t{_counted(row, self.per)}\n"
        span = [] if row.start is None else [f"{row.start:.2f}", f"{row.end:.2f}"]
        labels = [f"{printable(label)} {score:.4f}" for label, score in row.labels.items()]
        if row.rejected:
            labels = [f"{row.label} (nearest: {printable(row.nearest or '')} {row.score:.4f})"]
        return "\t".join([printable(row.path), *span, *labels]) + "\n"

    def error(self, path: str, reason: str) -> str:
        """The path and the reason, as a line of the table."""
        return f"{printable(path)}\terror: {printable(reason)}\n"


def _counted(row: Count, per: str) -> str:
    """What was found, how often, when first and how surely."""
    if row.label is None:
        return f"no {per}"
    some = f"{row.count} {per}{'s' * (row.count != 1)}, {row.seconds:.2f} s"
    return f"{printable(row.label)}\t{some}, best {row.best_score:.4f}, first at {row.first_start:.2f} s"
