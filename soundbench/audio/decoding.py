"""Decode sound from files, bytes and file objects; mix down to one channel, resample, trim silence.

libsndfile (soundfile) reads WAV, AIFF, AU, CAF, W64, FLAC, Ogg Vorbis, Opus and MP3. PyAV, if installed
(`pip install 'soundbench[av]'`), reads M4A, AAC, WebM and similar formats. Samples are float32 with full scale at 1.0;
values beyond it in float files are kept. A damaged file raises an error and is never read as something else.
"""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Literal, TypeAlias

import attrs
import numpy as np
import soxr

from soundbench.audio import sndfile
from soundbench.audio.opening import STRETCH, Opened, SoundInfo, Source, name_of, open_source
from soundbench.audio.splices import Piece
from soundbench.errors import CancellationWarning, SoundError, SoundWarning

__all__ = [
    "Notice",
    "SUFFIXES",
    "VERSIONS",
    "SoundInfo",
    "Source",
    "blocks",
    "decode",
    "decode_bytes",
    "decode_for",
    "info",
    "load",
    "loud",
    "resample",
    "trim",
    "warn",
]

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
# 40 dB over full scale: a higher peak in a file of floats means that they have the range of integers.
INTEGERS = 100.0
# The channels of a sound cancel each other if mixing takes away so much of what unrelated channels would keep: 26 dB.
CANCELLED = 1 / 400
# The channels of a sound that is louder after mixing are not compared.
QUIET = 0.05
# In decoding as a whole, samples over all channels to decode at a time.
BLOCK = 1 << 22
# The longest sound of a very low sample rate, in seconds: resampling multiplies its size by a thousand or more.
LONGEST = 3600


Notice: TypeAlias = Callable[[SoundWarning], None]


def warn(warning: SoundWarning) -> None:
    """Report it as a Python warning."""
    warnings.warn(warning, stacklevel=2)


@attrs.define
class _Mixer:
    """Mixes channels down, and notices what is odd about them.

    Attributes:
        sound: the sound, for errors.
        peak: the largest magnitude after mixing.
        apart: the energy of a share of the samples, as the mean of the channels.
        mixed: the energy of the same samples after mixing, as it would be if the channels were unrelated.
    """

    sound: Opened
    peak: float = 0.0
    apart: float = 0.0
    mixed: float = 0.0

    def mix(self, piece: Piece) -> np.ndarray:
        """The mean of the channels `(S,)`, all finite and plausible, the smallest ones set to zero."""
        mixed = _mixed(piece.samples.T)
        peak = _check(self.sound, mixed, piece)
        self.peak = max(self.peak, peak)
        channels = piece.samples.shape[1]
        if channels > 1 and self.peak < QUIET:
            step = max(len(mixed) >> 12, 1)
            probe, same = piece.samples[::step], mixed[::step]
            self.apart += float(np.vdot(probe, probe)) / channels
            self.mixed += float(np.vdot(same, same)) * channels
        return mixed

    def notice(self, notice: Notice) -> None:
        """Report what is odd about the sound as a whole."""
        if self.peak < QUIET and self.mixed < self.apart * CANCELLED:
            reason = (
                "its channels cancel each other: hardly anything is left when they are mixed to one; use one of them"
            )
            notice(CancellationWarning(self.sound.name, reason))
        if self.peak > INTEGERS:
            reason = (
                f"its peak is {self.peak:.6g}, where 1.0 is full scale: are these integers, to be divided by 32768?"
            )
            notice(SoundWarning(self.sound.name, reason))


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
    return _decode(source, start, stop, warn)


class _Named(io.BytesIO):
    """The bytes of a file, with its name."""

    name = ""


def decode_bytes(data: bytes, name: str, start: float = 0.0, stop: float | None = None) -> tuple[np.ndarray, int]:
    """`decode` the bytes of a file that errors and warnings call `name`."""
    source = _Named(data)
    source.name = name
    return decode(source, start, stop)


