"""What every output format has, and the rows that it writes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import ClassVar

import attrs

from soundbench.errors import CallError
from soundbench.messages import printable

__all__ = ["Format", "Row", "iso", "moment", "one_line"]


@attrs.frozen
class Row:
    """The prediction for a sound, a window of it or an event in it.

    Attributes:
        path: the sound.
        label: the best class, or the event's; `unknown` where the sound is of none of the classes.
        score: the score of the best class, or the event's.
        labels: the classes to show, with their scores, highest first; possibly none.
        scores: the score of each class to report; None for events.
        start: seconds from the beginning of the sound; None for a whole sound.
        end: the same, of its end.
        begin_time: when it began, by the clock of the recorder, with its zone if that is known; None if unknown.
        end_time: when it ended.
        nearest: the best class, also where the sound is of none of the classes; None for events.
        rejected: whether the sound is of none of the classes.
    """

    path: str
    label: str
    score: float
    labels: Mapping[str, float]
    scores: Mapping[str, float] | None = None
    start: float | None = None
    end: float | None = None
    begin_time: datetime | None = None
    end_time: datetime | None = None
    nearest: str | None = None
    rejected: bool = False


@attrs.frozen
class Format(ABC):
    """How rows are written; a format is a subclass.

    Attributes:
        per: what a row describes: clip, window or event.
        classes: the classes with a column of scores, in this order; none for no such columns.
        rate: the model's sample rate in Hz; its input holds no frequency above half of it.
        times: whether rows have the date and time of their begin and end; only in formats with a place for them.
        rejects: whether the model can say that sound is of none of its classes.
        name: its name in `FORMATS`.
        suffix: of its files.
        timed: whether rows need a start and an end.
        file_per_sound: whether each sound has a file of its own, made by `document`.
        one_file: whether there is a file with the rows of all sounds.
        dated: whether the format has a place for the date and time of a row's begin and end.

    Raises:
        CallError: rows of whole clips, which have no start and no end, where they need them.
    """

    per: str
    classes: Sequence[str] = ()
    rate: int = 0
    times: bool = False
    rejects: bool = False

    name: ClassVar[str]
    suffix: ClassVar[str] = ".txt"
    timed: ClassVar[bool] = False
    file_per_sound: ClassVar[bool] = False
    one_file: ClassVar[bool] = True
    dated: ClassVar[bool] = False

    def __attrs_post_init__(self) -> None:
        if self.timed and self.per == "clip":
            raise CallError(f"{self.name} labels have a start and an end: use --per event or --per window")

    def header(self) -> str:
        """What a file begins with."""
        return ""

    @abstractmethod
    def lines(self, row: Row, number: int) -> str:
        """The lines of a row, which follows `number` others in its file, the header not counted."""

    def document(self, lines: str) -> str:
        """The whole file of a sound, from the `lines` of all its rows."""
        return self.header() + lines

    def joined(self, lines: str, number: int) -> str:
        """The `lines` of a sound, counted in a file of its own, as they are after `number` lines of other sounds."""
        return lines

    def error(self, path: str, reason: str) -> str:
        """The line of a sound that could not be scored; empty if the format has no place for it."""
        return ""


def one_line(label: str) -> str:
    """A label without tabs, line breaks and other control characters."""
    return printable(" ".join(label.split())) or "?"


def moment(began: datetime | None, seconds: float) -> datetime | None:
    """The date and time so many seconds after a recording began; None if that is unknown."""
    return None if began is None else began + timedelta(seconds=seconds)


def iso(moment: datetime | None) -> str:
    """A date and time as ISO 8601 writes it, to the millisecond, with its zone if it has one; empty if unknown."""
    return "" if moment is None else (moment + timedelta(microseconds=500)).isoformat(timespec="milliseconds")
