"""Decode M4A, AAC, WebM and similar formats, which libsndfile does not read, with PyAV (`soundbench[av]`)."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from soundbench.errors import SoundError

__all__ = ["decode", "info", "stream"]

# Seconds that may be missing of the stated length: codecs pad and trim their first and last frames.
SLACK = 0.5


def decode(name: str, target: Any, kind: str, start: float, stop: float | None) -> tuple[np.ndarray, int, bool]:
    """Decode a section, mixed down: its samples, their rate, and whether the codec is lossy.

    Everything before the section is decoded too, and dropped: time stamps (milliseconds in WebM) are too coarse to
    seek to a sample. Convert long files to WAV or FLAC if many sections of them are read.

    Args:
        name: the name of the sound in errors.
        target: a path or a file object.
        kind: the name of its format in errors.
        start: start in seconds.
        stop: end in seconds; None for the end.

    Returns:
        Samples `(S,)` float32, possibly none; rate in Hz; lossy, which is always assumed.
    """
    parts: list[np.ndarray] = []
    rate = done = 0
    with _open(name, target, kind) as (container, stream):
        for block, rate in _frames(container, stream):
            begin = round(start * rate)
            end = math.inf if stop is None else round(stop * rate)
            kept = block[:, max(begin - done, 0) : int(min(end - done, block.shape[1]))]
            parts.append(kept.mean(axis=0, dtype=np.float32))
            done += block.shape[1]
            if done >= end:
                break
        promised = _seconds(container, stream)
    if stop is None and rate:
        _refuse_truncated(name, promised, done / rate)
    return np.concatenate([*parts, np.empty(0, dtype=np.float32)]), rate, True


def stream(name: str, target: Any, kind: str) -> Iterator[tuple[np.ndarray, int, bool]]:
    """Like `decode` of the whole sound, in blocks."""
    seconds = 0.0
    with _open(name, target, kind) as (container, track):
        for block, rate in _frames(container, track):
            seconds += block.shape[1] / rate
            yield block.mean(axis=0, dtype=np.float32), rate, True
        promised = _seconds(container, track)
    if seconds:
        _refuse_truncated(name, promised, seconds)


def info(name: str, target: Any, kind: str) -> tuple[int, int, float, str]:
    """Rate, channels, seconds and coding, from the header."""
    with _open(name, target, kind) as (container, stream):
        codec = stream.codec_context
        return codec.sample_rate, codec.channels, _seconds(container, stream), f"{kind} {codec.name}"


@contextmanager
def _open(name: str, target: Any, kind: str) -> Iterator[tuple[Any, Any]]:
    """The container and its first audio stream; errors of PyAV become `SoundError`."""
    try:
        import av.error
    except ImportError:
        raise SoundError(
            name, f"{kind} is decoded by PyAV, which is not installed: pip install 'soundbench[av]'"
        ) from None
    try:
        path = os.fsdecode(target) if isinstance(target, bytes) else target
        with av.open(path, metadata_errors="ignore") as container:
            if not container.streams.audio:
                raise SoundError(name, f"{kind} file without sound")
            yield container, container.streams.audio[0]
    except (av.error.FFmpegError, OSError, ValueError) as error:
        said = getattr(error, "strerror", None) or str(error)
        raise SoundError(name, f"damaged {kind} file: PyAV reports '{said}'; copy or convert it again") from None


def _frames(container: Any, stream: Any) -> Iterator[tuple[np.ndarray, int]]:
    """Decoded blocks `(C, S)` float32, each with its rate."""
    import av

    planar = av.AudioResampler(format="fltp")
    for frame in container.decode(stream):
        for part in planar.resample(frame):
            yield part.to_ndarray(), part.sample_rate


def _refuse_truncated(name: str, promised: float, there: float) -> None:
    if promised - there > SLACK:
        said = f"the header states {promised:.2f} s of sound, the file has {there:.2f} s"
        raise SoundError(name, f"truncated: {said}; copy it again")


def _seconds(container: Any, stream: Any) -> float:
    """The length stated by the header; 0 if it states none."""
    if stream.duration:
        return float(stream.duration * stream.time_base)
    return float(container.duration / 1_000_000) if container.duration else 0.0
