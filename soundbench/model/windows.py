"""Cut a sound, in whatever form, into the windows that are scored; a long one is read block by block.

Samples are rounded to 16 bits, as in a store. A sound of up to a minute is scaled by its own peak, as in a store, so
that scores are the same; each window of a longer sound is scaled by its own peak, since that of the sound is not known
yet.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple, TypeAlias, Union

import numpy as np
from numpy.typing import NDArray

from soundbench import audio
from soundbench.data.windowing.grid import Grid, window_grid
from soundbench.data.windowing.quantizing import quantize
from soundbench.errors import CallError, SoundError

if TYPE_CHECKING:
    import torch

__all__ = ["Sound", "Window", "WindowMean", "cut_windows", "hop_samples", "read_blocks", "rereadable"]

Sound: TypeAlias = Union[str, Path, bytes, BinaryIO, NDArray[Any], "torch.Tensor"]
Samples = NDArray[np.float32]
Values = NDArray[np.float32]

# The longest sound, in seconds, that is held in memory as a whole.
WHOLE = 60


class Window(NamedTuple):
    """A window: where it begins in the sound, in samples at the model's rate; 16-bit samples and their scale."""

    start: int
    samples: NDArray[np.int16]
    scale: float


def read_blocks(sound: Sound, rate: int | None, target: int, notice: audio.Notice = audio.warn) -> Iterator[Samples]:
    """The sound at the sample rate `target` and with one channel, in blocks; samples in memory are one block.

    What is odd about a file is a warning, or given to `notice`.

    Raises:
        SoundError: it cannot be read, possibly after some blocks.
        CallError: samples without a sample rate, or with a shape that is not allowed.
    """
    samples = _array(sound)
    if samples is not None:
        yield audio.resample(_mono(samples), _checked(rate), target)
        return
    source: Any = sound
    try:
        yield from audio.blocks(source, target, notice)
    except OSError as error:  # deleted or no longer readable, while it was being read
        name = os.fspath(sound) if isinstance(sound, str | os.PathLike) else "<file>"
        raise SoundError(name, f"cannot be read: {error.strerror or error}") from None


def rereadable(sound: Sound) -> Sound:
    """The sound in a form that can be read more than once."""
    if hasattr(sound, "read") and not getattr(sound, "seekable", lambda: False)():
        data: bytes = sound.read()
        return data
    return sound


def cut_windows(
    sound: Sound, rate: int | None, target: int, grid: Grid, notice: audio.Notice = audio.warn
) -> Iterator[Window]:
    """The windows to score: at k · hop while a whole one fits, and one that ends at the end.

    What is odd about a file is a warning, or given to `notice`.
    """
    sound = rereadable(sound)
    blocks = read_blocks(sound, rate, target, notice)
    first: list[Samples] = []
    total = 0
    for block in blocks:
        first.append(block)
        total += len(block)
        if total > max(WHOLE * target, grid.window):
            break
    else:
        yield from _of_whole(_join(first), target, grid)
        return
    begin, end = 0, None
    joined = chain(first, blocks)
    del first
    if grid.trim != "off":
        begin, end = audio.loud(joined, target, grid.trim)
        joined = chain(read_blocks(sound, rate, target, notice))
    for start, samples in _cut(_between(joined, begin, end), grid):
        yield Window(begin + start, *quantize(samples))


def _of_whole(samples: Samples, rate: int, grid: Grid) -> Iterator[Window]:
    begin, end = (0, len(samples)) if grid.trim == "off" else audio.loud([samples], rate, grid.trim)
    whole, scale = quantize(samples[begin:end])
    for start in window_grid(np.array([len(whole)]), grid.window, grid.hop)[1].tolist():
        yield Window(begin + start, whole[start : start + grid.window], scale)


