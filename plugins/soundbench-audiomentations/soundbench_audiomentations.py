"""Waveform transforms of audiomentations as an augmentation, with addressed draws.

Jordal et al., https://github.com/iver56/audiomentations. The transforms draw from the random states of `random` and
NumPy that all code shares: before each row these are set from the row's own address (seed, epoch, position, place), and
afterwards they are as before. So a row is changed in the same way in any batch, by any number of workers, and after a
resume, and nothing else notices.

Shapes: waveforms `(B, S)` to `(B, S)`. A row may become shorter; one that becomes longer is cut at its length before.
Transforms are computed on the CPU, a row at a time, whatever the device of the batch.
"""

from __future__ import annotations

import difflib
import inspect
import random
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, Literal

import attrs
import audiomentations
import numpy as np
import torch
from audiomentations.core.audio_loading_utils import load_sound_file
from audiomentations.core.transforms_interface import BaseWaveformTransform
from audiomentations.core.utils import find_audio_files_in_paths
from torch import nn

from soundbench import masks
from soundbench.chance import Chance
from soundbench.contracts import Batch
from soundbench.errors import DataError, MissingDataError

__all__ = ["Audiomentations"]

# They warn of each file that is resampled, and of rows too short for a transform: lines amid those of a run.
warnings.filterwarnings("ignore", module=r"(audiomentations|librosa)\.")

_SHORTEST = 0.1  # seconds; filters and stretching need some sound to work on
_FILES = ("sounds_path", "ir_path")  # the arguments that name files
_OWN = {"p": "chance", **dict.fromkeys(_FILES, "sounds")}

Value = bool | int | float | str


class Audiomentations(nn.Module):
    """A waveform transform of audiomentations, by its name and options.

    Args:
        transform: its name, such as "AddGaussianSNR" or "PitchShift".
        options: its own arguments, but not `p`, for which there is `chance`, nor its files.
        sounds: the file or folder of sounds that it needs, such as noises or impulse responses.
        chance: probability that a row is changed, from 0 to 1.
    """

    on: ClassVar[Literal["waveform", "features"]] = "waveform"

    def __init__(
        self,
        rate: int,
        *,
        transform: str = "AddGaussianSNR",
        options: dict[str, Value] | None = None,
        sounds: Path | None = None,
        chance: float = 0.5,
    ) -> None:
        super().__init__()
        if not 0.0 <= chance <= 1.0:
            raise ValueError(f"chance must be from 0 to 1, is {chance}")
        kind = _named(transform)
        arguments = {**_checked(transform, kind, options or {}), "p": 1.0}
        files = [name for name in _FILES if name in inspect.signature(kind).parameters]
        if bool(files) != (sounds is not None):
            text = f"{transform} needs them" if files else f"{transform} takes none"
            raise ValueError(f"sounds must {'' if files else 'not '}be given, since {text}")
        self.rate, self.sounds, self.chance, self.transform = rate, sounds, chance, transform
        self._kind, self._arguments, self._files = kind, arguments, files
        if not files:  # these look for them when they are made, which is too early
            try:
                kind(**arguments)
            except Exception as error:  # of many types: assertions among them
                raise ValueError(f"options must be what {transform} takes: {_line(error)}") from error
        self._tried: BaseWaveformTransform | None = None

    def prepare(self) -> BaseWaveformTransform:
        """Begin to read its sounds, and try it on a second of noise, once.

        Raises:
            MissingDataError: there is no such file or folder of sounds.
            DataError: there is no sound in it, or one that cannot be read, or the transform cannot be computed.
        """
        if self._tried is None:
            sounds: dict[str, Any] = {} if self.sounds is None else dict.fromkeys(self._files, _listed(self.sounds))
            noise = np.random.default_rng(0).normal(0, 0.1, self.rate).astype(np.float32)
            with _computed(self.transform):
                made = self._kind(**self._arguments, **sounds)
                with _seeded(0):
                    made(noise, self.rate)
            self._tried = made
        return self._tried

    def forward(self, batch: Batch, chance: Chance) -> Batch:
        """The batch with the drawn rows transformed.

        Raises:
            DataError: the transform cannot be computed on one of them.
        """
        position = batch.host_position
        changed = chance.uniform(position, "chance") < self.chance
        seeds = chance.bits(position, "seed")
        lengths = batch.lengths.tolist()
        rows = [row for row in changed.nonzero().flatten().tolist() if lengths[row] >= _SHORTEST * self.rate]
        if not rows:
            return batch
        transform = self.prepare()
        data = batch.data.clone()
        for row in rows:
            before = data[row, : lengths[row]].float().cpu().numpy()
            with _computed(self.transform), _seeded(int(seeds[row])):
                after = np.asarray(transform(before.copy(), self.rate), dtype=np.float32)[: lengths[row]]
            if after.size and np.isfinite(after).all():
                data[row, : len(after)] = torch.from_numpy(after.copy()).to(data)
                lengths[row] = len(after)
        ends = torch.tensor(lengths, device=batch.lengths.device)
        return attrs.evolve(batch, data=masks.apply(data, ends), lengths=ends)

    @staticmethod
    def example(folder: Path) -> Mapping[str, Any]:
        """Options without files."""
        return {"transform": "AddGaussianSNR", "options": {"min_snr_db": 10.0}, "chance": 0.5}


