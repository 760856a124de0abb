"""What moves on standard error while sound is worked on: how far it is, and how loud."""

from __future__ import annotations

import time

import attrs

from soundbench.terminal import PATIENCE, StatusLine, Throttle, clock, on_terminal

__all__ = ["Progress"]

# Seconds between two lines on a terminal: of progress, and of a level.
PAUSE, METER_PAUSE = 0.2, 0.1
# The bar of a level: its characters, and the decibels at its beginning; full scale is at its end.
WIDTH, LOWEST = 24, -60.0


@attrs.define
class Progress:
    """Tells how far sounds are judged, by their sizes.

    Attributes:
        files: how many sounds there are.
        work: their sizes together, in bytes or whatever else is in proportion to the time that they take.
        done: how many are.
        worked: of `work`.
        seconds: of sound.
    """

    files: int
    work: float
    done: int = 0
    worked: float = 0.0
    seconds: float = 0.0
    _began: float = attrs.field(factory=lambda: time.monotonic())
    _throttle: Throttle = attrs.field(factory=Throttle, init=False)
    _line: StatusLine = attrs.field(factory=StatusLine, init=False)
    _told: bool = attrs.field(default=False, init=False)

    def finish(self, work: float, seconds: float) -> None:
        """A sound is done."""
        self.done, self.worked, self.seconds = self.done + 1, self.worked + work, self.seconds + seconds
        self.tell()

    def tell(self, work: float = 0.0, seconds: float = 0.0) -> None:
        """Say how far it is, if that was not said just now; with so much of a sound that is not yet done."""
        if self._throttle.due(PAUSE if on_terminal() else PATIENCE):
            self._told = True
            self._line.show(self.line(work, seconds))

    def clear(self) -> None:
        """Take the line off the terminal, for another."""
        self._line.erase()

    def close(self) -> None:
        """Say how long it took, where it was long enough to be told of."""
        self.clear()
        if self._told and self.done:
            self._line.say(self.line())

    def line(self, work: float = 0.0, seconds: float = 0.0) -> str:
        """How far it is, in words."""
        took = max(time.monotonic() - self._began, 1e-3)
        heard, worked = self.seconds + seconds, self.worked + work
        parts = [
            f"{self.done:,} of {self.files:,} files",
            f"{clock(heard)} of sound",
            f"{heard / took:,.1f} x real time",
        ]
        if self.done == self.files:
            parts.append(f"{clock(took)} taken")
        elif worked:
            parts.append(f"{clock(took * max(self.work - worked, 0) / worked)} left")
        return ", ".join(parts)
