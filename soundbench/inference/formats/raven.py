r"""A selection table for Raven: a header, then one line per selection, with columns separated by tabs.

`Begin Path` and `File Offset (s)` are what Raven opens the sound of a selection by, so that a table may hold selections
of many files. `Begin Time (s)` and `End Time (s)` count from the start of the file, too.
"""

from __future__ import annotations

import os
import re

import attrs

from soundbench.inference.formats.base import Count, Format, Row, iso, one_line
from soundbench.messages import printable

__all__ = ["Raven"]

COLUMNS = (
    "Selection",
    "View",
    "Channel",
    "Begin Time (s)",
    "End Time (s)",
    "Low Freq (Hz)",
    "High Freq (Hz)",
    "Label",
    "Score",
    "Begin File",
    "Begin Path",
    "File Offset (s)",
)
TIMES = ("Begin Date Time", "End Date Time")


@attrs.frozen
class Raven(Format):
    """Selections in sounds, from 0 Hz to the highest frequency of the network's input, numbered from 1."""

    name = "raven"
    timed = True
    counts = False
    file_per_sound = True
    dated = True

    def header(self) -> str:
        """The names of the columns."""
        own = (TIMES if self.times else ()) + tuple(name.capitalize() for name in self.stated)
        return "\t".join(COLUMNS + own) + "\n"

    def lines(self, row: Row | Count, number: int) -> str:
        """A selection for each label to show."""
        assert isinstance(row, Row)
        place = f"Spectrogram 1\t1\t{row.start:.6f}\t{row.end:.6f}\t0.0\t{self.rate / 2:.1f}"
        path = os.path.abspath(row.path)
        file = [printable(os.path.basename(path)), printable(path), f"{row.start:.6f}"]
        file += [iso(row.begin_time), iso(row.end_time)] if self.times else []
        file += self.stated.values()
        return "".join(
            "\t".join([str(number + more), place, one_line(label), f"{score:.4f}", *file]) + "\n"
            for more, (label, score) in enumerate(row.labels.items(), start=1)
        )

    def joined(self, lines: str, number: int) -> str:
        """The lines with other numbers."""
        return re.sub(r"^\d+", lambda own: str(int(own[0]) + number), lines, flags=re.MULTILINE)
