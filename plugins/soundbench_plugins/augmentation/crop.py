"""Crop: keep a part of a row, of a drawn length, so that a network learns from short sounds too.

What is trained on windows of one length alone may know no other: a network that halves time and leaves out what remains
sees the end of a row at some lengths, and at others never.

Shapes: waveforms `(B, S)` stay `(B, S)`; the part begins at the first sample, and the lengths are those of the parts.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import attrs
import torch
from torch import Tensor, nn

from soundbench import masks
from soundbench.chance import Chance
from soundbench.contracts import Batch

__all__ = ["Crop"]


class Crop(nn.Module):
    """Rows cut to a part of a drawn length, anywhere in them.

    Args:
        shortest: least length that is kept, as a share of the row's; all from there to the whole are equally likely.
        chance: probability that a row is cut, from 0 to 1.
    """

    on: ClassVar[Literal["waveform", "features"]] = "waveform"

    def __init__(self, rate: int, *, shortest: float = 0.1, chance: float = 0.5) -> None:
        super().__init__()
        if not 0.0 < shortest <= 1.0:
            raise ValueError(f"shortest must be above 0 and at most 1, is {shortest}")
        if not 0.0 <= chance <= 1.0:
            raise ValueError(f"chance must be from 0 to 1, is {chance}")
        self.shortest, self.chance = shortest, chance

    def forward(self, batch: Batch, chance: Chance) -> Batch:
        """The batch with each row cut to its drawn part."""
        lengths, position = batch.lengths, batch.position
        kept = (lengths * chance.uniform(position, "length", self.shortest, 1.0)).ceil().long()
        kept = torch.where(chance.uniform(position, "chance") < self.chance, torch.minimum(kept, lengths), lengths)
        first = chance.integers(position, "first", lengths - kept + 1)
        return attrs.evolve(batch, data=masks.apply(earlier(batch.data, first), kept), lengths=kept)


def earlier(data: Tensor, first: Tensor) -> Tensor:
    """Rows `(B, S)` that begin with their sample `first` `(B,)`; at their ends are any other samples of theirs."""
    if data.device.type != "cpu":
        source = torch.arange(data.shape[1], device=data.device) + first.unsqueeze(1)
        return data.gather(1, source.remainder(data.shape[1]))
    # Ten times as fast on a CPU as gathering single samples.
    return torch.stack([row.roll(-start) for row, start in zip(data, first.tolist(), strict=True)])
