"""SpecAugment: time warping, and masking of bands and stretches of time.

Park et al., "SpecAugment: A Simple Data Augmentation Method for Automatic Speech Recognition", INTERSPEECH 2019,
section 2. Masked values become the row's mean, not zero, which would be loud in a log spectrum. Widths and distances
are shares of the bands and of the row's own frames, so that short rows lose little. The warp is linear on both sides of
the frame that moves, while the paper warps an image. It is off by default, since the paper found it to matter least.

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
    """Bands and stretches of time masked with the row's mean, optionally after time warping.

    Args:
        chance: probability that a row is changed, from 0 to 1.
        frequency_masks: number of masks over neighbouring bands.
        frequency_width: largest width of such a mask, as a share of the bands.
        time_masks: number of masks over neighbouring frames.
        time_width: largest width of such a mask, as a share of the row's frames; a share below one frame masks nothing.
        time_warp: largest distance by which one frame is moved, with the others between it and the ends of the row, as
            a share of the row's frames, below 0.5; 0 for no warping.
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
        time_warp: float = 0.0,
    ) -> None:
        super().__init__()
        shares = {"chance": chance, "frequency_width": frequency_width, "time_width": time_width}
        for name, share in shares.items():
            if not 0.0 <= share <= 1.0:
                raise ValueError(f"{name} must be from 0 to 1, is {share}")
        for name, count in (("frequency_masks", frequency_masks), ("time_masks", time_masks)):
            if count < 0:
                raise ValueError(f"{name} must be at least 0, is {count}")
        if not 0.0 <= time_warp < 0.5:
            raise ValueError(f"time_warp must be from 0 to below 0.5, is {time_warp}")
        self.chance, self.time_warp = chance, time_warp
        self.frequency_masks, self.frequency_width = frequency_masks, frequency_width
        self.time_masks, self.time_width = time_masks, time_width

    def forward(self, batch: Batch, chance: Chance) -> Batch:
        """The batch with bands and frames of the drawn rows masked, and their time warped."""
        x, lengths, position = batch.data, batch.lengths, batch.position
        drawn = chance.uniform(position, "chance") < self.chance
        if self.time_warp:
            x = torch.where(drawn[:, None, None], _warped(x, lengths, self.time_warp, chance, position), x)
        bands = torch.full_like(lengths, x.shape[1])
        out = torch.zeros_like(x, dtype=torch.bool)
        for place in range(self.frequency_masks):
            bar = _stretch(bands, x.shape[1], self.frequency_width, chance, position, f"frequency {place}")
            out = out | bar.unsqueeze(2)
        for place in range(self.time_masks):
            bar = _stretch(lengths, x.shape[2], self.time_width, chance, position, f"time {place}")
            out = out | bar.unsqueeze(1)
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


def _warped(x: Tensor, lengths: Tensor, share: float, chance: Chance, position: Tensor) -> Tensor:
    """Rows `(B, F, T)` with one frame of each moved by up to `share * length`, and the others with it."""
    reach = (lengths * share).long()
    # Neither the frame nor where it goes is the first or the last: a row too short for that is left as it is.
    places = lengths - 2 - 2 * reach
    reach = torch.where(places > 0, reach, 0)
    centre = (reach + 1 + chance.integers(position, "warp centre", places.clamp(min=1))).unsqueeze(1)
    goal = centre + chance.uniform(position, "warp distance", -1.0, 1.0).unsqueeze(1) * reach.unsqueeze(1)
    last = (lengths - 1).unsqueeze(1)
    at = torch.arange(x.shape[2], device=x.device)
    early = at * centre / goal
    late = last - (last - at) * (last - centre) / (last - goal)
    source = torch.where(at < goal, early, late).clamp(min=0.0).minimum(last)
    source = torch.where(reach.unsqueeze(1) > 0, source, at)
    before = source.floor()
    rest = (source - before).unsqueeze(1).to(x.dtype)
    first, second = (
        x.gather(2, frame.long().clamp(max=x.shape[2] - 1).unsqueeze(1).expand_as(x)) for frame in (before, before + 1)
    )
    return masks.apply(torch.where(rest == 0, first, first + rest * (second - first)), lengths)
