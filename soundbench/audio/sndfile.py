"""Decode WAV, AIFF, AU, CAF, W64, FLAC, Ogg Vorbis, Opus and MP3 with libsndfile."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import soundfile

from soundbench.audio import containers
from soundbench.errors import SoundError

__all__ = ["VERSION", "decode", "info", "stream"]

VERSION = f"libsndfile {soundfile.__libsndfile_version__}"

# Samples, over all channels, to decode at a time, so that many channels or hours need no more memory.
BLOCK = 1 << 22
# The same for a stream.
STRETCH = 1 << 20
# libsndfile's length of a file that does not state it.
ENDLESS = 1 << 62
# MP3 frames depend on up to nine earlier ones: samples right after a seek are wrong.
PREROLL = 10 * 1152
LOSSY = frozenset({"VORBIS", "OPUS", "MPEG_LAYER_I", "MPEG_LAYER_II", "MPEG_LAYER_III"})
KNOWN = "WAV, FLAC, Ogg Vorbis, Opus, MP3, AIFF, AU, CAF, W64"


def decode(name: str, target: Any, kind: str, start: float, stop: float | None) -> tuple[np.ndarray, int, bool]:
    """Decode a section, mixed down: its samples, their rate, and whether the codec is lossy.

    Args:
        name: the name of the sound in errors.
        target: a path or a file object.
        kind: the name of its format in errors; "" if unknown.
        start: start in seconds.
        stop: end in seconds; None for the end.

    Returns:
        Samples `(S,)` float32, possibly none; rate in Hz; lossy.
    """
    with _open(name, target, kind) as file:
        # soundfile seeks to its position after each read: decoders restart there, and some files cannot seek.
        file.seekable = lambda: False
        rate, frames = file.samplerate, file.frames
        begin = round(start * rate)
        count = ENDLESS if stop is None else round(stop * rate) - begin
        known = frames < ENDLESS and "MPEG" not in file.subtype  # MPEG's length may be an estimate
        if known and begin >= frames > 0:
            until = "the end" if stop is None else f"{stop:g} s"
            raise SoundError(name, f"no samples between {start:g} s and {until}; it lasts {frames / rate:g} s")
        try:
            if 0 < begin < frames < ENDLESS:
                extra = begin - file.seek(_where(file, target, begin))
                samples = _blocks(file, extra + count, extra + frames - begin)[extra:]
            else:
                samples = _blocks(file, begin + count, frames)[begin:]
        except soundfile.LibsndfileError as error:
            raise _unreadable(name, kind, error) from None
        expected = min(count, frames - begin) if known else 0
        if len(samples) < expected:
            raise SoundError(name, f"corrupt: {len(samples)} of {expected} samples can be decoded; copy it again")
        return samples, rate, file.subtype in LOSSY


def stream(name: str, target: Any, kind: str) -> Iterator[tuple[np.ndarray, int, bool]]:
    """Like `decode` of the whole sound, in blocks."""
    with _open(name, target, kind) as file:
        file.seekable = lambda: False  # as above
        rate, frames, lossy = file.samplerate, file.frames, file.subtype in LOSSY
        known = frames < ENDLESS and "MPEG" not in file.subtype
        most = max(STRETCH // file.channels, 1)
        done = 0
        while True:
            asked = min(most, frames + 1) if done == 0 else most
            try:
                block = file.read(out=np.empty((asked, file.channels), dtype=np.float32))
            except soundfile.LibsndfileError as error:
                raise _unreadable(name, kind, error) from None
            done += len(block)
            yield _mixed(block.T), rate, lossy
            if len(block) < asked:
                break
        if known and done < frames:
            raise SoundError(name, f"corrupt: {done} of {frames} samples can be decoded; copy it again")


def info(name: str, target: Any, kind: str) -> tuple[int, int, float, str]:
    """Rate, channels, seconds and coding, from the header."""
    with _open(name, target, kind) as file:
        seconds = file.frames / file.samplerate if file.frames < ENDLESS else 0.0
        return file.samplerate, file.channels, seconds, f"{file.format} {file.subtype}"


def _open(name: str, target: Any, kind: str) -> Any:
    try:
        return soundfile.SoundFile(target)
    except (soundfile.LibsndfileError, TypeError) as error:  # TypeError: a file named *.raw
        raise _unreadable(name, kind, error) from None


def _where(file: Any, target: Any, begin: int) -> int:
    """Where to seek so that the samples are exact from `begin` on."""
    if "MPEG" in file.subtype:
        return max(begin - PREROLL, 0)
    if file.subtype != "VORBIS":
        return begin
    # After a seek into the last page, libsndfile is off by the number of samples trimmed at the end.
    if not isinstance(target, (str, bytes)):
        at = target.tell()
        last = containers.last_ogg_page(target)
        target.seek(at)
    else:
        with open(target, "rb") as beside:
            last = containers.last_ogg_page(beside)
    return max(min(begin, last - 1), 0)


def _unreadable(name: str, kind: str, error: Exception) -> SoundError:
    if not kind:
        reason = f"is not a sound file of a known format ({KNOWN}; with soundbench[av] also M4A, AAC, WebM)"
        return SoundError(name, reason)
    said = getattr(error, "error_string", str(error)).removeprefix("Error : ").strip().rstrip(".")
    if kind == "MP3":  # for an MP3 without a frame libsndfile reports a missing file
        said = "no MPEG frame that can be decoded"
    return SoundError(name, f"damaged {kind} file: {said}; copy or convert it again")


def _blocks(file: Any, count: int, likely: int) -> np.ndarray:
    """Up to `count` frames from the current position, mixed down; `likely` is the stated number, only an estimate."""
    parts = [np.empty(0, dtype=np.float32)]
    most = max(BLOCK // file.channels, 1)
    while count > 0:
        # One frame more than likely, so that the first read finds the end.
        asked = min(count, most, likely + 1 if len(parts) == 1 else most)
        block = file.read(out=np.empty((asked, file.channels), dtype=np.float32))
        parts.append(_mixed(block.T))
        if len(block) < asked:
            break
        count -= asked
    return parts[1] if len(parts) == 2 else np.concatenate(parts)


def _mixed(channels: np.ndarray) -> np.ndarray:
    """The mean of channels `(C, S)`: `(S,)`."""
    with np.errstate(invalid="ignore", over="ignore"):  # values that are not finite raise an error later
        mixed: np.ndarray = channels[0].copy()
        for channel in channels[1:]:
            mixed += channel
        if len(channels) > 1:
            mixed /= len(channels)
    return mixed
