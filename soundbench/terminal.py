"""Standard error as a person sees it: a line that is drawn anew in its place, a bar, times, and how often to write.

Nothing here fails where there is no standard error.
"""

from __future__ import annotations

import os
import sys
import time

import attrs

__all__ = ["PATIENCE", "StatusLine", "Throttle", "bar", "clock", "columns", "on_terminal"]

# Seconds between two lines that say how far a long piece of work is, where none takes the place of the last.
PATIENCE = 20.0


def on_terminal() -> bool:
    """Whether standard error is a terminal, where a line can be drawn anew."""
    return sys.stderr is not None and sys.stderr.isatty()


def columns() -> int:
    """The width of the terminal behind standard error; 80 where it reports none."""
    try:
        return os.get_terminal_size(sys.stderr.fileno()).columns or 80
    except (AttributeError, OSError, ValueError):
        return 80


def clock(seconds: float) -> str:
    """`0:42`, `12:34` or `1:02:03`."""
    minutes, rest = divmod(round(max(0.0, seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def bar(share: float, width: int) -> str:
    """`[######------]`: a share from 0 to 1 of `width` characters, and two brackets."""
    filled = min(max(round(share * width), 0), width)
    return "[" + "#" * filled + "-" * (width - filled) + "]"


@attrs.define
class Throttle:
    """Lets something happen once in a while.

    Attributes:
        last: when it last did, by `time.monotonic()`; at first when this was made, so that it begins with a wait.
    """

    last: float = attrs.field(factory=lambda: time.monotonic())

    def due(self, seconds: float) -> bool:
        """Whether so many seconds have gone by; they count anew from then on."""
        if time.monotonic() - self.last < seconds:
            return False
        self.restart()
        return True

    def restart(self) -> None:
        """Count from now."""
        self.last = time.monotonic()


class StatusLine:
    """One line on standard error, drawn anew in its place on a terminal; elsewhere each is a line of its own."""

    def __init__(self) -> None:
        self._drawn = 0

    def show(self, line: str) -> None:
        """Draw it over the last one, cut to the width of the terminal."""
        if not on_terminal():
            _write(line + "\n")
            return
        width = columns() - 1  # the last column makes some terminals go on to the next line
        line = line[:width]
        _write("\r" + line.ljust(min(self._drawn, width)))
        self._drawn = len(line)

    def say(self, line: str) -> None:
        """Write a line that stays, in the place of the one that does not."""
        self.erase()
        _write(line + "\n")

    def erase(self) -> None:
        """Take the line off the terminal, for what others write."""
        if self._drawn:
            _write("\r" + " " * min(self._drawn, columns() - 1) + "\r")
            self._drawn = 0

    def leave(self) -> None:
        """Leave the line where it is; what comes next begins one of its own."""
        if self._drawn:
            _write("\n")
            self._drawn = 0


def _write(text: str) -> None:
    if sys.stderr is not None:
        sys.stderr.write(text)
        sys.stderr.flush()
