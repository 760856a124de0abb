"""Reverb: rows as recorded in rooms, by convolution with impulse responses from a folder.

Ko, Peddinti, Povey, Seltzer, Khudanpur, "A study on data augmentation of reverberant speech for robust speech
recognition", ICASSP 2017. The loudest sample of a response counts as its direct path and is placed at time 0, so that
nothing is shifted; earlier samples stay before it. A row keeps its length, so its last echoes are cut off, and its
level: its root mean square is the same as before, not its peak.

A response may be longer than a row: only what comes after the row's end is left out.

Shapes: waveforms `(B, S)` stay `(B, S)`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

import attrs
import torch
from torch import Tensor, nn

from soundbench import masks
from soundbench.chance import Chance
from soundbench.contracts import Batch
from soundbench_plugins.layers.convolving import convolved
from soundbench_plugins.layers.example_sounds import write_sounds
from soundbench_plugins.layers.rows import rows_where
from soundbench_plugins.layers.sound_bank import SoundBank
from soundbench_plugins.layers.sound_files import sounds_of

__all__ = ["Reverb"]

# Samples that are convolved at a time on a CPU: their intermediate values still fit its cache.
_SAMPLES = 400_000


class Reverb(nn.Module):
    """Rows convolved with impulse responses from a folder, at the same level.

    Args:
        folder: folder of the impulse responses: sound files of any length, at any depth below it.
        chance: probability that a row is changed, from 0 to 1.
    """

    on: ClassVar[Literal["waveform", "features"]] = "waveform"

    def __init__(self, rate: int, *, folder: Path, chance: float = 0.5) -> None:
        super().__init__()
        if not 0.0 <= chance <= 1.0:
            raise ValueError(f"chance must be from 0 to 1, is {chance}")
        self.rate, self.folder, self.chance = rate, Path(folder), chance
        self.bank: SoundBank | None = None

    @staticmethod
    def example(folder: Path) -> Mapping[str, Any]:
        """Two responses."""
        write_sounds(folder, "1.wav", "2.wav")
        return {"folder": folder}

    def prepare(self) -> SoundBank:
        """Read the impulse responses, once.

        Raises:
            MissingDataError: the folder does not exist, or contains no sound file.
            DataError: files cannot be read, or contain only zeros.
        """
        if self.bank is None:
            self.bank = SoundBank.read(sounds_of(self.folder, "reverb.folder"), self.rate)
            self.before = int(self.bank.peaks.max())
            self.after = int((self.bank.lengths - self.bank.peaks).max())
        return self.bank

    def forward(self, batch: Batch, chance: Chance) -> Batch:
        """The batch with the drawn rows reverberated."""
        bank = self.prepare().to(batch.data.device)
        which = chance.integers(batch.position, "response", len(bank))
        rows = rows_where(chance.uniform(batch.host_position, "chance") < self.chance, batch.data.device)
        if not len(rows):
            return batch
        data = masks.apply(batch.data, batch.lengths).clone()
        size = data.shape[1]
        together = len(rows) if data.device.type != "cpu" else max(_SAMPLES // size, 1)
        for part in torch.split(rows, together):
            responses, before = self._responses(bank, which[part], size)
            dry = data[part]
            wet = masks.apply(convolved(dry, responses, before), batch.lengths[part])
            loud = torch.linalg.vector_norm(wet, dim=1, keepdim=True)
            gain = torch.linalg.vector_norm(dry, dim=1, keepdim=True) / loud.clamp(min=1e-20)
            data[part] = wet * gain
        return attrs.evolve(batch, data=data)

    def _responses(self, bank: SoundBank, which: Tensor, size: int) -> tuple[Tensor, int]:
        """The part of the responses that affects rows of `size` samples, `(B, K)`, and the samples before its peak."""
        before, after = min(self.before, size - 1), min(self.after, size)
        begins = bank.peaks[which] - before
        places = begins.unsqueeze(1) + torch.arange(before + after, device=which.device)
        inside = (places >= 0) & (places < bank.lengths[which].unsqueeze(1))
        return bank.stretches(which, begins, before + after) * inside / 32767.0, before