def _decode(source: Source, start: float, stop: float | None, notice: Notice) -> tuple[np.ndarray, int]:
    with open_source(source) as sound:
        if not (0 <= start < math.inf and (stop is None or start < stop)):
            raise sound.error(f"no samples between {_span(start, stop)}; it must start at 0 s or later, and stop after")
        if stop is None or sound.must_look():  # before decoding to the end, which may print warnings
            sound.look()
        mixer, parts, rate = _gather(sound, start, stop)
        if not parts:
            raise sound.error("holds no samples" if start == 0 else f"no samples between {_span(start, stop)}")
        mixer.notice(notice)
        return parts[0] if len(parts) == 1 else np.concatenate(parts), rate


def _gather(sound: Opened, start: float, stop: float | None) -> tuple[_Mixer, list[np.ndarray], int]:
    """Decode a section; if less is there than asked for, look through the file and decode what it holds."""
    mixer, parts, rate = _Mixer(sound), [], 0
    try:
        for piece in sound.pieces(start, stop, BLOCK):
            rate = piece.rate
            parts.append(mixer.mix(piece))
        count = sum(map(len, parts))
        if stop is None:
            sound.refuse_fewer(_frame(start, rate) + count)
        missing = stop is not None and count < _frame(stop, rate) - _frame(start, rate)
    except SoundError:
        if sound.content:
            raise
        missing = True
    if sound.content or not (missing or not rate):
        return mixer, parts, rate
    sound.look()
    return _gather(sound, start, stop)


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


def decode_for(
    source: Source, rate: int, start: float = 0.0, stop: float | None = None, notice: Notice = warn
) -> tuple[np.ndarray, int]:
    """`decode` a sound that is to be resampled to `rate`; one that would become too large raises `SoundError`, too.

    What is odd about the sound is a warning, or given to `notice`.
    """
    samples, native = _decode(source, start, stop, notice)
    _refuse_slow(name_of(source), len(samples), native, rate)
    return samples, native


def blocks(source: Source, rate: int, notice: Notice = warn) -> Iterator[np.ndarray]:
    """Like `load`, but yield blocks of a few seconds: the same samples, with constant memory.

    What is odd about the sound is a warning, or given to `notice`.

    An error in damaged sound is raised when its block is reached.
    """
    with open_source(source) as sound:
        sound.look()
        resampler: Any = None
        decoded = given = 0
        first, mixer = np.empty(0, np.float32), _Mixer(sound)
        for piece in sound.pieces(0.0, None, STRETCH):
            samples, native = mixer.mix(piece), piece.rate
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
        sound.refuse_fewer(decoded)
        mixer.notice(notice)
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
    with open_source(path) as sound:
        if sound.must_look():
            sound.look()
        try:
            return sound.info()
        except SoundError:
            if sound.content:
                raise
        sound.look()
        return sound.info()


def _span(start: float, stop: float | None) -> str:
    return f"{start:g} s and {'the end' if stop is None else f'{stop:g} s'}"


def _frame(seconds: float, rate: int) -> int:
    return round(seconds * rate)


def _mixed(channels: np.ndarray) -> np.ndarray:
    """The mean of channels `(C, S)`: `(S,)`."""
    mixed: np.ndarray = channels[0]
    if len(channels) == 1:
        return mixed
    mixed = mixed.copy()
    with np.errstate(invalid="ignore", over="ignore"):  # values that are not finite raise an error in `_check`
        for channel in channels[1:]:
            mixed += channel
        mixed /= len(channels)
    return mixed


def _check(sound: Opened, samples: np.ndarray, piece: Piece) -> float:
    """Check that samples are finite and plausible, and set the smallest ones to zero; returns the peak."""
    magnitude = np.abs(samples) if piece.floats else None
    peak = max(float(samples.max()), -float(samples.min())) if magnitude is None else float(magnitude.max())
    if not math.isfinite(peak):
        wrong = int(np.count_nonzero(~np.isfinite(samples)))
        raise sound.error(f"{wrong} of {len(samples)} samples are NaN or infinite; samples are finite numbers")
    if piece.lossy and peak > LOUDEST:
        raise sound.error(f"corrupt: decodes to a peak of {peak:.1f}, where 1.0 is full scale; copy it again")
    if magnitude is not None and (small := magnitude < SILENCE).any():
        samples[small] = 0
    return peak
