"""SpecAugment: bands and stretches of time blotted out.

Park et al., "SpecAugment: A Simple Data Augmentation Method for Automatic Speech Recognition", INTERSPEECH 2019,
without time warping. What is blotted out gets the row's mean, not zero, which is a loud sound in a log spectrum. Widths
are shares of the bands and of the row's own frames, so that short rows lose little.

Shapes: features `(B, F, T)` stay `(B, F, T)`.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import attrs
import torch
from torch import Tensor, nn

from soundbench import masks
from soundbench.chance import Chance
from soundbench.contracts import Batch

__all__ = ["SpecAugment"]


class SpecAugment(nn.Module):
    """Bands and stretches of time blotted out with the row's mean.

    Args:
        chance: how often a row is changed, from 0 to 1.
        frequency_masks: bars of neighbouring bands to blot out.
        frequency_width: the widest bar, as a share of the bands.
        time_masks: stretches of time to blot out.
        time_width: the longest stretch, as a share of the row's frames; a row too short for one frame of it is spared.
    """

    on: ClassVar[Literal["waveform", "features"]] = "features"

    def __init__(
        self,
        rate: int,
        *,
        chance: float = 0.5,
        frequency_masks: int = 1,
        frequency_width: float = 0.1,
        time_masks: int = 1,
        time_width: float = 0.05,
    ) -> None:
        super().__init__()
        shares = {"chance": chance, "frequency_width": frequency_width, "time_width": time_width}
        for name, share in shares.items():
            if not 0.0 <= share <= 1.0:
                raise ValueError(f"{name} is a share from 0 to 1, not {share}")
        for name, count in (("frequency_masks", frequency_masks), ("time_masks", time_masks)):
            if count < 0:
                raise ValueError(f"{name} is at least 0, not {count}")
        self.chance = chance
        self.frequency_masks, self.frequency_width = frequency_masks, frequency_width
        self.time_masks, self.time_width = time_masks, time_width

    def forward(self, batch: Batch, chance: Chance) -> Batch:
        """The batch with bars and stretches of its rows blotted out."""
        x, lengths, position = batch.data, batch.lengths, batch.position
        bands = torch.full_like(lengths, x.shape[1])
        out = torch.zeros_like(x, dtype=torch.bool)
        for place in range(self.frequency_masks):
            bar = _stretch(bands, x.shape[1], self.frequency_width, chance, position, f"frequency {place}")
            out = out | bar.unsqueeze(2)
        for place in range(self.time_masks):
            bar = _stretch(lengths, x.shape[2], self.time_width, chance, position, f"time {place}")
            out = out | bar.unsqueeze(1)
        drawn = chance.uniform(position, "chance") < self.chance
        out = out & drawn[:, None, None] & masks.mask(lengths, x.shape[2]).unsqueeze(1)
        mean = masks.mean(x, lengths).mean(1).to(x.dtype)
        return attrs.evolve(batch, data=torch.where(out, mean[:, None, None], x))


def _stretch(lengths: Tensor, size: int, share: float, chance: Chance, position: Tensor, draw: str) -> Tensor:
    """A stretch of each row, bool `(B, size)`: 1 to `share * length` places wide, anywhere inside the length."""
    widest = (lengths * share).long()
    width = (1 + chance.integers(position, f"{draw} width", widest.clamp(min=1))).minimum(widest)
    start = chance.integers(position, f"{draw} start", lengths - width + 1)
    places = torch.arange(size, device=lengths.device)
    return (places >= start.unsqueeze(1)) & (places < (start + width).unsqueeze(1))
