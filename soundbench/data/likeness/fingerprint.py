"""Fingerprints of sounds: the peaks of a spectrogram from 160 Hz to 3.5 kHz.

Which cells of a spectrogram are larger than all around them depends neither on the level of a sound nor on its sample
rate, hardly on a codec, and not on where a cut begins (A. Wang, "An industrial-strength audio search algorithm", ISMIR
2003, section 2.1).
"""

from __future__ import annotations

from array import array

import attrs
import numpy as np
from numpy.typing import NDArray

from soundbench import audio

__all__ = ["HOP", "NONE", "RATE", "Fingerprints", "Peaks", "at_rate", "peaks"]

Samples = NDArray[np.float32]

# Hz; the lowest rate at which sound is usually kept.
RATE = 8000
# Samples of a frame, and from frame to frame.
WINDOW, HOP = 512, 128
# The bins that are used: a sound of 8 kHz has them whole, and there is no hum of mains below.
LOWEST, HIGHEST = 10, 224
# A peak is the largest within so many bins and frames on each side.
BINS, FRAMES = 10, 6
# Peaks are at most so far below the largest magnitude of the sound: 70 dB. A codec keeps nothing so weak.
WEAKEST = 10 ** (-70 / 20)
# Frames to look at together, so that memory does not grow with the length of a sound.
TOGETHER = 8192


@attrs.frozen(eq=False)
class Peaks:
    """The P peaks of a sound, in the order of frames: `frames` (P,) int32, and `bins` (P,) uint8 above the lowest."""

    frames: NDArray[np.int32]
    bins: NDArray[np.uint8]


NONE = Peaks(np.empty(0, np.int32), np.empty(0, np.uint8))


def at_rate(samples: Samples, rate: int) -> Samples:
    """Samples `(S,)` at `rate` Hz as they are compared: at 8 kHz."""
    return audio.resample(samples, rate, RATE)


def peaks(samples: Samples) -> Peaks:
    """The peaks of a sound at 8 kHz, `(S,)`; none if it is silent or shorter than a frame of 64 ms."""
    count = (len(samples) - WINDOW) // HOP + 1
    loudest = float(np.abs(samples).max(initial=0.0))
    if count < 1 or not loudest:
        return NONE
    window = np.hanning(WINDOW + 1)[:-1].astype(np.float32) / np.float32(loudest)
    frames = np.lib.stride_tricks.sliding_window_view(samples, WINDOW)[::HOP]
    found: list[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]] = []
    for start in range(0, count, TOGETHER):
        before, after = max(start - FRAMES, 0), min(start + TOGETHER + FRAMES, count)
        magnitudes = np.abs(np.fft.rfft(frames[before:after] * window, axis=1)[:, LOWEST - BINS : HIGHEST + BINS])
        places, bins = _largest(magnitudes.astype(np.float32, copy=False))
        inside = (places >= start - before) & (places < start - before + TOGETHER)
        places, bins = places[inside], bins[inside]
        found.append((places + before, bins, magnitudes[places, bins + BINS]))
    places, bins, sizes = (np.concatenate(column) for column in zip(*found, strict=True))
    strong = sizes > WEAKEST * sizes.max(initial=0.0)
    return Peaks(places[strong].astype(np.int32), bins[strong].astype(np.uint8))


def _largest(magnitudes: NDArray[np.float32]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Frames and bins of the peaks of magnitudes `(T, BINS + F + BINS)`, in the order of frames."""
    around = _running_max(_running_max(magnitudes, BINS, 1), FRAMES, 0)[:, BINS:-BINS]
    inner = magnitudes[:, BINS:-BINS]
    peak = (inner == around) & (inner > 0)
    peak[1:] &= inner[1:] > inner[:-1]  # of a plateau, as a steady tone has, only the first frame
    frames, bins = np.nonzero(peak)
    return frames, bins


def _running_max(values: NDArray[np.float32], radius: int, axis: int) -> NDArray[np.float32]:
    """The largest value within `radius` on each side along an axis: by maxima of twice the width again and again."""
    width = 2 * radius + 1
    padding = [(0, 0), (0, 0)]
    padding[axis] = (radius, radius)
    found = np.moveaxis(np.pad(values, padding, constant_values=-np.inf), axis, 0)
    covered = 1
    while 2 * covered <= width:
        found = np.maximum(found[:-covered], found[covered:])
        covered *= 2
    if rest := width - covered:
        found = np.maximum(found[:-rest], found[rest:])
    return np.moveaxis(found, 0, axis)


class Fingerprints:
    """The peaks of many sounds in columns: 5 bytes a peak, about 250 a second of sound."""

    def __init__(self) -> None:
        self._offsets, self._frames, self._bins = array("q", [0]), array("i"), array("B")

    def add(self, found: Peaks) -> None:
        """Append the peaks of the next sound."""
        self._frames.frombytes(found.frames.tobytes())
        self._bins.frombytes(found.bins.tobytes())
        self._offsets.append(len(self._bins))

    def __len__(self) -> int:
        return len(self._offsets) - 1

    def __getitem__(self, number: int) -> Peaks:
        part = slice(self._offsets[number], self._offsets[number + 1])
        return Peaks(self.frames[part], self.bins[part])

    @property
    def offsets(self) -> NDArray[np.int64]:
        """The start of the peaks of each sound, and the end of the last, `(M + 1,)`."""
        return np.frombuffer(self._offsets, dtype=np.int64)

    @property
    def frames(self) -> NDArray[np.int32]:
        """The frame of each peak, `(P,)`."""
        return np.frombuffer(self._frames, dtype=np.int32)

    @property
    def bins(self) -> NDArray[np.uint8]:
        """The bin of each peak above the lowest, `(P,)`."""
        return np.frombuffer(self._bins, dtype=np.uint8)
