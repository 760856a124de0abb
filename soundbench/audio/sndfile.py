"""Decode WAV, AIFF, AU, CAF, W64, FLAC, Ogg Vorbis, Opus and MP3 with libsndfile."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import soundfile

from soundbench.audio.frames import last_ogg_page
from soundbench.audio.splices import Piece
from soundbench.errors import SoundError

__all__ = ["VERSION", "info", "pieces"]

VERSION = f"libsndfile {soundfile.__libsndfile_version__}"

# libsndfile's length of a file that does not state it.
ENDLESS = 1 << 62
# MP3 frames depend on up to nine earlier ones: samples right after a seek are wrong.
PREROLL = 10 * 1152
LOSSY = frozenset({"VORBIS", "OPUS", "MPEG_LAYER_I", "MPEG_LAYER_II", "MPEG_LAYER_III"})
FLOATS = frozenset({"FLOAT", "DOUBLE"})
KNOWN = "WAV, FLAC, Ogg Vorbis, Opus, MP3, AIFF, AU, CAF, W64"


def pieces(name: str, target: Any, kind: str, start: float, stop: float | None, most: int) -> Iterator[Piece]:
    """Decode a section.

    Args:
        name: the name of the sound in errors.
        target: a path or a file object.
        kind: the name of its format in errors; "" if unknown.
        start: start in seconds.
        stop: end in seconds; None for the end.
        most: samples, over all channels, to decode at a time, so that many channels or hours need no more memory.
    """
    with _open(name, target, kind) as file:
        # soundfile seeks to its position after each read: decoders restart there, and some files cannot seek.
        file.seekable = lambda: False
        rate, frames, form = file.samplerate, file.frames, file.subtype
        begin = round(start * rate)
        count = ENDLESS if stop is None else round(stop * rate) - begin
        known = frames < ENDLESS and "MPEG" not in form  # MPEG's length may be an estimate
        if known and begin >= frames > 0:
            until = "the end" if stop is None else f"{stop:g} s"
            raise SoundError(name, f"no samples between {start:g} s and {until}; it lasts {frames / rate:g} s")
        try:
            at = file.seek(_where(file, target, begin)) if 0 < begin < frames < ENDLESS else 0
            given = 0
            for block in _blocks(file, begin - at + count, frames - at, max(most // file.channels, 1)):
                kept = block[max(begin - at, 0) :]
                at += len(block)
                given += len(kept)
                if len(kept):
                    yield Piece(kept, rate, form in LOSSY, form in LOSSY or form in FLOATS)
        except soundfile.LibsndfileError:
            raise SoundError(name, _undecodable(kind or file.format)) from None
        expected = min(count, frames - begin) if known else 0
        if given < expected:
            raise SoundError(name, f"corrupt: {given} of {expected} samples can be decoded; copy it again")


def info(name: str, target: Any, kind: str) -> tuple[int, int, float, str]:
    """Rate, channels, seconds and coding, from the header."""
    with _open(name, target, kind) as file:
        seconds = file.frames / file.samplerate if file.frames < ENDLESS else 0.0
        return file.samplerate, file.channels, seconds, f"{file.format} {file.subtype}"


def _open(name: str, target: Any, kind: str) -> Any:
    try:
        return soundfile.SoundFile(target)
    except (soundfile.LibsndfileError, TypeError):  # TypeError: a file named *.raw
        if not kind:
            reason = f"is not a sound file of a known format ({KNOWN}; with soundbench[av] also M4A, AAC, WebM)"
            raise SoundError(name, reason) from None
        # for an MP3 without a frame libsndfile reports a missing file
        wrong = "no MPEG frame that can be decoded" if kind == "MP3" else "its header cannot be read"
        raise SoundError(name, f"damaged {kind} file: {wrong}; copy or convert it again") from None


def _undecodable(kind: str) -> str:
    return f"damaged {kind} file: its sound cannot be decoded; copy or convert it again"


def _where(file: Any, target: Any, begin: int) -> int:
    """Where to seek so that the samples are exact from `begin` on."""
    if "MPEG" in file.subtype:
        return max(begin - PREROLL, 0)
    if file.subtype != "VORBIS":
        return begin
    # After a seek into the last page, libsndfile is off by the number of samples trimmed at the end.
    if not isinstance(target, (str, bytes)):
        at = target.tell()
        last = last_ogg_page(target)
        target.seek(at)
    else:
        with open(target, "rb") as beside:
            last = last_ogg_page(beside)
    return max(min(begin, last - 1), 0)


def _blocks(file: Any, count: int, likely: int, most: int) -> Iterator[np.ndarray]:
    """Up to `count` samples `(S, C)` from the current position; `likely` is the stated number, only an estimate."""
    asked = min(count, most, likely + 1)  # one more than likely, so that the first read finds the end
    while count > 0:
        block = file.read(out=np.empty((asked, file.channels), dtype=np.float32))
        yield block
        if len(block) < asked:
            return
        count -= asked
        asked = min(count, most)
