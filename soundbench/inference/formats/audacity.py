"""Labels for a label track of Audacity: start, end and label in each line, separated by tabs, without a header."""

from __future__ import annotations

import attrs

from soundbench.inference.formats.base import Count, Format, Row, one_line

__all__ = ["Audacity"]


@attrs.frozen
class Audacity(Format):
    """A label track of one sound."""

    name = "audacity"
    timed = True
    counts = False
    states = False
    file_per_sound = True
    one_file = False

    def lines(self, row: Row | Count, number: int) -> str:
        """A line for each label to show."""
        assert isinstance(row, Row)
        return "".join(f"{row.start:.6f}\t{row.end:.6f}\t{one_line(label)}\n" for label in row.labels)
