"""Noise: sounds of a folder mixed into rows, at a drawn ratio of signal to noise.

As Kaldi's recipes add MUSAN's noises (Snyder, Chen, Povey, "MUSAN: A Music, Speech, and Noise Corpus", 2015). The ratio
is of the energies of the row and of what is added to it, over the row's true length, and is met exactly. Each file is
as likely as another, however long it is. What sums up beyond full scale is not clipped.

The predecessor draws from 10 to 50 dB, of which the upper half is hardly heard.

Shapes: waveforms `(B, S)` stay `(B, S)`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

from torch import nn

from soundbench.chance import Chance
from soundbench.contracts import Batch
from soundbench_plugins.layers import mixing
from soundbench_plugins.layers.example_sounds import write_sounds
from soundbench_plugins.layers.sound_bank import SoundBank
from soundbench_plugins.layers.sound_files import sounds_of

__all__ = ["Noise"]


class Noise(nn.Module):
    """Noise from a folder mixed into rows, at a drawn ratio of signal to noise.

    The folder is held in memory, 115 MB an hour of noise at 16 kHz. Noise that is longer than a row is cut at a random
    place, shorter noise is repeated. A silent row stays silent.

    Args:
        folder: where the noise is: sound files in any depth below it.
        snr: the least and the greatest ratio of signal to noise, in decibels; each between them is as likely.
        chance: how often a row is changed, from 0 to 1.
    """

    on: ClassVar[Literal["waveform", "features"]] = "waveform"

    def __init__(self, rate: int, *, folder: Path, snr: tuple[float, float] = (5.0, 30.0), chance: float = 0.5) -> None:
        super().__init__()
        mixing.check(snr, chance)
        self.rate, self.folder, self.snr, self.chance = rate, Path(folder), snr, chance
        self.bank: SoundBank | None = None

    @staticmethod
    def example(folder: Path) -> Mapping[str, Any]:
        """Two noises."""
        write_sounds(folder, "1.wav", "2.wav")
        return {"folder": folder}

    def prepare(self) -> SoundBank:
        """Read the noise, once.

        Raises:
            MissingDataError: no such folder, or none with a sound in it.
            DataError: files that cannot be read, or are silent.
        """
        if self.bank is None:
            self.bank = SoundBank.read(sounds_of(self.folder, "noise.folder"), self.rate)
        return self.bank

    def forward(self, batch: Batch, chance: Chance) -> Batch:
        """The batch with noise in the rows that drew some."""
        bank = self.prepare().to(batch.data.device)
        which = chance.integers(batch.position, "sound", len(bank))
        size = batch.data.shape[1]
        noise = mixing.passages(bank, which, batch.lengths, size, batch.position, chance)
        return mixing.mixed(batch, noise, self.snr, self.chance, chance)
