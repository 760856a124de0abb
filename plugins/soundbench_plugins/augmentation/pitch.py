"""Pitch: make rows higher or lower, at the same length.

A row is stretched by a phase vocoder (`soundbench_plugins.layers.stretching` names its papers), then played faster or
slower by the same factor (`soundbench_plugins.layers.resampling`), which restores its length and shifts its pitch.
Band-limited: frequencies above the Nyquist frequency are removed. The ratio of a step is the nearest fraction with a
denominator of at most 100, at most two cents off.

Shapes: waveforms `(B, S)` and their lengths stay as they are.
"""

from __future__ import annotations

from fractions import Fraction
from typing import ClassVar, Literal

import attrs
import torch
from torch import Tensor, nn

from soundbench import masks
from soundbench.chance import Chance
from soundbench.contracts import Batch
from soundbench_plugins.layers import stretching
from soundbench_plugins.layers.resampling import resampled, sinc_kernel
from soundbench_plugins.layers.rows import rows_where

__all__ = ["Pitch"]

_MOST = 24.0


class Pitch(nn.Module):
    """Rows shifted in pitch by semitones, at the same length.

    Args:
        semitones: the steps to draw from, each equally likely, from -24 to 24; negative is lower.
        chance: probability that a row is changed, from 0 to 1.
    """

    on: ClassVar[Literal["waveform", "features"]] = "waveform"

    def __init__(
        self,
        rate: int,
        *,
        semitones: list[float] = [-2.0, -1.0, 1.0, 2.0],  # noqa: B006
        chance: float = 0.5,
    ) -> None:
        super().__init__()
        if not semitones or not all(-_MOST <= step <= _MOST for step in semitones):
            raise ValueError(f"semitones must be a list of steps from -{_MOST:g} to {_MOST:g}, is {semitones}")
        if not 0.0 <= chance <= 1.0:
            raise ValueError(f"chance must be from 0 to 1, is {chance}")
        self.chance = chance
        self.frame = stretching.frame_size(rate)
        self.ratios = [Fraction(2.0 ** (step / 12.0)).limit_denominator(100) for step in semitones]
        for place, ratio in enumerate(self.ratios):
            self.register_buffer(f"kernel{place}", sinc_kernel(ratio).float(), persistent=False)

    def forward(self, batch: Batch, chance: Chance) -> Batch:
        """The batch with the drawn rows higher or lower."""
        which = chance.integers(batch.host_position, "step", len(self.ratios))
        changed = chance.uniform(batch.host_position, "chance") < self.chance
        data = masks.apply(batch.data, batch.lengths).clone()
        for place, ratio in enumerate(self.ratios):
            rows = rows_where(changed & (which == place), data.device)
            if len(rows) and ratio != 1:
                data[rows] = self._moved(data[rows], batch.lengths[rows], ratio, self.get_buffer(f"kernel{place}"))
        return attrs.evolve(batch, data=masks.apply(data, batch.lengths))

    def _moved(self, x: Tensor, lengths: Tensor, ratio: Fraction, kernel: Tensor) -> Tensor:
        """Rows `(B, S)` at `ratio` times their pitch."""
        slower = float(1 / ratio)
        rates = torch.full((len(x),), slower, device=x.device)
        longer = -(-x.shape[1] * ratio.numerator // ratio.denominator)
        longer_row, _ = stretching.stretched(x, lengths, rates, longer, self.frame)
        return resampled(longer_row, ratio, kernel)[:, : x.shape[1]]
