"""Samples rounded to 16 bits, in which sound is stored and scored."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["Quantized", "quantize"]

# The step of 16-bit files.
PCM = np.float32(1 / 32768)

Quantized = tuple[NDArray[np.int16], float]


def quantize(samples: NDArray[np.float32]) -> Quantized:
    """16-bit samples `(S,)`, and the scale to multiply them by.

    Sound from a 16-bit file keeps its exact values. Other sound is scaled so that its peak uses all 16 bits: the error
    is half a step, 90 dB below the peak, however quiet the sound; and values beyond full scale are not clipped.
    """
    with np.errstate(over="ignore"):
        steps = samples / PCM
    whole = np.rint(steps)
    if np.array_equal(whole, steps) and whole.min(initial=0) >= -32768 and whole.max(initial=0) <= 32767:
        return whole.astype("<i2"), float(PCM)
    scale = np.float32(np.abs(samples).max() / 32767)
    return np.rint(samples / scale).clip(-32767, 32767).astype("<i2"), float(scale)
