"""Background: sounds of several kinds mixed into rows, as from around them.

Salamon, MacConnell, Cartwright, Li, Bello, "Scaper: A library for soundscape synthesis and augmentation", WASPAA 2017,
puts events before a background; here a row is the event. A kind is drawn first and a sound of it then, so that a kind
of few files is heard as often as one of many. Several backgrounds are equally loud, and the ratio of signal to noise is
that of the row to all of them together, over the row's true length.

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
    """Backgrounds of several kinds mixed into rows, each kind as likely as another.

    Sounds are held in memory, 115 MB an hour at 16 kHz. One that is longer than a row is cut at a random place, a
    shorter one repeated. A silent row stays silent.

    Args:
        folders: where backgrounds are. A folder of folders stands for each of these, one that holds sounds for itself;
            each is a kind.
        snr: the least and the greatest ratio of signal to noise, in decibels; each between them is as likely.
        most: how many backgrounds a row gets at most; each number from 1 on is as likely.
        chance: how often a row is changed, from 0 to 1.
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
        self.counts: list[int] = []

    @staticmethod
    def example(folder: Path) -> Mapping[str, Any]:
        """Two kinds, of one sound and of two."""
        write_sounds(folder, "rain/1.wav", "street/1.wav", "street/2.wav")
        return {"folders": [folder]}

    def prepare(self) -> SoundBank:
        """Read the backgrounds, once.

        Raises:
            MissingDataError: no such folder, or none with a sound in it.
            DataError: files that cannot be read or are silent, or a folder with sounds beside its folders.
        """
        if self.bank is None:
            kinds = [sounds_of(kind, _KEY) for folder in self.folders for kind in _kinds(Path(folder))]
            self.counts = [len(kind) for kind in kinds]
            self.bank = SoundBank.read([path for kind in kinds for path in kind], self.rate)
        return self.bank

    def forward(self, batch: Batch, chance: Chance) -> Batch:
        """The batch with backgrounds in the rows that drew some."""
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
        """A passage of one sound for each row, `(B, S)`: of a kind, then of a sound of it."""
        position, size = batch.position, batch.data.shape[1]
        counts = torch.tensor(self.counts, device=position.device)
        kind = chance.integers(position, f"kind {place}", len(counts))
        which = (counts.cumsum(0) - counts)[kind] + chance.integers(position, f"sound {place}", counts[kind])
        return mixing.passages(bank, which, batch.lengths, size, position, chance, f"begin {place}")


def _kinds(folder: Path) -> list[Path]:
    """The folder's folders, or itself where it holds none."""
    if not folder.is_dir():
        raise MissingDataError(f"{folder}: no such folder; {_KEY} must name folders of sound files")
    folders, sounds = listed(str(folder))
    if folders and sounds:
        raise DataError(
            f"{folder}: {len(sounds)} sound file{'s lie' if len(sounds) > 1 else ' lies'} beside the folders in it, "
            f"such as {sounds[0]}; put each into the folder of its kind"
        )
    return [folder / name for name in folders] or [folder]
