"""Decode sound from files, bytes and file objects; mix down to one channel, resample, trim silence.

libsndfile (soundfile) reads WAV, AIFF, AU, CAF, W64, FLAC, Ogg Vorbis, Opus and MP3. PyAV, if installed
(`pip install 'soundbench[av]'`), reads M4A, AAC, WebM and similar formats. Samples are float32 with full scale at 1.0;
values beyond it in float files are kept. A damaged file raises an error and is never read as something else.
"""

from __future__ import annotations

import io
import math
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Literal, TypeAlias

import attrs
import numpy as np
import soxr

from soundbench.audio import containers, pyav, sndfile
from soundbench.errors import CallError, SoundError

__all__ = [
    "SUFFIXES",
    "VERSIONS",
    "SoundInfo",
    "Source",
    "blocks",
    "decode",
    "decode_for",
    "info",
    "load",
    "loud",
    "resample",
    "trim",
]

Source: TypeAlias = str | Path | bytes | BinaryIO

# The suffixes of sound files; the last line is read by PyAV.
SUFFIXES = frozenset(
    {".wav", ".wave", ".rf64", ".w64", ".aif", ".aiff", ".aifc", ".au", ".snd", ".caf"}
    | {".flac", ".ogg", ".oga", ".opus", ".mp3", ".mp2"}
    | {".m4a", ".mp4", ".aac", ".webm", ".mka", ".wma", ".ac3", ".amr", ".ape", ".wv", ".spx"}
)
# The versions of the libraries that the samples depend on.
VERSIONS = f"{sndfile.VERSION}, soxr {soxr.__version__} HQ"

# -400 dB: smaller values, which codecs leave (1e-34), are no sound and make arithmetic slow.
SILENCE = 1e-20
# 18 dB over full scale: a higher peak from a lossy codec means damaged data.
LOUDEST = 8.0
# Length of the frames for detecting silence, in seconds.
FRAME = 0.02
# The longest sound of a very low sample rate, in seconds: resampling multiplies its size by a thousand or more.
LONGEST = 3600


@attrs.frozen
class SoundInfo:
    """The header of a sound file.

    Attributes:
        rate: sample rate in Hz.
        channels: number of channels.
        seconds: stated length; an estimate for MP3 without a length header, 0 if not stated.
        format: container and coding, such as `WAV PCM_16`.
    """

    rate: int
    channels: int
    seconds: float
    format: str


@attrs.define
class _Opened:
    """An open source.

    Attributes:
        name: its name in errors.
        file: the file, for reading it here.
        target: the input of the decoders: the path if there is one, which they read without going through Python.
        size: size in bytes.
        kind: format, as named by `containers.sniff`.
    """

    name: str
    file: BinaryIO
    target: Any
    size: int = 0
    kind: str = ""

    def error(self, reason: str) -> SoundError:
        return SoundError(self.name, reason)

    def refuse_damage(self) -> None:
        with self.read():
            reason = containers.damage(self.file, self.size, self.kind)
        if reason:
            raise self.error(reason)

    @contextmanager
    def read(self) -> Iterator[None]:
        """Read the file in the body; afterwards it is rewound for the decoders."""
        try:
            yield
            self.file.seek(0)
        except OSError as error:
            raise self.error(f"cannot be read: {error.strerror or error}") from None


def decode(source: Source, start: float = 0.0, stop: float | None = None) -> tuple[np.ndarray, int]:
    """Decode a sound or a section of it, mixed down to one channel by the mean.

    Args:
        source: a path, the bytes of a file, or a file object open for reading in binary.
        start: start in seconds, exact to the sample.
        stop: end in seconds; None, or any value after the end, for the end.

    Returns:
        Samples `(S,)` float32, at least one, all finite; and their sample rate in Hz.

    Raises:
        SoundError: the sound cannot be read; the message names it and the reason.
    """
    with _open(source) as sound:
        if not (0 <= start < math.inf and (stop is None or start < stop)):
            raise sound.error(f"no samples between {_span(start, stop)}; it must start at 0 s or later, and stop after")
        if stop is None:  # check before decoding to the end: the MP3 decoder prints warnings
            sound.refuse_damage()
        decoder = pyav if sound.kind in containers.PYAV_KINDS else sndfile
        samples, rate, lossy = decoder.decode(sound.name, sound.target, sound.kind, start, stop)
        if stop is not None and len(samples) < _frame(stop, rate) - _frame(start, rate):
            sound.refuse_damage()
        if not len(samples):
            raise sound.error("holds no samples" if start == 0 else f"no samples between {_span(start, stop)}")
        return _checked(sound, samples, lossy), rate


