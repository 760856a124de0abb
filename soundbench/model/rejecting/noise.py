"""White and pink noise, the same on every machine: a sound that is certainly of none of the classes.

A window of noise is a function of its number and of what it is for, so that the noise of a report is another than that
which a threshold was fitted on. Levels rise evenly from window to window. Every second window is filled; the others are
shorter, as short sounds are. Of four windows, two have nothing above a frequency of their own, as sound that was
recorded at a lower rate.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from soundbench.data.windowing.quantizing import quantize

__all__ = ["COLOURS", "LEVELS", "Colour", "NoiseStore", "noise"]

Colour = Literal["white", "pink"]
COLOURS: tuple[Colour, ...] = ("white", "pink")

LEVELS = (-80.0, 0.0)
"""The RMS levels of the first and of the last window, in dB of full scale; the peaks of loud ones are clipped."""

SHORTEST, LOWEST = 0.02, 0.125
"""The shortest window, as a share of a whole one, and the lowest cut, as a share of half the sample rate."""

# Lengths and cuts fill their range evenly however many windows there are, and independently of each other: steps of the
# generalized golden ratio (Roberts, "The Unreasonable Effectiveness of Quasirandom Sequences", 2018).
_STEPS = (0.7548776662466927, 0.5698402909980532)


def noise(colour: Colour, samples: int, draw: tuple[int, ...], cut: float = 1.0) -> NDArray[np.float32]:
    """Gaussian noise `(samples,)` of mean square 1.

    White noise has equal power at all frequencies. Pink noise has a power that falls as 1/f: a white spectrum is
    divided by the root of the frequency (Timmer and König, "On generating power law noise", Astronomy and Astrophysics
    300, 1995), without a constant part.

    Args:
        colour: `white` or `pink`.
        samples: how many.
        draw: numbers that name the draw; other numbers give independent noise.
        cut: there is nothing above this share of half the sample rate.
    """
    drawn = np.random.default_rng([COLOURS.index(colour), *draw]).standard_normal(samples)
    if samples > 1 and (colour == "pink" or cut < 1):
        spectrum = np.fft.rfft(drawn)
        if colour == "pink":
            spectrum[0] = 0.0
            spectrum[1:] /= np.sqrt(np.arange(1, len(spectrum)))
        spectrum[max(1, round(cut * (len(spectrum) - 1))) + 1 :] = 0.0
        drawn = np.fft.irfft(spectrum, samples)
    power = float(np.mean(np.square(drawn)))
    return (drawn / np.sqrt(power) if power else drawn).astype(np.float32)


class NoiseStore:
    """Windows of noise as a store has sounds, each made when it is read.

    Args:
        colour: `white` or `pink`.
        count: the number of windows.
        window: the length of a whole one in samples.
        purpose: what the noise is for; another number gives other noise.
    """

    def __init__(self, colour: Colour, count: int, window: int, purpose: int) -> None:
        self.colour, self.purpose = colour, purpose
        rows = np.arange(count)
        lengths, cuts = (
            least ** (rows // 2 * step % 1) for least, step in zip((SHORTEST, LOWEST), _STEPS, strict=True)
        )
        shares = np.where(rows % 2 == 0, 1.0, lengths)
        self.lengths = np.maximum(np.round(window * shares), 1).astype(np.int64)
        self.cuts = np.where(rows % 4 < 2, 1.0, cuts)

    def gather(
        self, rows: NDArray[np.integer], starts: NDArray[np.integer], counts: NDArray[np.integer], size: int
    ) -> tuple[NDArray[np.int16], NDArray[np.float32]]:
        """16-bit samples `(n, size)` of some windows, padded with zeros, and their scales `(n,)`."""
        samples, scales = np.zeros((len(rows), size), np.int16), np.empty(len(rows), np.float32)
        levels = np.linspace(*LEVELS, len(self.lengths))
        for place, row in enumerate(rows.tolist()):
            drawn = noise(self.colour, int(self.lengths[row]), (self.purpose, row), float(self.cuts[row]))
            own = drawn * 10 ** (levels[row] / 20)
            whole, scales[place] = quantize(np.clip(own, -1.0, 1.0).astype(np.float32))
            start, count = int(starts[place]), int(counts[place])
            samples[place, :count] = whole[start : start + count]
        return samples, scales
