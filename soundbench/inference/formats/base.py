"""What every output format has, and the rows that it writes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar

import attrs

from soundbench.errors import CallError

__all__ = ["Format", "Row", "one_line"]


@attrs.frozen
class Row:
    """The prediction for a sound, a window of it or an event in it.

    Attributes:
        path: the sound.
        label: the best class, or the event's.
        score: its score.
        labels: those to show, with their scores, highest first; maybe none.
        scores: of every class to report; None for events.
        start: seconds; None for a whole sound.
        end: seconds.
    """

    path: str
    label: str
    score: float
    labels: Mapping[str, float]
    scores: Mapping[str, float] | None = None
    start: float | None = None
    end: float | None = None


@attrs.frozen
class Format(ABC):
    """How rows are written; a format is a subclass.

    Attributes:
        per: what a row is of: clip, window or event.
        classes: in the order of columns; none leaves out all scores where they are columns.
        rate: samples a second of the network's input, which holds nothing above half of it.
        name: its name in `FORMATS`.
        suffix: of its files.
        timed: whether rows need a start and an end.
        file_per_sound: whether each sound has a file of its own, made by `document`; otherwise one file holds all.

    Raises:
        CallError: rows of whole clips, which have no start and no end, where they need them.
    """

    per: str
    classes: Sequence[str] = ()
    rate: int = 0

    name: ClassVar[str]
    suffix: ClassVar[str] = ".txt"
    timed: ClassVar[bool] = False
    file_per_sound: ClassVar[bool] = False

    def __attrs_post_init__(self) -> None:
        if self.timed and self.per == "clip":
            raise CallError(f"{self.name} labels have a start and an end: use --per event or --per window")

    def header(self) -> str:
        """What a file begins with."""
        return ""

    @abstractmethod
    def lines(self, row: Row, number: int) -> str:
        """A row, the `number`-th of its sound from 0 on, as lines."""

    def document(self, lines: str) -> str:
        """The whole file of a sound, from the `lines` of all its rows."""
        return self.header() + lines

    def error(self, path: str, reason: str) -> str:
        """A sound without rows and the reason, as a line; none where the format has no place for it."""
        return ""


def one_line(label: str) -> str:
    """A label that ends neither a cell nor a line."""
    return " ".join(label.split()) or "?"
