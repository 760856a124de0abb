"""What every output format has, and the rows that it writes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import ClassVar

import attrs

from soundbench.errors import CallError
from soundbench.messages import printable

__all__ = ["COUNTED", "Count", "Format", "Row", "encoded", "iso", "moment", "one_line"]


COUNTED = ("path", "label", "count", "seconds", "best_score", "first_start")
"""The columns of counts."""


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
class Count:
    """How often a class was found in a sound; without a class, nothing was found in it.

    Attributes:
        path: the sound.
        label: the class; None if there is none.
        count: how many windows or events have this label.
        seconds: how much of the sound they cover; what two windows share counts once.
        best_score: the highest of their scores; None if there are none.
        first_start: when the first begins, in seconds from the beginning of the sound; None if there is none.
        first_begin_time: when it began by the clock of the recorder; None if unknown.
    """

    path: str
    label: str | None = None
    count: int = 0
    seconds: float = 0.0
    best_score: float | None = None
    first_start: float | None = None
    first_begin_time: datetime | None = None


@attrs.frozen
class Format(ABC):
    """How rows are written; a format is a subclass.

    Attributes:
        per: what a row describes: clip, window or event.
        classes: the classes with a column of scores, in this order; none for no such columns.
        rate: the model's sample rate in Hz; its input holds no frequency above half of it.
        times: whether rows have the date and time of their begin and end; only in formats with a place for them.
        rejects: whether the model can say that sound is of none of its classes.
        summary: whether rows are counts of windows or events.
        precision: that the network computes in; stated where it is not float32.
        name: its name in `FORMATS`.
        suffix: of its files.
        timed: whether rows need a start and an end.
        file_per_sound: whether each sound has a file of its own, made by `document`.
        one_file: whether there is a file with the rows of all sounds.
        dated: whether the format has a place for the date and time of a row's begin and end.
        counts: whether the format has a place for counts.
        states: whether the format has a place for the precision.
        text: whether its files are text, which can be printed.

    Raises:
        CallError: rows of whole clips, which have no start and no end, where they need them; counts of whole clips, or
            where there is no place for counts.
    """

    per: str
    classes: Sequence[str] = ()
    rate: int = 0
    times: bool = False
    rejects: bool = False
    summary: bool = False
    precision: str = "fp32"

    name: ClassVar[str]
    suffix: ClassVar[str] = ".txt"
    timed: ClassVar[bool] = False
    file_per_sound: ClassVar[bool] = False
    one_file: ClassVar[bool] = True
    dated: ClassVar[bool] = False
    counts: ClassVar[bool] = True
    states: ClassVar[bool] = True
    text: ClassVar[bool] = True

    def __attrs_post_init__(self) -> None:
        if self.timed and self.per == "clip":
            raise CallError(f"{self.name} labels have a start and an end: use --per event or --per window")
        if self.summary and not self.counts:
            raise CallError(f"{self.name} labels are of a time: use --summary with another format")
        if self.summary and self.per == "clip":
            raise CallError("--summary counts events or windows: use --per event or --per window")

    @property
    def columns(self) -> list[str]:
        """The columns of a table, without those of the classes' scores."""
        if self.summary:
            return [*COUNTED, *(["first_begin_time"] if self.times else []), *self.stated]
        span = [] if self.per == "clip" else ["start", "end"]
        span += ["begin_time", "end_time"] if self.times else []
        near = ["nearest", "rejected"] if self.rejects else []
        return ["path", *span, "label", "score", *([] if self.per == "event" else [*near, "labels"]), *self.stated]

    @property
    def stated(self) -> dict[str, str]:
        """What each row of a table states of the computation, by its column."""
        return {} if self.precision == "fp32" else {"precision": self.precision}

    @property
    def score_columns(self) -> dict[str, str]:
        """The column of each class's score; one that is named as another column is `score:` and its name."""
        own = () if self.summary or self.per == "event" else self.classes
        return {label: f"score:{label}" if label in self.columns else label for label in own}

    def header(self) -> str:
        """What a file begins with."""
        return ""

    @abstractmethod
    def lines(self, row: Row | Count, number: int) -> str:
        """The lines of a row, which follows `number` others in its file, the header not counted."""

    def document(self, lines: str) -> str:
        """The whole file of a sound, from the `lines` of all its rows."""
        return self.header() + lines

    def joined(self, lines: str, number: int) -> str:
        """The `lines` of a sound, counted in a file of its own, as they are after `number` lines of other sounds."""
        return lines

    def pack(self, path: Path, sounds: Iterable[str]) -> None:
        """Write the file of all sounds, from the lines of each, counted in a file of its own."""
        number = 0
        with open(path, "wb") as file:
            file.write(encoded(self.header()))
            for lines in sounds:
                file.write(encoded(self.joined(lines, number)))
                number += lines.count("\n")

    def error(self, path: str, reason: str) -> str:
        """The line of a sound that could not be scored; empty if the format has no place for it."""
        return ""


def encoded(text: str) -> bytes:
    r"""The text in UTF-8; what is not, in names of files, is written as `\udcXX`."""
    return text.encode("utf-8", errors="backslashreplace")


def one_line(label: str) -> str:
    """A label without tabs, line breaks and other control characters."""
    return printable(" ".join(label.split())) or "?"


def moment(began: datetime | None, seconds: float) -> datetime | None:
    """The date and time so many seconds after a recording began; None if that is unknown."""
    return None if began is None else began + timedelta(seconds=seconds)


def iso(moment: datetime | None) -> str:
    """A date and time as ISO 8601 writes it, to the millisecond, with its zone if it has one; empty if unknown."""
    return "" if moment is None else (moment + timedelta(microseconds=500)).isoformat(timespec="milliseconds")
