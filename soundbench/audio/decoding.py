"""Sound from files, bytes and file objects: decoded, mixed down to one channel, resampled, set to a level.

libsndfile (soundfile) reads WAV, AIFF, AU, CAF, W64, FLAC, Ogg Vorbis, Opus and MP3; PyAV, where it is installed
(`pip install 'soundbench[av]'`), reads M4A, AAC, WebM and their like. Samples are float32, and 1.0 is full scale; what
a float file holds beyond it is kept. Sound that is damaged is refused rather than read as something else.
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

# What folders are searched for; below, what PyAV reads.
SUFFIXES = frozenset(
    {".wav", ".wave", ".rf64", ".w64", ".aif", ".aiff", ".aifc", ".au", ".snd", ".caf"}
    | {".flac", ".ogg", ".oga", ".opus", ".mp3", ".mp2"}
    | {".m4a", ".mp4", ".aac", ".webm", ".mka", ".wma", ".ac3", ".amr", ".ape", ".wv", ".spx"}
)
# What the samples depend on beside the file.
VERSIONS = f"{sndfile.VERSION}, soxr {soxr.__version__} HQ"

# Below -400 dB there is no sound: what is smaller (codecs leave 1e-34) only makes arithmetic slow.
SILENCE = 1e-20
# Above 18 dB over full scale a lossy codec decodes what was never encoded.
LOUDEST = 8.0
# Seconds of the frames that silence is told by.
FRAME = 0.02
# Seconds that a sound of a very low rate may last: it grows when resampled, by a thousand and more.
LONGEST = 3600


@attrs.frozen
class SoundInfo:
    """What a file's header says.

    Attributes:
        rate: samples a second.
        channels: how many.
        seconds: how long it says it lasts; an estimate for MP3 without a header of its own, 0 where it does not say.
        format: container and coding, such as `WAV PCM_16`.
    """

    rate: int
    channels: int
    seconds: float
    format: str


@attrs.define
class _Opened:
    """A source, open and looked at.

    Attributes:
        name: what errors call it.
        file: for reading it here.
        target: what the decoders are given: the path where there is one, which they read without Python in between.
        size: in bytes.
        kind: as `containers.sniff` names it.
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
        """While the file itself is read; afterwards it is at its beginning, where decoders want it."""
        try:
            yield
            self.file.seek(0)
        except OSError as error:
            raise self.error(f"cannot be read: {error.strerror or error}") from None


def decode(source: Source, start: float = 0.0, stop: float | None = None) -> tuple[np.ndarray, int]:
    """The samples of a sound, or of a stretch of it, mixed down to one channel by their mean.

    Args:
        source: a path, a file's bytes, or a file object that is open for reading in binary.
        start: where to begin, in seconds; exact to the sample.
        stop: where to end, in seconds; None, or anything beyond the end, for the end.

    Returns:
        Samples `(S,)` float32, never none, always finite; and their rate.

    Raises:
        SoundError: naming the sound, what is wrong with it, and what would be right.
    """
    with _open(source) as sound:
        if not (0 <= start < math.inf and (stop is None or start < stop)):
            raise sound.error(f"no samples between {_span(start, stop)}; it must start at 0 s or later, and stop after")
        if stop is None:  # before decoding, where it is decoded to the end: MP3's decoder prints what it dislikes
            sound.refuse_damage()
        decoder = pyav if sound.kind in containers.PYAV_KINDS else sndfile
        samples, rate, lossy = decoder.decode(sound.name, sound.target, sound.kind, start, stop)
        if stop is not None and len(samples) < _frame(stop, rate) - _frame(start, rate):
            sound.refuse_damage()
        if not len(samples):
            raise sound.error("holds no samples" if start == 0 else f"no samples between {_span(start, stop)}")
        return _checked(sound, samples, lossy), rate


def resample(samples: np.ndarray, rate: int, target: int) -> np.ndarray:
    """Another rate, by soxr's high quality: flat to 0.9 of the band, images below -130 dB.

    Shape: `(S,)` to `(round(S * target / rate),)` float32; one sample at least where there was one.
    """
    samples = np.asarray(samples, dtype=np.float32)
    if rate == target or not len(samples):
        return samples
    changed = soxr.resample(samples, rate, target, quality="HQ")
    return np.asarray(changed if len(changed) else samples[:1], dtype=np.float32)


