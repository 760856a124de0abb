"""Record live sound to 16-bit WAV files: one take, or one take for each sound between silences.

The file of a take is completed every second, so that a recording survives the end of the program, however it ends.
"""

from __future__ import annotations

import math
import os
import re
import struct
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import soxr
from numpy.typing import NDArray

from soundbench import files
from soundbench.audio.capture import Source, decibels, level_of
from soundbench.errors import CallError
from soundbench.signals import stoppable

__all__ = ["Splitter", "Take", "places", "record", "refuse_label"]

Samples = NDArray[np.float32]

# In seconds: the frames for detecting silence; the least sound in a take, less is a click; the silence that ends a
# take; the silence that is kept before and after it.
FRAME, SHORTEST, PAUSE, AROUND = 0.02, 0.1, 0.5, 0.2
# The most bytes of a take; then another one starts: a WAV file is limited to 4 GiB.
LARGEST = (1 << 32) - (1 << 24)
# The most seconds until a stop is noticed if no sound arrives.
WAIT = 0.2


@attrs.frozen
class Take:
    """A recorded file.

    Attributes:
        path: the WAV file.
        seconds: its length.
        peak: its largest sample, in dB of full scale.
    """

    path: Path
    seconds: float
    peak: float


class _Writer:
    """A take that is being recorded."""

    def __init__(self, path: Path, rate: int, channels: int) -> None:
        self.path, self._rate, self._channels = path, rate, channels
        self._held: list[bytes] = []
        self._waits = self._count = self._peak = 0
        with files.explain_os_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = open(path, "xb")  # noqa: SIM115 (closed with the take)

    @property
    def full(self) -> bool:
        return 2 * self._channels * self._count >= LARGEST

    def write(self, samples: Samples) -> None:
        whole = np.clip(np.rint(samples * 32768), -32768, 32767).astype("<i2")
        self._peak = max(self._peak, int(np.abs(whole.astype(np.int32)).max(initial=0)))
        self._held.append(whole.tobytes())
        self._count += len(samples)
        self._waits += len(samples)
        if self._waits >= self._rate:
            self._flush()

    def close(self) -> Take:
        self._flush()
        self._file.close()
        return Take(self.path, self._count / self._rate, decibels((self._peak / 32768) ** 2))

    def _flush(self) -> None:
        """Write the buffered samples, and a header with the new size."""
        frame = 2 * self._channels
        size = frame * self._count
        coding = struct.pack("<IHHIIHH", 16, 1, self._channels, self._rate, frame * self._rate, frame, 16)
        head = b"RIFF" + struct.pack("<I", 36 + size) + b"WAVEfmt " + coding + b"data" + struct.pack("<I", size)
        with files.explain_os_errors(self.path):
            self._file.seek(0, os.SEEK_END)
            self._file.write(b"".join([bytes(len(head))] * (not self._file.tell()) + self._held))
            self._file.seek(0)
            self._file.write(head)
            self._file.flush()
        self._held, self._waits = [], 0


class Splitter:
    """Cuts sound where it is silent for half a second.

    Args:
        rate: sample rate in Hz.
        threshold: level in dB of full scale; a frame of 20 ms below it is silent.
    """

    def __init__(self, rate: int, threshold: float) -> None:
        self._size, self._threshold = max(round(FRAME * rate), 1), threshold
        self._around, self._pause, self._shortest = (round(span / FRAME) for span in (AROUND, PAUSE, SHORTEST))
        self._rest: Samples | None = None
        self._held: list[Samples] = []  # frames that may still become part of a take
        self._loud = self._silent = 0  # loud frames of this take, silent frames since the last of them
        self._running = False  # whether a take has started

    def feed(self, samples: Samples) -> Iterator[Samples | None]:
        """Add samples `(S, C)`; yield the samples that belong to a take, and None at the end of each take."""
        joined = samples if self._rest is None else np.concatenate([self._rest, samples])
        whole = len(joined) // self._size * self._size
        self._rest = joined[whole:]
        for at in range(0, whole, self._size):
            yield from self._frame(joined[at : at + self._size])

    def finish(self) -> Iterator[Samples | None]:
        """Yield the rest of the last take."""
        if self._running:
            yield from self._held[: self._around]
            yield None

    def _frame(self, frame: Samples) -> Iterator[Samples | None]:
        self._held.append(frame)
        if level_of(frame) >= self._threshold:
            self._loud, self._silent = self._loud + 1, 0
            self._running = self._running or self._loud >= self._shortest
            if self._running:
                yield from self._held
                self._held = []
            return
        self._silent += 1
        if not self._loud:
            del self._held[: -self._around]
        elif self._silent >= self._pause:
            if self._running:
                yield from self._held[: self._around]
                yield None
            self._held = self._held[-self._around :]
            self._loud, self._running = 0, False


