"""How far a long piece of work is: one line on standard error, of speed and time left."""

from __future__ import annotations

import sys
import time

import attrs

__all__ = ["Progress", "clock"]

# Seconds between two lines: on a terminal, where each takes the place of the last, and in a log.
TERMINAL, LOG = 0.2, 20.0


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
    _told: float = attrs.field(init=False)
    _shown: int = 0

    def __attrs_post_init__(self) -> None:
        self._told = self._began

    def finish(self, work: float, seconds: float) -> None:
        """A sound is done."""
        self.done, self.worked, self.seconds = self.done + 1, self.worked + work, self.seconds + seconds
        self.tell()

    def tell(self, work: float = 0.0, seconds: float = 0.0) -> None:
        """Say how far it is, if that was not said just now; with so much of a sound that is not yet done."""
        terminal = sys.stderr.isatty()
        now = time.monotonic()
        if now - self._told < (TERMINAL if terminal else LOG):
            return
        self._told = now
        line = self.line(work, seconds)
        if terminal:
            sys.stderr.write("\r" + line.ljust(self._shown))
            self._shown = len(line)
        else:
            sys.stderr.write(line + "\n")
        sys.stderr.flush()

    def clear(self) -> None:
        """Take the line off the terminal, for another."""
        if self._shown:
            sys.stderr.write("\r" + " " * self._shown + "\r")
            self._shown = 0

    def close(self) -> None:
        """Say how long it took, where it was long enough to be told of."""
        self.clear()
        if self._told > self._began and self.done:
            sys.stderr.write(self.line() + "\n")

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


def clock(seconds: float) -> str:
    """`1:02:03` or `2:03`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