def load(source: Source, rate: int, start: float = 0.0, stop: float | None = None) -> np.ndarray:
    """`decode` and `resample`: samples `(S,)` float32 at `rate`, never none."""
    samples, native = decode_for(source, rate, start, stop)
    return resample(samples, native, rate)


def decode_for(source: Source, rate: int, start: float = 0.0, stop: float | None = None) -> tuple[np.ndarray, int]:
    """`decode`, of what can be resampled to `rate`: what would grow beyond measure is refused too."""
    samples, native = decode(source, start, stop)
    _refuse_slow(_name(source), len(samples), native, rate)
    return samples, native


def blocks(source: Source, rate: int) -> Iterator[np.ndarray]:
    """`load`, a block of some seconds after the other: the same samples, and memory that does not grow with them.

    What is damaged is refused when its block is reached.
    """
    with _open(source) as sound:
        sound.refuse_damage()
        decoder = pyav if sound.kind in containers.PYAV_KINDS else sndfile
        resampler: Any = None
        heard = given = 0
        first = np.empty(0, np.float32)
        for samples, native, lossy in decoder.stream(sound.name, sound.target, sound.kind):
            if not len(samples):
                continue
            samples = _checked(sound, samples, lossy)
            first = first if heard else samples[:1].copy()
            heard += len(samples)
            _refuse_slow(sound.name, heard, native, rate)
            if native != rate:
                resampler = resampler or soxr.ResampleStream(native, rate, 1, dtype="float32", quality="HQ")
                samples = resampler.resample_chunk(samples)
            given += len(samples)
            if len(samples):
                yield samples
        if not heard:
            raise sound.error("holds no samples")
        if resampler:
            rest = resampler.resample_chunk(np.empty(0, np.float32), last=True)
            if len(rest) or not given:
                yield rest if len(rest) else first


def _refuse_slow(name: str, samples: int, native: int, rate: int) -> None:
    """Refuse what would grow beyond measure when it is resampled."""
    seconds = samples / native
    if seconds > LONGEST and native * 16 < rate:
        hours = f"{seconds / 3600:.0f} hours" if seconds >= 7200 else f"{seconds / 60:.0f} minutes"
        reason = f"its header says {native} Hz, which makes it last {hours}; a rate so low may last an hour at most"
        raise SoundError(name, reason)


def trim(samples: np.ndarray, rate: int, decibels: float | Literal["off"]) -> np.ndarray:
    """Samples `(S,)` without the silence at both ends: a view that begins and ends with a frame that is loud enough.

    A frame is 20 ms, and loud enough when its energy is at most `decibels` below that of the loudest one. So there is
    always one left, and digital silence stays whole.
    """
    if decibels == "off":
        return samples
    begin, end = loud([samples], rate, decibels)
    return samples[begin:end]


def loud(parts: Iterable[np.ndarray], rate: int, decibels: float) -> tuple[int, int]:
    """From where to where `trim` keeps a sound that comes in blocks, in samples."""
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
    """What a file's header says, without decoding it: a millisecond a file.

    Raises:
        SoundError: where it cannot be read as sound.
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
    """The source as a file that can seek, its size and its kind; refused where it is no file or empty."""
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
        raise CallError(f"a sound is a path, bytes or a file object, not {type(source).__name__}")
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
    """Finite, believable, and without the smallest numbers."""
    magnitude = np.abs(samples)
    peak = float(magnitude.max())
    if not math.isfinite(peak):
        wrong = int(np.count_nonzero(~np.isfinite(samples)))
        raise sound.error(f"{wrong} of {len(samples)} samples are NaN or infinite; samples are finite numbers")
    if lossy and peak > LOUDEST:
        raise sound.error(f"corrupt: decodes to a peak of {peak:.1f}, where 1.0 is full scale; copy it again")
    samples[magnitude < SILENCE] = 0
    return samples