def record(
    source: Source,
    place: Callable[[], Path],
    rate: int,
    seconds: float | None = None,
    silence: float | None = None,
    meter: Callable[[float], None] = lambda _: None,
    notify: Callable[[Take], None] = lambda _: None,
) -> int:
    """Record until `seconds` are over, the source ends, or Ctrl-C is pressed.

    Args:
        source: the source of the sound.
        place: returns the path of each take, which must not exist.
        rate: sample rate of the files in Hz.
        seconds: length of sound to record, silence included; None for no limit.
        silence: level in dB of full scale below which takes are separated; None for one take.
        meter: called with the level of each block, in dB of full scale.
        notify: called with each finished take.

    Returns:
        The number of samples that the source lost.

    Raises:
        CallError: `seconds` or `silence` is out of range.
    """
    if seconds is not None and not 0 < seconds < math.inf:
        raise CallError(f"seconds must be a number above 0, is {seconds:g}")
    if silence is not None and math.isnan(silence):
        raise CallError("silence must be a level in dB of full scale, such as -45, is nan")
    writer: _Writer | None = None
    splitter = None if silence is None else Splitter(rate, silence)
    lost = 0

    def put(parts: Iterator[Samples | None]) -> None:
        nonlocal writer
        for part in parts:
            if writer and (part is None or writer.full):
                done, writer = writer.close(), None
                notify(done)
            if part is not None and len(part):
                writer = writer or _Writer(place(), rate, source.channels)
                writer.write(part)

    def count(dropped: int) -> None:
        nonlocal lost
        lost += dropped

    try:
        for samples in _resampled(source, rate, seconds, meter, count):
            put(splitter.feed(samples) if splitter else iter([samples]))
    finally:
        put(splitter.finish() if splitter else iter([None]))
    return lost


def _resampled(
    source: Source, rate: int, seconds: float | None, meter: Callable[[float], None], count: Callable[[int], None]
) -> Iterator[Samples]:
    """Yield the samples `(S, C)` at the requested rate until there are enough or the user stops."""
    left = math.inf if seconds is None else round(seconds * rate)
    resampler: Any = None
    if source.rate != rate:
        resampler = soxr.ResampleStream(source.rate, rate, source.channels, dtype="float32", quality="HQ")
    with stoppable() as stop:
        while left > 0 and not stop.asked:
            blocks = source.take(WAIT)
            if blocks is None:
                break
            for block in blocks:
                meter(level_of(block.samples))
                count(block.lost)
                samples = resampler.resample_chunk(block.samples) if resampler else block.samples
                samples = samples[: int(min(left, len(samples)))]
                left -= len(samples)
                yield samples
        if resampler and left > 0:
            yield resampler.resample_chunk(np.empty((0, source.channels), np.float32), last=True)


def refuse_label(label: str) -> None:
    """Raise an error for a label that cannot be a folder name.

    Raises:
        CallError: it cannot.
    """
    if label in {"", ".", ".."} or label.startswith(".") or re.search(r'[\x00-\x1f/\\:*?"<>|]', label):
        raise CallError(f"--label {label!r}: is not usable as a folder name")


def places(out: Path | None, label: str | None, split: bool) -> Callable[[], Path]:
    """A function that returns the path of each take.

    Args:
        out: the file; with `label`, the folder of class folders; with `split`, the folder of the takes; None for a name
            with the current time, or for the folder `sounds` with a label.
        label: the class of all takes.
        split: whether there can be several takes.

    Raises:
        CallError: the file exists already, or is not a WAV file.
    """
    now = f"{datetime.now():%Y%m%d-%H%M%S}"
    number = 0
    if label is not None or split:
        folder = out or Path(f"recording-{now}")
        if label is not None:
            folder = (out or Path("sounds")) / label
        if folder.exists() and not folder.is_dir():
            raise CallError(f"--out {folder}: is a file; with --label or --split-on-silence it must be a folder")
        stem, first = folder / now, ""
    else:
        path = out or Path(f"recording-{now}.wav")
        if path.suffix.lower() != ".wav":
            raise CallError(f"--out {path}: recordings are WAV files; the name must end in .wav")
        if path.exists():
            raise CallError(f"--out {path}: exists already and is not overwritten")
        stem, first = path.with_suffix(""), path.suffix

    def place() -> Path:
        nonlocal number
        while True:
            number += 1
            path = stem.with_name(stem.name + (first if first and number == 1 else f"-{number:03}.wav"))
            if not path.exists():
                return path

    return place
