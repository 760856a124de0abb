"""Tempo: make rows slower or faster at the same pitch.

By a phase vocoder (`soundbench_plugins.layers.stretching` names its papers), each row at its own rate. Frames are
about 0.05 s long: shorter events, such as a click, are smeared over one.

Shapes: waveforms `(B, S)` stay `(B, S)`; a slower row loses its end, a faster one is padded and its length reduced.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import attrs
from torch import nn

from soundbench import masks
from soundbench.chance import Chance
from soundbench.contracts import Batch
from soundbench_plugins.layers import stretching
from soundbench_plugins.layers.rows import rows_where

__all__ = ["Tempo"]

# Beyond it too few frames are left, or each is repeated too often, to resemble the sound.
_MOST = 4.0


class Tempo(nn.Module):
    """Rows slower or faster, at the same pitch.

    Args:
        low: slowest tempo as a factor, at least 0.25: 0.9 makes a row 1.11 times as long.
        high: fastest tempo as a factor, at most 4; drawn uniformly between the two.
        chance: probability that a row is changed, from 0 to 1.
    """

    on: ClassVar[Literal["waveform", "features"]] = "waveform"

    def __init__(self, rate: int, *, low: float = 0.9, high: float = 1.1, chance: float = 0.5) -> None:
        super().__init__()
        if not 1.0 / _MOST <= low <= _MOST:
            raise ValueError(f"low must be from {1.0 / _MOST:g} to {_MOST:g}, is {low}")
        if not low <= high <= _MOST:
            raise ValueError(f"high must be from low ({low}) to {_MOST:g}, is {high}")
        if not 0.0 <= chance <= 1.0:
            raise ValueError(f"chance must be from 0 to 1, is {chance}")
        self.low, self.high, self.chance = low, high, chance
        self.frame = stretching.frame_size(rate)

    def forward(self, batch: Batch, chance: Chance) -> Batch:
        """The batch with the drawn rows at other tempos."""
        rows = rows_where(chance.uniform(batch.host_position, "chance") < self.chance, batch.data.device)
        if not len(rows):
            return batch
        data, lengths = masks.apply(batch.data, batch.lengths).clone(), batch.lengths.clone()
        rates = chance.uniform(batch.position[rows], "tempo", self.low, self.high)
        data[rows], lengths[rows] = stretching.stretched(data[rows], lengths[rows], rates, data.shape[1], self.frame)
        return attrs.evolve(batch, data=data, lengths=lengths)
