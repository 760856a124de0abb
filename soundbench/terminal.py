"""Status output on standard error: a line that is redrawn in place, a progress bar, durations, throttling.

Nothing here fails if there is no standard error. Control characters in the text, as in names of files, are escaped.
"""

from __future__ import annotations

import os
import sys
import time

import attrs

from soundbench.messages import escaped, printable

__all__ = [
    "PATIENCE",
    "QUIET",
    "StatusLine",
    "Throttle",
    "bar",
    "clock",
    "columns",
    "on_terminal",
    "printable",
    "report",
]

# Set in the environment by `--quiet`, so that processes of a command have it too: no progress is printed.
QUIET = "SOUNDBENCH_QUIET"
# Seconds between two progress lines where they cannot be redrawn in place.
PATIENCE = 20.0


def on_terminal() -> bool:
    """Whether standard error is a terminal, or the output of a notebook: there, a line can be redrawn."""
    return sys.stderr is not None and (sys.stderr.isatty() or _in_notebook())


def _in_notebook() -> bool:
    """Whether standard error is shown below a cell: Jupyter, VS Code and Colab redraw a line after a carriage return.

    They know none of the other control characters that terminals know, so that nothing else may be used.
    """
    return type(sys.stderr).__module__.startswith("ipykernel.")


def columns() -> int:
    """The width of the terminal; 80 if it reports none, and in a notebook, which may report that of its server."""
    if _in_notebook():
        return 80
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
    """A progress bar such as `[######------]`: `share` is from 0 to 1, `width` excludes the brackets."""
    filled = min(max(round(share * width), 0), width)
    return "[" + "#" * filled + "-" * (width - filled) + "]"


@attrs.define
class Throttle:
    """Limits how often something happens.

    Attributes:
        last: the time of the last restart, by `time.monotonic()`; at first the time of creation.
    """

    last: float = attrs.field(factory=lambda: time.monotonic())

    def due(self, seconds: float) -> bool:
        """Whether this many seconds have passed since the last restart; if so, restart."""
        if time.monotonic() - self.last < seconds:
            return False
        self.restart()
        return True

    def restart(self) -> None:
        """Count the seconds from now."""
        self.last = time.monotonic()


class StatusLine:
    """One line on standard error: redrawn in place on a terminal, a new line each time elsewhere."""

    def __init__(self) -> None:
        self._drawn = 0

    def show(self, line: str) -> None:
        """Draw `line` in place of the last one, cut to the width of the terminal."""
        line = printable(line)
        if not on_terminal():
            _write(line + "\n")
            return
        width = columns() - 1  # some terminals wrap after the last column
        line = line[:width]
        _write("\r" + line.ljust(min(self._drawn, width)))
        self._drawn = len(line)

    def say(self, line: str) -> None:
        """Erase the status line and print a permanent line."""
        self.erase()
        report(line)

    def erase(self) -> None:
        """Erase the status line, so that others can write."""
        if self._drawn:
            _write("\r" + " " * min(self._drawn, columns() - 1) + "\r")
            self._drawn = 0

    def leave(self) -> None:
        """Keep the status line as it is; what follows starts a new line."""
        if self._drawn:
            _write("\n")
            self._drawn = 0


def report(line: str) -> None:
    """Print a line of progress, such as what a run is at."""
    _write(escaped(line) + "\n")


def _write(text: str) -> None:
    if sys.stderr is not None and QUIET not in os.environ:
        sys.stderr.write(text)
        sys.stderr.flush()
