"""A selection table for Raven: a header, then one line per selection, with columns separated by tabs."""

from __future__ import annotations

import attrs

from soundbench.inference.formats.base import Format, Row, one_line

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
)


@attrs.frozen
class Raven(Format):
    """Selections in one sound, from 0 Hz to the highest frequency of the network's input."""

    name = "raven"
    timed = True
    file_per_sound = True

    def header(self) -> str:
        """The names of the columns."""
        return "\t".join(COLUMNS) + "\n"

    def lines(self, row: Row, number: int) -> str:
        """A selection for each label to show."""
        place = f"Spectrogram 1\t1\t{row.start:.6f}\t{row.end:.6f}\t0.0\t{self.rate / 2:.1f}"
        return "".join(
            f"{number + 1 + more}\t{place}\t{one_line(label)}\t{score:.4f}\n"
            for more, (label, score) in enumerate(row.labels.items())
        )
