"""Crop: keep a part of a row, of a drawn length, so that a network learns from short sounds too.

What is trained on windows of one length alone may know no other: a network that halves time and leaves out what remains
sees the end of a row at some lengths, and at others never.

A part holds a moment of 5 ms, drawn by its energy, and begins anywhere that this allows; one that is shorter begins
with the moment. So in an even sound, parts at the start and at the end are somewhat more frequent than others.

Shapes: waveforms `(B, S)` stay `(B, S)`; the part begins at the first sample, and the lengths are those of the parts.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import attrs
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from soundbench import masks
from soundbench.chance import Chance
from soundbench.contracts import Batch

__all__ = ["Crop"]

_BLOCK = 0.005  # seconds, for energy


class Crop(nn.Module):
    """Rows cut to a part of a drawn length, with 5 ms in it that are drawn by their energy, so few parts are silent.

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
        self.block = max(round(_BLOCK * rate), 1)

    def forward(self, batch: Batch, chance: Chance) -> Batch:
        """The batch with each row cut to its drawn part."""
        lengths, position = batch.lengths, batch.position
        kept = (lengths * chance.uniform(position, "length", self.shortest, 1.0)).ceil().long()
        kept = torch.where(chance.uniform(position, "chance") < self.chance, torch.minimum(kept, lengths), lengths)
        heard = self._heard(masks.apply(batch.data, lengths), chance.uniform(position, "moment"))
        heard = heard.minimum(lengths - 1)  # of silence no energy is ever heard
        latest = heard.minimum(lengths - kept)
        earliest = ((heard + self.block).minimum(lengths) - kept).clamp(min=0).minimum(latest)
        first = earliest + chance.integers(position, "first", latest - earliest + 1)
        return attrs.evolve(batch, data=parts(batch.data, first, kept), lengths=kept)

    def _heard(self, data: Tensor, share: Tensor) -> Tensor:
        """Where the block begins in which that share of the energy of each row of `(B, S)` has been heard, `(B,)`."""
        whole = F.pad(masks.wide(data), (0, -data.shape[1] % self.block))
        blocks = whole.view(len(data), -1, self.block)
        heard = torch.linalg.vector_norm(blocks, dim=2).square().cumsum(1)
        place = torch.searchsorted(heard, share.unsqueeze(1) * heard[:, -1:], right=True).squeeze(1)
        return place * self.block


def parts(data: Tensor, first: Tensor, kept: Tensor) -> Tensor:
    """So many samples of each row of `(B, S)` from its `first` on, and zeros."""
    if data.device.type != "cpu":
        source = torch.arange(data.shape[1], device=data.device) + first.unsqueeze(1)
        return masks.apply(data.gather(1, source.remainder(data.shape[1])), kept)
    # Several times as fast on a CPU as gathering single samples.
    made = torch.zeros_like(data)
    for row, source, start, count in zip(made, data, first.tolist(), kept.tolist(), strict=True):
        row[:count] = source[start : start + count]
    return made
