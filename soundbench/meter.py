"""How loud sound is, as a number and as a bar that moves on the terminal."""

from __future__ import annotations

import math
import sys
import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Meter", "decibels", "level_of"]

# Below it there is no level, in dB.
SILENCE = -120.0
# The bar: its characters, and the level at its beginning; full scale is at its end.
WIDTH, LOWEST = 24, -60.0
# Seconds between two lines.
PAUSE = 0.1


def decibels(power: float) -> float:
    """A mean square in dB of full scale."""
    return max(10 * math.log10(power), SILENCE) if power > 0 else SILENCE


def level_of(samples: NDArray[Any]) -> float:
    """The power of samples in dB of full scale."""
    return decibels(float(np.mean(np.square(samples, dtype=np.float64)))) if samples.size else SILENCE


class Meter:
    """One line on standard error that shows a level and a text; nothing where that is no terminal."""

    def __init__(self) -> None:
        self._shows = sys.stderr.isatty()
        self._told, self._shown = -math.inf, 0

    def show(self, level: float, text: str) -> None:
        """Show them, if something was not shown just now."""
        now = time.monotonic()
        if not self._shows or now - self._told < PAUSE:
            return
        self._told = now
        line = f"{bar(level)} {level:4.0f} dB  {text}"
        sys.stderr.write("\r" + line.ljust(self._shown))
        sys.stderr.flush()
        self._shown = len(line)

    def clear(self) -> None:
        """Take the line off the terminal, for another."""
        if self._shown:
            sys.stderr.write("\r" + " " * self._shown + "\r")
            sys.stderr.flush()
            self._shown = 0


def bar(level: float) -> str:
    """`[######------------------]`."""
    filled = min(max(round((level - LOWEST) / -LOWEST * WIDTH), 0), WIDTH)
    return "[" + "#" * filled + "-" * (WIDTH - filled) + "]"
