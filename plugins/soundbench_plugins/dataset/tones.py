"""Tones: ten classes of synthetic sound, computed when they are read; nothing to download.

There are five pairs of classes. The two classes of a pair have the same mean spectrum and the same loudness and differ
only in their course over time: a network that averages over time too early distinguishes five classes at best. Pitch,
timbre, speed, level, background and the moment at which a clip begins are random.

| pair | what differs |
|---|---|
| sweep-up, sweep-down | the direction in which a tone glides, again and again |
| tremolo-slow, tremolo-fast | how many times per second its amplitude swings |
| vibrato-slow, vibrato-fast | how many times per second its pitch swings |
| bursts-even, bursts-paired | whether bursts of noise are evenly spaced or in pairs |
| decay, swell | whether each note starts at once and fades, or grows and stops |

A clip is a function of (seed, its number, seconds, rate) only. Samples are rounded to 16 bits, so that machines whose
sines differ in the last place still agree.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from soundbench.contracts import Clip
from soundbench.errors import DataError

__all__ = ["Tones"]

Samples = npt.NDArray[np.float64]

_VERSION = 1  # of the sound: increase it with any change of what `read` returns
_FOLDS = 5
_MOST = 1_000_000  # clips
_SLOW, _FAST = (2.5, 4.0), (8.0, 12.0)  # swings per second


class Tones:
    """Ten synthetic classes with the same loudness and mean spectrum in pairs; no download.

    Folds 1 to 5 have equally many clips of every class; each clip is its own group.

    Args:
        clips: number of clips, of all classes together.
        seconds: length of a clip in seconds.
        seed: seed of the random sounds.
        rate: sample rate in Hz.
    """

    multilabel = False
    classes: ClassVar[tuple[str, ...]] = (
        "sweep-up",
        "sweep-down",
        "tremolo-slow",
        "tremolo-fast",
        "vibrato-slow",
        "vibrato-fast",
        "bursts-even",
        "bursts-paired",
        "decay",
        "swell",
    )

    def __init__(self, *, clips: int = 1200, seconds: float = 1.0, seed: int = 0, rate: int = 16000) -> None:
        if clips < len(self.classes):
            raise ValueError(f"clips must be at least {len(self.classes)}, one of each class, is {clips}")
        if clips > _MOST:
            raise ValueError(f"clips must be at most {_MOST:,}, is {clips}")
        if not 0.5 <= seconds <= 60:
            raise ValueError(f"seconds must be from 0.5 to 60, is {seconds:g}")
        if seed < 0:
            raise ValueError(f"seed must be at least 0, is {seed}")
        if not 8000 <= rate <= 192000:
            raise ValueError(f"rate must be from 8000 to 192000, is {rate}")
        self.count, self.seconds, self.seed, self.rate = clips, seconds, seed, rate

    @property
    def fingerprint(self) -> str:
        """A text that changes whenever the sound of a clip changes."""
        return f"tones {_VERSION}, seed {self.seed}, {self.seconds!r} s at {self.rate} Hz"

    def clips(self) -> Iterator[Clip]:
        """The clips, class after class in turn, fold after fold."""
        for index in range(self.count):
            fold, label = index // len(self.classes) % _FOLDS + 1, self.classes[index % len(self.classes)]
            path = f"tones/{index:06d}"
            yield Clip(path, (label,), fold=fold, group=path)

    def read(self, clip: Clip) -> tuple[npt.NDArray[np.float32], int]:
        """The samples of a clip, `(S,)` in [-1, 1], and their sample rate."""
        folder, _, number = clip.path.rpartition("/")
        if folder != "tones" or not number.isdecimal():
            raise DataError(f"{clip.path}: not a clip of tones")
        index = int(number)
        rng = np.random.Generator(np.random.PCG64([self.seed, index]))
        sound = _sound(self.classes[index % len(self.classes)], round(self.seconds * self.rate), self.rate, rng)
        background = _noise(len(sound), rng.uniform(0.0, 1.0), self.rate, rng)
        sound = _unit(sound) + 10 ** (-rng.uniform(12.0, 30.0) / 20) * _unit(background)
        sound = 10 ** (rng.uniform(-42.0, -22.0) / 20) * _unit(sound)
        return (np.clip(np.rint(sound * 32768), -32768, 32767) / 32768).astype(np.float32), self.rate


def _sound(label: str, size: int, rate: int, rng: np.random.Generator) -> Samples:
    """The sound of a class before background and level, `(S,)`."""
    time = np.arange(size) / rate
    pitch = 300.0 * 8.0 ** rng.uniform()
    phase = rng.uniform()  # at which point of its rhythm a clip begins, in cycles
    name, _, variant = label.partition("-")
    swings = time * rng.uniform(*(_FAST if variant == "fast" else _SLOW)) + phase
    if name == "sweep":
        ramp = swings % 1.0 - 0.5
        return _tone(pitch * 2.0 ** (rng.uniform(1.0, 2.0) * (ramp if variant == "up" else -ramp)), rate, rng)
    if name == "vibrato":
        return _tone(pitch * 2.0 ** (rng.uniform(0.3, 0.6) * np.sin(2 * np.pi * swings)), rate, rng)
    if name == "tremolo":
        envelope = 1.0 - rng.uniform(0.8, 1.0) * (0.5 + 0.5 * np.cos(2 * np.pi * swings))
        return envelope * _tone(np.full(size, pitch), rate, rng)
    if name == "bursts":
        return _bursts(time, variant == "paired", phase, rng) * _noise(size, rng.uniform(0.0, 2.0), rate, rng)
    fading = swings % 1.0 if name == "decay" else 1.0 - swings % 1.0
    return np.exp(-fading * rng.uniform(3.0, 5.0)) * _tone(np.full(size, pitch), rate, rng)


def _tone(pitch: Samples, rate: int, rng: np.random.Generator) -> Samples:
    """A tone of three partials at a moving pitch, in Hz `(S,)`; partials near half the sample rate are left out."""
    turns = np.cumsum(pitch) / rate
    sound = np.zeros_like(turns)
    for partial, loudness in enumerate((1.0, rng.uniform(0.1, 0.7), rng.uniform(0.1, 0.5)), start=1):
        fits = partial * pitch < 0.45 * rate
        sound += loudness * fits * np.sin(2 * np.pi * (partial * turns + rng.uniform()))
    return sound


def _bursts(time: Samples, paired: bool, phase: float, rng: np.random.Generator) -> Samples:
    """An envelope of short bursts, `(S,)`; the same number per second whether they are even or in pairs."""
    pairs, width = rng.uniform(2.5, 4.0), rng.uniform(0.02, 0.03)
    second = rng.uniform(0.2, 0.25) if paired else 0.5
    since = np.minimum((time * pairs + phase) % 1.0, (time * pairs + phase - second) % 1.0) / pairs
    return np.where(since < width, np.sin(np.pi * np.minimum(since / width, 1.0)), 0.0)


def _noise(size: int, tilt: float, rate: int, rng: np.random.Generator) -> Samples:
    """Noise above 100 Hz, `(S,)`; power falls with frequency to the power of `tilt`: 0 is white, 1 pink, 2 brown."""
    pitch = np.fft.rfftfreq(size, 1 / rate)
    gain = np.where(pitch < 100.0, 0.0, np.maximum(pitch / 100.0, 1.0) ** (-tilt / 2))
    return np.fft.irfft(gain * np.fft.rfft(rng.uniform(-1.0, 1.0, size)), size)


def _unit(sound: Samples) -> Samples:
    """The sound at an RMS of 1."""
    unit: Samples = sound / np.sqrt(np.mean(sound**2))
    return unit
