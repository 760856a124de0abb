"""Live sound: a queue of blocks between two threads, a ring buffer, pipes, and levels.

A pipe carries raw samples or a WAV file of unknown length, as `ffmpeg` and `arecord` write them.
"""

from __future__ import annotations

import math
import os
import threading
import time
from collections import deque
from collections.abc import Iterator
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from soundbench.audio.codings import NAME, Coding, find_format, read_wav_header
from soundbench.errors import CallError, SoundError

__all__ = ["Block", "BlockQueue", "Pipe", "Ring", "Source", "decibels", "level_of"]

# The most sound in the queue, in seconds; then a pipe is not read further, and sound of a device is lost.
LONGEST_WAIT = 10
# Bytes to read from a pipe at a time, at most; fewer if no more are available.
READ = 1 << 16


# The lowest level, in dB.
LOWEST = -120.0


class Block(NamedTuple):
    """Samples `(S, C)` float32, the time of the last one (by `time.perf_counter`), the number lost before them."""

    samples: NDArray[np.float32]
    at: float
    lost: int = 0


class Source(Protocol):
    """A source of live sound.

    Attributes:
        rate: sample rate in Hz.
        channels: channels of each block.
    """

    rate: int
    channels: int

    def take(self, seconds: float) -> list[Block] | None:
        """Wait up to `seconds` for a block, and return all that are available; None if no more will follow."""

    def close(self) -> None:
        """Release the source."""


class BlockQueue:
    """A queue of blocks between a thread that adds them and one that takes them.

    Args:
        limit: the most samples in the queue.
    """

    def __init__(self, limit: int) -> None:
        self._limit, self._held, self._lost = limit, 0, 0
        self._blocks: deque[Block] = deque()
        self._changed = threading.Condition()
        self._ended = False
        self._error: Exception | None = None

    def offer(self, samples: NDArray[np.float32], at: float, lost: int = 0) -> None:
        """Add samples without waiting: if the queue is full, they are lost, and counted."""
        with self._changed:
            self._lost += lost
            if self._held + len(samples) > self._limit:
                self._lost += len(samples)
                return
            self._add(Block(samples, at, self._lost))
            self._lost = 0

    def put(self, samples: NDArray[np.float32], at: float) -> None:
        """Add samples, waiting until there is room for them."""
        with self._changed:
            self._changed.wait_for(lambda: self._held < self._limit or self._ended)
            self._add(Block(samples, at))

    def _add(self, block: Block) -> None:
        self._blocks.append(block)
        self._held += len(block.samples)
        self._changed.notify_all()

    def end(self, error: Exception | None = None) -> None:
        """No blocks follow; `take` raises `error`, if given, after the last block."""
        with self._changed:
            self._ended, self._error = True, error
            self._changed.notify_all()

    def take(self, seconds: float) -> list[Block] | None:
        """Same as `Source.take`."""
        with self._changed:
            self._changed.wait_for(lambda: bool(self._blocks) or self._ended, timeout=seconds)
            found = list(self._blocks)
            self._blocks.clear()
            self._held = 0
            self._changed.notify_all()
            if found or not self._ended:
                return found
            if self._error:
                raise self._error
            return None


class Ring:
    """A ring buffer of the last samples of a stream.

    Args:
        size: the number of samples kept.
    """

    def __init__(self, size: int) -> None:
        self._kept = np.zeros(size, np.float32)
        self.total = 0

    def write(self, samples: NDArray[np.float32]) -> None:
        """Add samples `(S,)`."""
        size = len(self._kept)
        tail = samples[-size:]
        at = (self.total + len(samples) - len(tail)) % size
        first = min(len(tail), size - at)
        self._kept[at : at + first] = tail[:first]
        self._kept[: len(tail) - first] = tail[first:]
        self.total += len(samples)

    def skip(self, count: int) -> None:
        """Add silence."""
        size = len(self._kept)
        self.total += max(count - size, 0)
        self.write(np.zeros(min(count, size), np.float32))

    def span(self, start: int, stop: int) -> NDArray[np.float32]:
        """A copy of the samples from `start` to `stop`, counted from the first one written, as far as they are kept."""
        size = len(self._kept)
        stop = min(stop, self.total)
        start = max(start, self.total - size, 0)
        count = max(stop - start, 0)
        at = start % size
        return np.concatenate([self._kept[at : at + count], self._kept[: max(at + count - size, 0)]])


class Pipe:
    """A source that reads samples from a pipe.

    Args:
        descriptor: file descriptor of the pipe, 0 for standard input.
        form: format of raw samples, one of `codings.FORMATS`; None for a WAV file.
        rate: sample rate of raw samples in Hz; a WAV file states its own.
        channels: channels of raw samples, interleaved; None for one.

    Raises:
        CallError: raw samples without a rate, or a rate or channels for a WAV file.
        SoundError: the data do not start as a WAV file.
    """

    def __init__(
        self, descriptor: int = 0, form: str | None = None, rate: int | None = None, channels: int | None = None
    ) -> None:
        self._descriptor = descriptor
        if form is None:
            if rate is not None:
                raise CallError("--rate is only for raw samples with --format; a WAV file states its own rate")
            if channels is not None:
                raise CallError("--channels is only for raw samples with --format; a WAV file states its own channels")
            self._coding, self._left = read_wav_header(self._read)
        else:
            if rate is None:
                raise CallError(f"raw samples need their rate: --format {form} --rate 16000")
            self._coding = Coding(rate, channels or 1, find_format(form))
            self._left = None
        self.rate, self.channels = self._coding.rate, self._coding.channels
        self._queue = BlockQueue(LONGEST_WAIT * self.rate)
        threading.Thread(target=self._pump, daemon=True, name="pipe").start()

    def take(self, seconds: float) -> list[Block] | None:
        """Wait up to `seconds` for a block, and return all that are available; None if no more will follow."""
        return self._queue.take(seconds)

    def close(self) -> None:
        """Stop reading."""
        self._queue.end()

    def _read(self, count: int) -> bytes:
        return os.read(self._descriptor, count)

    def _pump(self) -> None:
        try:
            for data in self._whole_frames():
                at = time.perf_counter()
                samples = self._coding.decode(data)
                if not np.isfinite(samples).all():
                    raise SoundError(NAME, "contains NaN or infinity; does --format match the data?")
                self._queue.put(samples, at)
            self._queue.end()
        except SoundError as error:
            self._queue.end(error)
        except OSError as error:
            self._queue.end(SoundError(NAME, f"cannot be read: {error.strerror or error}"))

    def _whole_frames(self) -> Iterator[bytes]:
        """The data that are read, cut after whole frames; an incomplete frame at the end is dropped."""
        frame, held, left = self._coding.frame, b"", self._left
        while left is None or left > 0:
            data = self._read(READ if left is None else min(READ, left))
            if not data:
                return
            left = None if left is None else left - len(data)
            held += data
            whole = len(held) // frame * frame
            if whole:
                yield held[:whole]
            held = held[whole:]


def decibels(power: float) -> float:
    """A mean square as a level in dB of full scale."""
    return max(10 * math.log10(power), LOWEST) if power > 0 else LOWEST


def level_of(samples: NDArray[Any]) -> float:
    """The RMS level of samples in dB of full scale."""
    return decibels(float(np.mean(np.square(samples, dtype=np.float64)))) if samples.size else LOWEST