def _cut(blocks: Iterable[Samples], grid: Grid) -> Iterator[tuple[int, Samples]]:
    """`window_grid` of a sound in blocks: where each window begins, and its samples."""
    held, at, start, last = np.empty(0, np.float32), 0, 0, -1  # held begins at sample `at`, the next window at `start`
    for block in blocks:
        held = np.concatenate([held, block])
        total = at + len(held)
        while start + grid.window <= total:
            yield start, held[start - at : start - at + grid.window]
            start, last = start + grid.hop, start
        dropped = max(min(start, total - grid.window) - at, 0)
        held, at = held[dropped:], at + dropped
    end = max(at + len(held) - grid.window, 0)
    if end > last:
        yield end, held[end - at :]


def _between(blocks: Iterable[Samples], begin: int, end: int | None) -> Iterator[Samples]:
    """The samples of the blocks from `begin` to `end`."""
    at = 0
    for block in blocks:
        part = block[max(begin - at, 0) : None if end is None else max(end - at, 0)]
        at += len(block)
        if len(part):
            yield part
        if end is not None and at >= end:
            return


def _join(parts: Iterable[Samples]) -> Samples:
    found = list(parts)
    return found[0] if len(found) == 1 else np.concatenate(found)


def hop_samples(hop: float, rate: int) -> int:
    """A hop in seconds as samples at the model's rate.

    Raises:
        CallError: it is shorter than a sample, or no number.
    """
    if not 1 <= hop * rate < 1 << 40:
        raise CallError(
            f"hop must be a number of seconds, at least one sample ({1 / rate:g} s at {rate} Hz), is {hop:g}"
        )
    return round(hop * rate)


class WindowMean:
    """The mean of a clip's windows, added one at a time: one sum is kept, however many windows and clips there are."""

    def __init__(self) -> None:
        self._sum: NDArray[np.float64] | float = 0.0
        self.windows = 0

    def add(self, values: Values) -> None:
        """Add a window's values, `(D,)`; sums are in float64, in the order of the windows."""
        self._sum = self._sum + values.astype(np.float64)
        self.windows += 1

    def take(self) -> Values:
        """The mean of the windows since the last clip, `(D,)`; the next window begins another clip."""
        mean = np.asarray(self._sum / self.windows, np.float32)
        self.clear()
        return mean

    def clear(self) -> None:
        """Forget the windows since the last clip."""
        self._sum, self.windows = 0.0, 0


def _checked(rate: int | None) -> int:
    if rate is None:
        raise CallError("samples need a sample rate: predict(samples, rate=16000)")
    if not rate > 0:
        raise CallError(f"rate must be a sample rate in Hz, above 0, is {rate}")
    return rate


def _array(sound: Any) -> NDArray[Any] | None:
    """Samples as an array; None of what is no samples. Torch need not be installed: where a tensor is, it is."""
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(sound, torch.Tensor):
        found: NDArray[Any] = sound.detach().cpu().numpy()
        return found
    return sound if isinstance(sound, np.ndarray) else None


def _mono(samples: NDArray[Any]) -> NDArray[np.float32]:
    """Samples `(S,)` or `(C, S)`, floats or integers, as one channel of floats."""
    if samples.ndim not in {1, 2} or 0 in samples.shape:
        raise CallError(f"samples of shape {samples.shape} are not sound; give (samples,) or (channels, samples)")
    if samples.ndim == 2 and samples.shape[0] > samples.shape[1]:
        raise CallError(
            f"samples of shape {samples.shape}: more channels than samples; give (channels, samples), channels first"
        )
    if np.issubdtype(samples.dtype, np.integer):
        info = np.iinfo(samples.dtype)
        middle = 0 if info.min < 0 else (info.max + 1) // 2
        samples = (samples.astype(np.float64) - middle) / (info.max - middle + 1)
    if not np.issubdtype(samples.dtype, np.floating):
        raise CallError(f"samples of type {samples.dtype} are not sound; give floats in [-1, 1] or integers")
    if not np.isfinite(samples).all():
        raise CallError("samples contain NaN or infinity")
    mixed = samples.mean(axis=0) if samples.ndim == 2 else samples
    return np.ascontiguousarray(mixed, dtype=np.float32)
