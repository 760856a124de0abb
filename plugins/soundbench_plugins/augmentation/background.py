"""Background: mix background sounds of several kinds into rows.

Salamon, MacConnell, Cartwright, Li, Bello, "Scaper: A library for soundscape synthesis and augmentation", WASPAA 2017,
puts events before a background; here a row is the event. A kind is drawn first and then a file of it, so that kinds of
few files are used as often as others. Several backgrounds are equally loud; the signal-to-noise ratio is that of the
row to all of them together, over the row's true length.

Shapes: waveforms `(B, S)` stay `(B, S)`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from soundbench.chance import Chance
from soundbench.contracts import Batch
from soundbench.errors import DataError, MissingDataError
from soundbench_plugins.layers import mixing
from soundbench_plugins.layers.example_sounds import write_sounds
from soundbench_plugins.layers.sound_bank import SoundBank
from soundbench_plugins.layers.sound_files import listed, sounds_of

__all__ = ["Background"]

_KEY = "background.folders"


class Background(nn.Module):
    """Background sounds of several kinds mixed into rows, each kind equally likely.

    Sound files are held in memory, 115 MB per hour at 16 kHz. Of a file longer than a row, a random passage is used; a
    shorter one is repeated. A silent row stays silent.

    Args:
        folders: folders of background sounds. A folder of sound files is one kind; a folder of folders is one kind for
            each of its folders.
        snr: lowest and highest signal-to-noise ratio in decibels; drawn uniformly between them.
        most: largest number of backgrounds in a row; each number from 1 to this is equally likely.
        chance: probability that a row is changed, from 0 to 1.
    """

    on: ClassVar[Literal["waveform", "features"]] = "waveform"

    def __init__(
        self,
        rate: int,
        *,
        folders: list[Path],
        snr: tuple[float, float] = (5.0, 30.0),
        most: int = 1,
        chance: float = 0.5,
    ) -> None:
        super().__init__()
        mixing.check(snr, chance)
        if not folders:
            raise ValueError("folders must name at least one folder, is []")
        if most < 1:
            raise ValueError(f"most must be at least 1, is {most}")
        self.rate, self.folders, self.snr, self.most, self.chance = rate, folders, snr, most, chance
        self.bank: SoundBank | None = None
        self.counts = torch.zeros(0, dtype=torch.int64)

    @staticmethod
    def example(folder: Path) -> Mapping[str, Any]:
        """Two kinds, with one file and two files."""
        write_sounds(folder, "rain/1.wav", "street/1.wav", "street/2.wav")
        return {"folders": [folder]}

    def prepare(self) -> SoundBank:
        """Read the backgrounds, once.

        Raises:
            MissingDataError: a folder does not exist, or contains no sound file.
            DataError: files cannot be read or are silent, or a folder contains sound files beside folders.
        """
        if self.bank is None:
            kinds = [sounds_of(kind, _KEY) for folder in self.folders for kind in _kinds(Path(folder))]
            self.counts = torch.tensor([len(kind) for kind in kinds])
            self.bank = SoundBank.read([path for kind in kinds for path in kind], self.rate)
        return self.bank

    def forward(self, batch: Batch, chance: Chance) -> Batch:
        """The batch with backgrounds mixed into the drawn rows."""
        bank = self.prepare().to(batch.data.device)
        number = 1 + chance.integers(batch.position, "number", self.most)
        together = self._passages(bank, batch, chance, 0)
        if self.most > 1:
            together /= mixing.strength(together).clamp(min=1.0)
        for place in range(1, self.most):
            one = self._passages(bank, batch, chance, place)
            together.addcmul_(one, (place < number).unsqueeze(1) / mixing.strength(one).clamp(min=1.0))
        return mixing.mixed(batch, together, self.snr, self.chance, chance)

    def _passages(self, bank: SoundBank, batch: Batch, chance: Chance, place: int) -> Tensor:
        """A passage of one sound for each row, `(B, S)`: a kind is drawn, then a sound of it."""
        position, size = batch.position, batch.data.shape[1]
        counts = self.counts.to(position.device, non_blocking=True)
        kind = chance.integers(position, f"kind {place}", len(counts))
        which = (counts.cumsum(0) - counts)[kind] + chance.integers(position, f"sound {place}", counts[kind])
        return mixing.passages(bank, which, batch.lengths, size, position, chance, f"begin {place}")


def _kinds(folder: Path) -> list[Path]:
    """The folder's folders, or itself if it contains none."""
    if not folder.is_dir():
        raise MissingDataError(f"{folder}: no such folder; {_KEY} must name folders of sound files")
    folders, sounds = listed(str(folder))
    if folders and sounds:
        raise DataError(
            f"{folder}: {len(sounds)} sound file{'s' * (len(sounds) > 1)} beside the folders in it, "
            f"such as {sounds[0]}; put each into the folder of its kind"
        )
    return [folder / name for name in folders] or [folder]
