"""A progress line on standard error while sound files are processed."""

from __future__ import annotations

import time

import attrs

from soundbench.terminal import PATIENCE, StatusLine, Throttle, clock, on_terminal

__all__ = ["Progress"]

# Seconds between two updates on a terminal.
PAUSE = 0.2


@attrs.define
class Progress:
    """Shows how many files are done, and estimates the time left from their sizes.

    Attributes:
        files: number of files.
        work: their total size, in bytes or another unit that is proportional to the time that they take.
        rank: the rank of the process that works on them; the first one alone shows its line.
        world: the number of processes, each with files of its own.
        done: number of files done.
        worked: their size, in the unit of `work`.
        seconds: their duration in seconds.
    """

    files: int
    work: float
    rank: int = 0
    world: int = 1
    done: int = 0
    worked: float = 0.0
    seconds: float = 0.0
    _began: float = attrs.field(factory=lambda: time.monotonic())
    _throttle: Throttle = attrs.field(factory=Throttle, init=False)
    _line: StatusLine = attrs.field(factory=StatusLine, init=False)
    _shown: bool = attrs.field(default=False, init=False)

    def finish(self, work: float, seconds: float) -> None:
        """Count a file as done."""
        self.done, self.worked, self.seconds = self.done + 1, self.worked + work, self.seconds + seconds
        self.report()

    def report(self, work: float = 0.0, seconds: float = 0.0) -> None:
        """Show the progress, unless it was shown just now; `work` and `seconds` are of a file not yet done."""
        if self.rank == 0 and self._throttle.due(PAUSE if on_terminal() else PATIENCE):
            self._shown = True
            self._line.show(self.line(work, seconds))

    def clear(self) -> None:
        """Erase the line from the terminal, so that another can be printed."""
        self._line.erase()

    def close(self) -> None:
        """Show the time taken, if any progress was shown."""
        self.clear()
        if self._shown and self.done:
            self._line.say(self.line())

    def line(self, work: float = 0.0, seconds: float = 0.0) -> str:
        """The progress as text."""
        took = max(time.monotonic() - self._began, 1e-3)
        processed, worked = self.seconds + seconds, self.worked + work
        parts = [
            f"{self.done:,} of {self.files:,} files",
            f"{clock(processed)} of sound",
            f"{processed / took:,.1f} x real time",
        ]
        if self.world > 1:
            parts[0] += f" in the first of {self.world} processes"
        if self.done == self.files:
            parts.append(f"{clock(took)} taken")
        elif worked:
            parts.append(f"{clock(took * max(self.work - worked, 0) / worked)} left")
        return ", ".join(parts)