def _named(name: str) -> type[BaseWaveformTransform]:
    """The transform of a name; `Lambda` needs code, which a recipe has not."""
    known = {
        key: value
        for key, value in vars(audiomentations).items()
        if inspect.isclass(value) and issubclass(value, BaseWaveformTransform) and key != "Lambda"
    }
    if name not in known:
        near = difflib.get_close_matches(name, known, n=3)
        hint = f"did you mean {' or '.join(map(repr, near))}?" if near else f"it has {', '.join(sorted(known))}"
        raise ValueError(f"transform must be one of audiomentations, is {name!r}; {hint}")
    return known[name]


def _checked(name: str, kind: type[BaseWaveformTransform], options: Mapping[str, Value]) -> dict[str, Value]:
    """The options of a transform, all of which it must have."""
    known = [key for key, value in inspect.signature(kind).parameters.items() if value.kind != value.VAR_KEYWORD]
    for key in options:
        if key in _OWN:
            raise ValueError(f"options must not have {key!r}: it is the key {_OWN[key]!r} beside them")
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            hint = f"did you mean {near[0]!r}? " if near else ""
            others = ", ".join(other for other in known if other not in _OWN) or "none"
            raise ValueError(f"options must be those of {name}, has {key!r}; {hint}{name} has {others}")
    if name == "RoomSimulator" and options.get("use_ray_tracing", True):
        raise ValueError(
            "options must have use_ray_tracing = false for RoomSimulator, since its rays are drawn from a random state "
            "that is not set for each row"
        )
    return dict(options)


def _listed(sounds: Path) -> list[Path]:
    """The sound files of a file or folder, in the same order on every machine, each of which can be read."""
    if not sounds.exists():
        raise MissingDataError(f"{sounds}: no such file or folder; sounds must name one")
    files: list[Path] = sorted(find_audio_files_in_paths(sounds))
    if not files:
        raise DataError(f"{sounds}: no sound file of a format that audiomentations reads, such as WAV, FLAC or MP3")
    for file in files:
        try:
            samples, _ = load_sound_file(file, None, duration=0.1)
        except Exception as error:  # of many types, some without a text
            raise DataError(f"{file}: audiomentations cannot read this file: {_line(error)}") from error
        if not len(samples):
            raise DataError(f"{file}: there is no sound in this file")
    return files


@contextmanager
def _computed(transform: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # of many types
        raise DataError(f"{transform} cannot be computed: {_line(error)}") from error


def _line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Set the random states that the transforms draw from, and restore them."""
    states = random.getstate(), np.random.get_state()
    try:
        random.seed(seed)
        np.random.seed(seed % 2**32)
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
