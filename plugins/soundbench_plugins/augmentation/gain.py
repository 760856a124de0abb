"""Gain: make a row louder or softer.

It is applied after `audio.level`; nothing is clipped.

Shapes: waveforms `(B, S)` stay `(B, S)`.
"""

from __future__ import annotations

import math
from typing import ClassVar, Literal

import attrs
import torch
from torch import nn

from soundbench import masks
from soundbench.chance import Chance
from soundbench.contracts import Batch

__all__ = ["Gain"]


class Gain(nn.Module):
    """Rows made louder or softer by a drawn number of decibels.

    Args:
        low: lowest gain in decibels.
        high: highest gain in decibels.
        chance: probability that a row is changed, from 0 to 1.
    """

    on: ClassVar[Literal["waveform", "features"]] = "waveform"

    def __init__(self, rate: int, *, low: float = -8.0, high: float = 8.0, chance: float = 1.0) -> None:
        super().__init__()
        if not -math.inf < low <= high < math.inf:
            raise ValueError(f"low must be finite and at most high, {high}, is {low}")
        if not 0.0 <= chance <= 1.0:
            raise ValueError(f"chance must be from 0 to 1, is {chance}")
        self.low, self.high, self.chance = low, high, chance

    def forward(self, batch: Batch, chance: Chance) -> Batch:
        """The batch with each row's gain applied."""
        changed = chance.uniform(batch.position, "chance") < self.chance
        decibels = chance.uniform(batch.position, "gain", self.low, self.high)
        factor = torch.where(changed, 10.0 ** (decibels / 20.0), 1.0).to(batch.data.dtype)
        return attrs.evolve(batch, data=masks.apply(batch.data, batch.lengths) * factor.unsqueeze(1))
