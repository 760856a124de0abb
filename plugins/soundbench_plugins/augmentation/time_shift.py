"""Time shift: move a row in time.

By default the shift is circular within the row's own length: nothing is lost, but the row has a seam. Otherwise silence
is shifted in, and counts as part of the row.

Shapes: waveforms `(B, S)` stay `(B, S)`, and lengths as they are.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import attrs
import torch
from torch import Tensor, nn

from soundbench import masks
from soundbench.chance import Chance
from soundbench.contracts import Batch

__all__ = ["TimeShift"]


class TimeShift(nn.Module):
    """Rows shifted in time, earlier or later.

    Args:
        share: largest shift, as a share of the row's length.
        circular: whether samples shifted out at one end come in at the other; otherwise silence is shifted in.
        chance: probability that a row is changed, from 0 to 1.
    """

    on: ClassVar[Literal["waveform", "features"]] = "waveform"

    def __init__(self, rate: int, *, share: float = 1.0, circular: bool = True, chance: float = 1.0) -> None:
        super().__init__()
        for name, value in (("share", share), ("chance", chance)):
            if not 0.0 <= value <= 1.0:
                raise ValueError(f"{name} must be from 0 to 1, is {value}")
        self.share, self.circular, self.chance = share, circular, chance

    def forward(self, batch: Batch, chance: Chance) -> Batch:
        """The batch with each row shifted by its drawn distance."""
        data, lengths, position = batch.data, batch.lengths, batch.position
        reach = (lengths * self.share).long()
        reach = torch.where(chance.uniform(position, "chance") < self.chance, reach, 0)
        later = chance.integers(position, "shift", 2 * reach + 1) - reach
        shifted = rolled(data, lengths, later)
        if not self.circular:
            place = torch.arange(data.shape[1], device=data.device)
            first, last = later.unsqueeze(1), (lengths + later).unsqueeze(1)
            shifted = shifted.masked_fill((place < first) | (place >= last), 0.0)
        return attrs.evolve(batch, data=masks.apply(shifted, lengths))


def rolled(data: Tensor, lengths: Tensor, later: Tensor) -> Tensor:
    """Rows `(B, S)` moved `later` `(B,)` by so many samples, around within their lengths `(B,)`."""
    if data.device.type != "cpu":
        source = torch.arange(data.shape[1], device=data.device) - later.unsqueeze(1)
        return data.gather(1, source.remainder(lengths.unsqueeze(1)))
    # Ten times as fast on a CPU as gathering single samples.
    rows = zip(data, lengths.tolist(), later.tolist(), strict=True)
    return torch.stack([torch.cat([row[:length].roll(shift), row[length:]]) for row, length, shift in rows])
