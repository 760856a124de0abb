"""How loud sound is, as a bar that moves on the terminal."""

from __future__ import annotations

import math

from soundbench.terminal import StatusLine, Throttle, bar, on_terminal

__all__ = ["Meter"]

# Seconds between two lines.
PAUSE = 0.1
# The bar: its characters, and the decibels at its beginning; full scale is at its end.
WIDTH, LOWEST = 24, -60.0


class Meter:
    """One line that shows a level and a text; nothing where standard error is no terminal."""

    def __init__(self) -> None:
        self._line, self._throttle = StatusLine(), Throttle(-math.inf)

    def show(self, level: float, text: str) -> None:
        """Show them, if something was not shown just now; the level is in dB of full scale."""
        if on_terminal() and self._throttle.due(PAUSE):
            self._line.show(f"{bar((level - LOWEST) / -LOWEST, WIDTH)} {level:4.0f} dB  {text}")

    def clear(self) -> None:
        """Take the line off the terminal, for another."""
        self._line.erase()
