"""White and pink noise, the same on every machine: a sound that is certainly of none of the classes.

A window of noise is a function of its number and of what it is for, so that the noise of a report is another than that
which a threshold was fitted on. Levels rise evenly from window to window.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from soundbench.data.windowing.quantizing import quantize

__all__ = ["COLOURS", "LEVELS", "Colour", "NoiseStore", "noise"]

Colour = Literal["white", "pink"]
COLOURS: tuple[Colour, ...] = ("white", "pink")

LEVELS = (-60.0, -10.0)
"""The RMS levels of the first and of the last window, in dB of full scale."""


def noise(colour: Colour, samples: int, draw: tuple[int, ...]) -> NDArray[np.float32]:
    """Gaussian noise `(samples,)` of mean square 1.

    White noise has equal power at all frequencies. Pink noise has a power that falls as 1/f: a white spectrum is
    divided by the root of the frequency (Timmer and König, "On generating power law noise", Astronomy and Astrophysics
    300, 1995), without a constant part.

    Args:
        colour: `white` or `pink`.
        samples: how many.
        draw: numbers that name the draw; other numbers give independent noise.
    """
    drawn = np.random.default_rng([COLOURS.index(colour), *draw]).standard_normal(samples)
    if colour == "pink" and samples > 1:
        spectrum = np.fft.rfft(drawn)
        spectrum[0] = 0.0
        spectrum[1:] /= np.sqrt(np.arange(1, len(spectrum)))
        drawn = np.fft.irfft(spectrum, samples)
    power = float(np.mean(np.square(drawn)))
    return (drawn / np.sqrt(power) if power else drawn).astype(np.float32)


class NoiseStore:
    """Windows of noise as a store has sounds, each made when it is read.

    Args:
        colour: `white` or `pink`.
        count: the number of windows.
        window: their length in samples.
        purpose: what the noise is for; another number gives other noise.
    """

    def __init__(self, colour: Colour, count: int, window: int, purpose: int) -> None:
        self.colour, self.window, self.purpose = colour, window, purpose
        self.lengths = np.full(count, window, np.int64)

    def gather(
        self, rows: NDArray[np.integer], starts: NDArray[np.integer], counts: NDArray[np.integer], size: int
    ) -> tuple[NDArray[np.int16], NDArray[np.float32]]:
        """16-bit samples `(n, size)` of some windows, padded with zeros, and their scales `(n,)`."""
        samples, scales = np.zeros((len(rows), size), np.int16), np.empty(len(rows), np.float32)
        levels = np.linspace(*LEVELS, len(self.lengths))
        for place, row in enumerate(rows.tolist()):
            own = noise(self.colour, self.window, (self.purpose, row)) * 10 ** (levels[row] / 20)
            whole, scales[place] = quantize(np.clip(own, -1.0, 1.0).astype(np.float32))
            start, count = int(starts[place]), int(counts[place])
            samples[place, :count] = whole[start : start + count]
        return samples, scales
