"""What every output format has, and the rows that it writes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar

import attrs

from soundbench.errors import CallError
from soundbench.messages import printable

__all__ = ["Format", "Row", "one_line"]


@attrs.frozen
class Row:
    """The prediction for a sound, a window of it or an event in it.

    Attributes:
        path: the sound.
        label: the best class, or the event's.
        score: its score.
        labels: the classes to show, with their scores, highest first; possibly none.
        scores: the score of each class to report; None for events.
        start: seconds from the beginning of the sound; None for a whole sound.
        end: the same, of its end.
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
        per: what a row describes: clip, window or event.
        classes: the classes with a column of scores, in this order; none for no such columns.
        rate: the model's sample rate in Hz; its input holds no frequency above half of it.
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
        """The lines of a row, the `number`-th of its sound, counted from 0."""

    def document(self, lines: str) -> str:
        """The whole file of a sound, from the `lines` of all its rows."""
        return self.header() + lines

    def error(self, path: str, reason: str) -> str:
        """The line of a sound that could not be scored; empty if the format has no place for it."""
        return ""


def one_line(label: str) -> str:
    """A label without tabs, line breaks and other control characters."""
    return printable(" ".join(label.split())) or "?"
