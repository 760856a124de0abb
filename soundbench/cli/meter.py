"""A level meter on the terminal."""

from __future__ import annotations

import math

from soundbench.terminal import StatusLine, Throttle, bar, on_terminal

__all__ = ["Meter"]

# Seconds between two updates.
PAUSE = 0.1
# The bar: its width in characters, and the dB of full scale at its left end; the right end is full scale.
WIDTH, LOWEST = 24, -60.0


class Meter:
    """One line with a level and a text; nothing is shown if standard error is not a terminal."""

    def __init__(self) -> None:
        self._line, self._throttle = StatusLine(), Throttle(-math.inf)

    def show(self, level: float, text: str) -> None:
        """Show a level, in dB of full scale, and a text, unless the line was updated just now."""
        if on_terminal() and self._throttle.due(PAUSE):
            self._line.show(f"{bar((level - LOWEST) / -LOWEST, WIDTH)} {level:4.0f} dB  {text}")

    def clear(self) -> None:
        """Erase the line from the terminal, so that another can be printed."""
        self._line.erase()