def resample(samples: np.ndarray, rate: int, target: int) -> np.ndarray:
    """Change the sample rate with soxr's high quality: flat to 0.9 of the band, images below -130 dB.

    Shape: `(S,)` to `(round(S * target / rate),)` float32; at least one sample if there was one.
    """
    samples = np.asarray(samples, dtype=np.float32)
    if rate == target or not len(samples):
        return samples
    changed = soxr.resample(samples, rate, target, quality="HQ")
    return np.asarray(changed if len(changed) else samples[:1], dtype=np.float32)


def load(source: Source, rate: int, start: float = 0.0, stop: float | None = None) -> np.ndarray:
    """`decode`, then `resample`: samples `(S,)` float32 at `rate` Hz, at least one."""
    samples, native = decode_for(source, rate, start, stop)
    return resample(samples, native, rate)


def decode_for(source: Source, rate: int, start: float = 0.0, stop: float | None = None) -> tuple[np.ndarray, int]:
    """`decode` a sound that is to be resampled to `rate`; one that would become too large raises `SoundError`, too."""
    samples, native = decode(source, start, stop)
    _refuse_slow(_name(source), len(samples), native, rate)
    return samples, native


def blocks(source: Source, rate: int) -> Iterator[np.ndarray]:
    """Like `load`, but yield blocks of a few seconds: the same samples, with constant memory.

    An error in damaged sound is raised when its block is reached.
    """
    with _open(source) as sound:
        sound.refuse_damage()
        decoder = pyav if sound.kind in containers.PYAV_KINDS else sndfile
        resampler: Any = None
        decoded = given = 0
        first = np.empty(0, np.float32)
        for samples, native, lossy in decoder.stream(sound.name, sound.target, sound.kind):
            if not len(samples):
                continue
            samples = _checked(sound, samples, lossy)
            first = first if decoded else samples[:1].copy()
            decoded += len(samples)
            _refuse_slow(sound.name, decoded, native, rate)
            if native != rate:
                resampler = resampler or soxr.ResampleStream(native, rate, 1, dtype="float32", quality="HQ")
                samples = resampler.resample_chunk(samples)
            given += len(samples)
            if len(samples):
                yield samples
        if not decoded:
            raise sound.error("holds no samples")
        if resampler:
            rest = resampler.resample_chunk(np.empty(0, np.float32), last=True)
            if len(rest) or not given:
                yield rest if len(rest) else first


def _refuse_slow(name: str, samples: int, native: int, rate: int) -> None:
    """Raise an error for a sound that resampling would make too large."""
    seconds = samples / native
    if seconds > LONGEST and native * 16 < rate:
        hours = f"{seconds / 3600:.0f} hours" if seconds >= 7200 else f"{seconds / 60:.0f} minutes"
        reason = f"its header states {native} Hz, so that it lasts {hours}; at such a low rate the limit is one hour"
        raise SoundError(name, reason)


def trim(samples: np.ndarray, rate: int, decibels: float | Literal["off"]) -> np.ndarray:
    """Samples `(S,)` without silence at both ends: a view from the first loud frame to the last.

    A frame of 20 ms is loud if its energy is at most `decibels` below that of the loudest frame. So at least one frame
    remains, and digital silence is not changed.
    """
    if decibels == "off":
        return samples
    begin, end = loud([samples], rate, decibels)
    return samples[begin:end]


