"""Noise: mix sound files of a folder into rows, at a drawn signal-to-noise ratio.

As Kaldi's recipes add MUSAN's noises (Snyder, Chen, Povey, "MUSAN: A Music, Speech, and Noise Corpus", 2015). The ratio
is that of the energies of the row and of the added noise, over the row's true length, and is met exactly. Each file is
equally likely, whatever its length. A sum beyond full scale is not clipped.

`macls` 1.0.6 draws from 10 to 50 dB, of which the upper half is hardly audible.

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
    """Noise from a folder mixed into rows, at a drawn signal-to-noise ratio.

    The files are held in memory, 115 MB per hour at 16 kHz. Of a file longer than a row, a random passage is used; a
    shorter one is repeated. A silent row stays silent.

    Args:
        folder: folder of the noise: sound files at any depth below it.
        snr: lowest and highest signal-to-noise ratio in decibels; drawn uniformly between them.
        chance: probability that a row is changed, from 0 to 1.
    """

    on: ClassVar[Literal["waveform", "features"]] = "waveform"

    def __init__(self, rate: int, *, folder: Path, snr: tuple[float, float] = (5.0, 30.0), chance: float = 0.5) -> None:
        super().__init__()
        mixing.check(snr, chance)
        self.rate, self.folder, self.snr, self.chance = rate, Path(folder), snr, chance
        self.bank: SoundBank | None = None

    @staticmethod
    def example(folder: Path) -> Mapping[str, Any]:
        """Two noise files."""
        write_sounds(folder, "1.wav", "2.wav")
        return {"folder": folder}

    def prepare(self) -> SoundBank:
        """Read the noise, once.

        Raises:
            MissingDataError: the folder does not exist, or contains no sound file.
            DataError: files cannot be read, or are silent.
        """
        if self.bank is None:
            self.bank = SoundBank.read(sounds_of(self.folder, "noise.folder"), self.rate)
        return self.bank

    def forward(self, batch: Batch, chance: Chance) -> Batch:
        """The batch with noise mixed into the drawn rows."""
        bank = self.prepare().to(batch.data.device)
        which = chance.integers(batch.position, "sound", len(bank))
        size = batch.data.shape[1]
        noise = mixing.passages(bank, which, batch.lengths, size, batch.position, chance)
        return mixing.mixed(batch, noise, self.snr, self.chance, chance)
