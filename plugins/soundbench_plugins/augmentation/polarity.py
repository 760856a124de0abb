"""Polarity: invert a row, which sounds the same.

It matters only for networks that take the waveform; log spectra do not change.

Shapes: waveforms `(B, S)` stay `(B, S)`.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import attrs
import torch
from torch import nn

from soundbench import masks
from soundbench.chance import Chance
from soundbench.contracts import Batch

__all__ = ["Polarity"]


class Polarity(nn.Module):
    """Rows with inverted polarity: each sample times -1.

    Args:
        chance: probability that a row is changed, from 0 to 1.
    """

    on: ClassVar[Literal["waveform", "features"]] = "waveform"

    def __init__(self, rate: int, *, chance: float = 0.5) -> None:
        super().__init__()
        if not 0.0 <= chance <= 1.0:
            raise ValueError(f"chance must be from 0 to 1, is {chance}")
        self.chance = chance

    def forward(self, batch: Batch, chance: Chance) -> Batch:
        """The batch with the drawn rows inverted."""
        changed = chance.uniform(batch.position, "chance") < self.chance
        sign = torch.where(changed, -1.0, 1.0).to(batch.data.dtype)
        return attrs.evolve(batch, data=masks.apply(batch.data, batch.lengths) * sign.unsqueeze(1))
