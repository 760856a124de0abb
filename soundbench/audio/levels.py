"""Sound levels in dB of full scale."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["decibels", "level_of"]

# The lowest level, in dB.
SILENCE = -120.0


def decibels(power: float) -> float:
    """A mean square as a level in dB of full scale."""
    return max(10 * math.log10(power), SILENCE) if power > 0 else SILENCE


def level_of(samples: NDArray[Any]) -> float:
    """The RMS level of samples in dB of full scale."""
    return decibels(float(np.mean(np.square(samples, dtype=np.float64)))) if samples.size else SILENCE