def loud(parts: Iterable[np.ndarray], rate: int, decibels: float) -> tuple[int, int]:
    """The start and end, in samples, that `trim` keeps of a sound given in blocks."""
    size = max(round(FRAME * rate), 1)
    energies: list[np.ndarray] = []
    left = np.empty(0, np.float32)
    total = 0
    for part in parts:
        total += len(part)
        joined = np.concatenate([left, part]) if len(left) else part
        whole = len(joined) // size * size
        if whole:
            energies.append(np.square(joined[:whole].reshape(-1, size), dtype=np.float64).sum(axis=1))
        left = joined[whole:]
    if len(left):
        energies.append(np.square(left, dtype=np.float64).sum(keepdims=True))
    frames = np.concatenate(energies)
    kept = np.flatnonzero(frames >= frames.max() * 10 ** (-decibels / 10))
    return int(kept[0]) * size, min((int(kept[-1]) + 1) * size, total)


def info(path: Source) -> SoundInfo:
    """Read the header of a sound file without decoding it, in about a millisecond.

    Raises:
        SoundError: the file cannot be read as sound.
    """
    with _open(path) as sound:
        decoder = pyav if sound.kind in containers.PYAV_KINDS else sndfile
        return SoundInfo(*decoder.info(sound.name, sound.target, sound.kind))


def _name(source: Source) -> str:
    if isinstance(source, (str, os.PathLike)):
        return os.fspath(source)
    if isinstance(source, (bytes, bytearray, memoryview)):
        return "<bytes>"
    name = getattr(source, "name", None)
    return name if isinstance(name, str) else "<file>"


def _span(start: float, stop: float | None) -> str:
    return f"{start:g} s and {'the end' if stop is None else f'{stop:g} s'}"


def _frame(seconds: float, rate: int) -> int:
    return round(seconds * rate)


@contextmanager
def _open(source: Source) -> Iterator[_Opened]:
    """The source as a seekable file with its size and format; an error if it is not a file or empty."""
    name = _name(source)
    if isinstance(source, (str, os.PathLike)):
        try:
            file: BinaryIO = open(source, "rb")  # noqa: SIM115 (closed below, where errors are others')
        except FileNotFoundError:
            raise SoundError(name, "no such file") from None
        except IsADirectoryError:
            raise SoundError(name, "is a folder; a sound file is needed") from None
        except (OSError, ValueError) as error:
            raise SoundError(name, f"cannot be opened: {getattr(error, 'strerror', None) or error}") from None
        with file:
            yield _look(name, file, os.fsencode(source) if os.name == "posix" else os.fspath(source))
    else:
        file = _seekable(name, source)
        yield _look(name, file, file)


def _seekable(name: str, source: Any) -> BinaryIO:
    if isinstance(source, (bytes, bytearray, memoryview)):
        return io.BytesIO(source)
    if not hasattr(source, "read"):
        raise CallError(f"sound must be a path, bytes or a file object, not {type(source).__name__}")
    if isinstance(source.read(0), str):
        raise CallError(f"{name}: the file is open as text; open it with mode 'rb'")
    if getattr(source, "seekable", lambda: False)():
        file: BinaryIO = source
        return file
    return io.BytesIO(source.read())


def _look(name: str, file: BinaryIO, target: Any) -> _Opened:
    sound = _Opened(name, file, target)
    with sound.read():
        sound.size = file.seek(0, os.SEEK_END)
        sound.kind = containers.sniff(file)
    if not sound.size:
        raise sound.error("is empty (0 bytes); a sound file is needed")
    return sound


def _checked(sound: _Opened, samples: np.ndarray, lossy: bool) -> np.ndarray:
    """Check that samples are finite and plausible, and set the smallest ones to zero."""
    magnitude = np.abs(samples)
    peak = float(magnitude.max())
    if not math.isfinite(peak):
        wrong = int(np.count_nonzero(~np.isfinite(samples)))
        raise sound.error(f"{wrong} of {len(samples)} samples are NaN or infinite; samples are finite numbers")
    if lossy and peak > LOUDEST:
        raise sound.error(f"corrupt: decodes to a peak of {peak:.1f}, where 1.0 is full scale; copy it again")
    samples[magnitude < SILENCE] = 0
    return samples
