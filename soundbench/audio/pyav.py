"""Decode M4A, AAC, WebM and similar formats, which libsndfile does not read, with PyAV (`soundbench[av]`).

PyAV is given an open file, the format that it was found to have, and nothing to open others with: FFmpeg would take
some names for addresses, and some contents for lists of files to open.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO, NoReturn

import numpy as np

from soundbench.audio.splices import Piece, at
from soundbench.errors import SoundError

__all__ = ["info", "pieces", "require"]

# Seconds that may be missing of the stated length: codecs pad and trim their first and last frames.
SLACK = 0.5
# FFmpeg's readers.
_READERS = {
    "M4A/MP4": "mov",
    "WebM/Matroska": "matroska",
    "WMA": "asf",
    "AAC": "aac",
    "AC-3": "ac3",
    "AMR": "amr",
    "Monkey's Audio": "ape",
    "WavPack": "wv",
    "Ogg": "ogg",
    "Ogg Speex": "ogg",
    "Ogg FLAC": "ogg",
    "WAV": "wav",
    "AIFF": "aiff",
    "AU": "au",
    "CAF": "caf",
    "MP3": "mp3",
}
# The formats that state no length: what FFmpeg gives is an estimate by the bit rate.
_UNSTATED = frozenset({"AAC", "AC-3", "AMR", "MP3"})
# From so many channels on, PyAV's `to_ndarray` reads beyond planar frames.
_MANY = 8
# Bytes at the start of a Matroska file where its length may be stated.
_HEAD = 1 << 16


def pieces(name: str, file: BinaryIO, kind: str, start: float, stop: float | None, coding: str = "") -> Iterator[Piece]:
    """Decode a section.

    Everything before the section is decoded too, and dropped: time stamps (milliseconds in WebM) are too coarse to
    seek to a sample. Convert long files to WAV or FLAC if many sections of them are read.

    Args:
        name: the name of the sound in errors.
        file: the file, at its start.
        kind: its format.
        start: start in seconds.
        stop: end in seconds; None for the end.
        coding: the name of its coding in errors, where its format has several; or "".
    """
    rate = done = 0
    with _open(name, file, kind, coding) as (container, track):
        for block, now in _blocks(container, track, kind in _UNSTATED):
            if now != (rate or now):
                reason = (
                    f"changes from {rate} to {now} Hz after {done / rate:g} s; convert its parts to one sample rate"
                )
                raise SoundError(name, reason)
            rate = now
            end = math.inf if stop is None else round(stop * rate)
            kept = block[max(round(start * rate) - done, 0) : int(min(end - done, len(block)))]
            done += len(block)
            if len(kept):
                yield Piece(kept, rate, True, True)
            if done >= end:
                return
        promised = _promised(file, kind, container, track)
    if stop is None and rate and promised - done / rate > SLACK:
        said = f"the header states {promised:.2f} s of sound, the file has {done / rate:.2f} s"
        raise SoundError(name, f"truncated: {said}; copy it again")


def require(name: str, kind: str, coding: str = "") -> None:
    """Raise an error if PyAV is not installed."""
    try:
        import av.error  # noqa: F401
    except ImportError:
        what = f"{kind} ({coding})" if coding else kind
        reason = f"{what} is decoded by PyAV, which is not installed: pip install 'soundbench[av]'"
        raise SoundError(name, reason) from None


def info(name: str, file: BinaryIO, kind: str, coding: str = "") -> tuple[int, int, float, str]:
    """Rate, channels, seconds and coding, from the header."""
    with _open(name, file, kind, coding) as (container, track):
        codec = track.codec_context
        return codec.sample_rate, codec.channels, _seconds(container, track), f"{kind} {codec.name}"


@contextmanager
def _open(name: str, file: BinaryIO, kind: str, coding: str) -> Iterator[tuple[Any, Any]]:
    """The container and its first audio stream; errors of PyAV become `SoundError`."""
    require(name, kind, coding)
    import av.error

    try:
        with av.open(file, format=_READERS[kind], metadata_errors="ignore", io_open=_nothing_else) as container:
            tracks = container.streams.audio
            if not tracks:
                raise SoundError(name, f"{kind} file without sound")
            if tracks[0].codec_context is None:
                raise SoundError(name, f"{kind} file in a coding ({coding or 'unknown'}) that cannot be read here")
            yield container, tracks[0]
    except (av.error.FFmpegError, OSError, ValueError, MemoryError):
        reason = f"damaged {kind} file: PyAV cannot decode it; copy or convert it again"
        if coding:
            reason = f"{kind} file in a coding ({coding}) that cannot be read here, or damaged; convert it to PCM"
        raise SoundError(name, reason) from None


def _nothing_else(url: str, flags: int, options: dict[str, str]) -> NoReturn:
    """What a file names, other files and addresses, is not opened."""
    raise PermissionError("a sound file is a single file")


def _blocks(container: Any, track: Any, endless: bool) -> Iterator[tuple[np.ndarray, int]]:
    """Decoded blocks `(S, C)` float32, each with its rate."""
    import av

    form: Any = None
    resampler: Any = None
    for frame in _frames(container, track, endless):
        found = (frame.format.name, frame.layout.name, frame.layout.nb_channels, frame.sample_rate)
        if found != form:
            packed = found[2] >= _MANY
            form, resampler = found, av.AudioResampler(format="flt" if packed else "fltp")
        for part in resampler.resample(frame):
            samples = part.to_ndarray()
            yield samples.reshape(-1, found[2]) if packed else samples.T, part.sample_rate


def _frames(container: Any, track: Any, endless: bool) -> Iterator[Any]:
    """Decoded frames; a stream without a stated length may have been cut off within its last one."""
    import av.error

    wrong: Exception | None = None
    some = False
    for packet in container.demux(track):
        if wrong and packet.size:
            raise wrong
        try:
            frames = packet.decode()
        except av.error.InvalidDataError as error:
            if not endless or not some:
                raise
            wrong = error
            continue
        some = some or bool(frames)
        yield from frames


def _promised(file: BinaryIO, kind: str, container: Any, track: Any) -> float:
    """The stated length in seconds; 0 if none is stated and FFmpeg's is an estimate."""
    if kind in _UNSTATED or (kind == "WebM/Matroska" and b"\x44\x89" not in at(file, 0, _HEAD)):
        return 0.0
    return _seconds(container, track)


def _seconds(container: Any, track: Any) -> float:
    """The length stated by the header, or FFmpeg's estimate; 0 if there is neither."""
    if track.duration:
        return float(track.duration * track.time_base)
    return float(container.duration / 1_000_000) if container.duration else 0.0
