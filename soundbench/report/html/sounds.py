"""The sound of a clip inside a page: its loudest seconds as a spectrogram and in a coding that browsers play."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from typing import Any

import attrs
import numpy as np
import soundfile
from numpy.typing import NDArray
from PIL import Image

from soundbench import audio
from soundbench.contracts import Clip
from soundbench.data.clips import ClipTable
from soundbench.data.sounds import Sounds
from soundbench.errors import SoundbenchError, SoundError, SoundWarning

__all__ = ["LONGEST", "Player", "each_sound", "loudest", "player", "spectrogram"]

Samples = NDArray[np.float32]

LONGEST = 10.0
"""The seconds of a clip that a page has; of a longer one, those are the loudest."""

# Of a file, no more is decoded to find its loudest seconds.
_SEARCHED = 120.0
_WIDTH, _HEIGHT, _DECIBELS, _LEVELS = 420, 128, 80.0, 64
_OPUS_RATES = (8000, 12000, 16000, 24000, 48000)
_BLOCK = 1 << 15
# From black over violet and orange to pale yellow, each step lighter than the one before.
_COLOURS = ((0, 0, 4), (40, 17, 89), (114, 31, 129), (183, 55, 121), (241, 96, 93), (254, 159, 109), (252, 253, 191))


@attrs.frozen
class Player:
    """What a page holds of a sound.

    Attributes:
        kind: the media type of the coding.
        data: the coded sound.
        picture: its spectrogram, a PNG file.
        first: where it begins in the clip, in seconds.
        seconds: how long it is.
        highest: the highest frequency of the spectrogram in Hz.
        whole: whether it is the whole clip.
    """

    kind: str
    data: bytes
    picture: bytes
    first: float
    seconds: float
    highest: float
    whole: bool


def each_sound(dataset: Any, clips: Sequence[Clip]) -> Iterator[Player | str]:
    """For each clip its player, or why there is none: read again from the dataset, or its files.

    Args:
        dataset: if it has `read`, it reads the sound itself.
        clips: as `predictions.csv` has them: without the further values that the dataset's own may have.
    """
    try:
        sounds, rows = _found(dataset, clips)
    except Exception as error:  # a dataset is third-party code, and its files may have gone
        reason = str(error) if isinstance(error, SoundbenchError) else f"{type(error).__name__}: {error}"
        yield from (" ".join(reason.split()) for _ in clips)
        return
    for clip in clips:
        try:
            row = rows.get(_key(clip))
            yield "the dataset no longer has it" if row is None else player(*sounds.native(row, _ignore))
        except SoundError as error:
            yield error.reason


def _found(dataset: Any, clips: Sequence[Clip]) -> tuple[Sounds, dict[Any, int]]:
    """The sounds of the clips, and where each of them is."""
    wanted = {_key(clip) for clip in clips}
    given = dataset.clips() if hasattr(dataset, "read") else clips
    own = {key: clip for clip in given if (key := _key(clip)) in wanted}
    table = ClipTable.of(_Some(dataset, list(own.values())))
    if not hasattr(dataset, "read"):
        table = attrs.evolve(table, stops=np.fmin(table.stops, table.starts + _SEARCHED))
    everything = np.arange(len(table))
    keys = np.zeros(len(table), "S16")  # nothing is stored
    sounds = Sounds(table, dataset, _OPUS_RATES[-1], "off", "", keys, everything.astype(np.int32), everything)
    return sounds, {key: row for row, key in enumerate(own)}


class _Some:
    """Some clips of a dataset, as a dataset: the rest of it is the same."""

    def __init__(self, dataset: Any, clips: Sequence[Clip]) -> None:
        self._dataset, self._clips = dataset, clips

    def clips(self) -> Sequence[Clip]:
        return self._clips

    def __getattr__(self, name: str) -> Any:
        return getattr(self._dataset, name)


def _key(clip: Clip) -> tuple[str, float, float | None]:
    return clip.path, float(clip.start), None if clip.stop is None else float(clip.stop)


def _ignore(_: SoundWarning) -> None:
    """What is odd about a sound was said when it was first read."""


def player(samples: Samples, rate: int) -> Player:
    """What a page holds of a sound `(S,)`."""
    first = loudest(samples, rate, LONGEST)
    cut = samples[first : first + int(LONGEST * rate)]
    kind, data = _coded(cut, rate)
    return Player(
        kind, data, spectrogram(cut, rate), first / rate, len(cut) / rate, rate / 2, whole=len(cut) == len(samples)
    )


def loudest(samples: Samples, rate: int, seconds: float) -> int:
    """Where the stretch of so many seconds begins that has the most energy, to a tenth of a second."""
    size, step = int(seconds * rate), max(1, rate // 10)
    if len(samples) <= size:
        return 0
    energy = np.concatenate([[0.0], np.cumsum(samples.astype(np.float64) ** 2)])
    starts = np.arange(0, len(samples) - size + 1, step)
    return int(starts[np.argmax(energy[starts + size] - energy[starts])])


def spectrogram(samples: Samples, rate: int) -> bytes:
    """A spectrogram as a PNG file: time to the right, frequency upwards in mel, 80 dB below the loudest.

    The short-time Fourier transform has Hann windows of about 32 ms. The mel scale is that of O'Shaughnessy, Speech
    Communication, 1987, page 150: `2595 log10(1 + f / 700)`.
    """
    size = 1 << max(6, round(np.log2(0.032 * rate)))
    padded = np.pad(samples, size // 2)
    padded = np.pad(padded, (0, max(0, size - len(padded))))
    starts = np.linspace(0, len(padded) - size, _WIDTH).astype(np.int64)
    frames = np.lib.stride_tricks.sliding_window_view(padded, size)[starts] * np.hanning(size).astype(np.float32)
    power = np.abs(np.fft.rfft(frames, axis=1)) ** 2
    mels = np.linspace(0, 2595 * np.log10(1 + rate / 2 / 700), _HEIGHT + 1)
    edges = 700 * (10 ** (mels / 2595) - 1) * size / rate
    low = np.minimum(edges[:-1].astype(np.int64), size // 2)
    high = np.maximum(np.minimum(np.ceil(edges[1:]).astype(np.int64), size // 2 + 1), low + 1)
    sums = np.concatenate([np.zeros((len(power), 1)), np.cumsum(power, axis=1)], axis=1)
    bands = (sums[:, high] - sums[:, low]) / (high - low)
    level = 10 * np.log10(np.maximum(bands, 1e-12) / max(float(bands.max()), 1e-12))
    shades = np.round((1 + np.clip(level, -_DECIBELS, 0) / _DECIBELS) * (_LEVELS - 1)).astype(np.uint8)
    if not samples.any():
        shades[:] = 0
    return _png(np.ascontiguousarray(shades.T[::-1]))


def _png(shades: NDArray[np.uint8]) -> bytes:
    """A picture of shades from 0 to `_LEVELS` - 1."""
    places = np.linspace(0, len(_COLOURS) - 1, _LEVELS)
    palette = [np.interp(places, range(len(_COLOURS)), channel) for channel in zip(*_COLOURS, strict=True)]
    image = Image.fromarray(shades, "L")
    image.putpalette(np.stack(palette, axis=1).round().astype(np.uint8).tobytes())
    out = io.BytesIO()
    image.save(out, "png", optimize=True, bits=6)
    return out.getvalue()


def _coded(samples: Samples, rate: int) -> tuple[str, bytes]:
    """The sound in Ogg Opus, or where this libsndfile has none, in FLAC; its media type, and its bytes."""
    target = next((one for one in _OPUS_RATES if one >= rate), _OPUS_RATES[-1])
    changed = np.clip(audio.resample(samples, rate, target), -1.0, 1.0)
    if "OPUS" in soundfile.available_subtypes("OGG"):
        return "audio/ogg", _written(changed, target, "OGG", "OPUS")
    return "audio/flac", _written(changed, target, "FLAC", "PCM_16")


def _written(samples: Samples, rate: int, container: str, subtype: str) -> bytes:
    out = io.BytesIO()
    with soundfile.SoundFile(out, "w", rate, 1, subtype, format=container) as file:
        for first in range(0, len(samples), _BLOCK):  # libsndfile keeps a block's coding on its stack
            file.write(samples[first : first + _BLOCK])
    return out.getvalue()
