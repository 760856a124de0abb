"""Speed perturbation: play a row faster or slower, which changes its pitch too.

Ko et al., "Audio Augmentation for Speech Recognition", INTERSPEECH 2015. Band-limited: a sinc with a Kaiser window,
cut off below the lower of both Nyquist frequencies, evaluated at the phases of a small ratio (a polyphase filter).

Shapes: waveforms `(B, S)` stay `(B, S)`; a slower row loses its end, a faster one is padded and its length reduced.
"""

from __future__ import annotations

import math
from fractions import Fraction
from typing import ClassVar, Literal

import attrs
from torch import nn
from torch.nn import functional as F

from soundbench import masks
from soundbench.chance import Chance
from soundbench.contracts import Batch
from soundbench_plugins.layers.resampling import resampled, resampled_lengths, sinc_kernel
from soundbench_plugins.layers.rows import rows_where

__all__ = ["Speed"]

# Largest numerator and denominator of a ratio: the number of phases, each with its own filter.
_LARGEST = 100


class Speed(nn.Module):
    """Rows played faster or slower, band-limited.

    Args:
        factors: the speeds to draw from, each equally likely; ratios of whole numbers up to 100, such as 0.9 or 1.25.
        chance: probability that a row is changed, from 0 to 1.
    """

    on: ClassVar[Literal["waveform", "features"]] = "waveform"

    def __init__(
        self,
        rate: int,
        *,
        factors: list[float] = [0.9, 1.0, 1.1],  # noqa: B006
        chance: float = 1.0,
    ) -> None:
        super().__init__()
        if not factors:
            raise ValueError("factors must be a list of at least one speed, is []")
        if not 0.0 <= chance <= 1.0:
            raise ValueError(f"chance must be from 0 to 1, is {chance}")
        self.chance = chance
        self.factors = [_ratio(factor) for factor in factors]
        for place, factor in enumerate(self.factors):
            self.register_buffer(f"kernel{place}", sinc_kernel(factor).float(), persistent=False)

    def forward(self, batch: Batch, chance: Chance) -> Batch:
        """The batch with its rows played at drawn speeds."""
        data, lengths, position = batch.data, batch.lengths, batch.host_position
        which = chance.integers(position, "factor", len(self.factors))
        changed = chance.uniform(position, "chance") < self.chance
        data, lengths = masks.apply(data, lengths).clone(), lengths.clone()
        for place, factor in enumerate(self.factors):
            if factor == 1:
                continue
            rows = rows_where(changed & (which == place), data.device)
            if len(rows):
                played = resampled(data[rows], factor, self.get_buffer(f"kernel{place}"))
                data[rows] = F.pad(played, (0, max(data.shape[1] - played.shape[1], 0)))[:, : data.shape[1]]
                lengths[rows] = resampled_lengths(lengths[rows], factor).clamp(max=data.shape[1])
        return attrs.evolve(batch, data=masks.apply(data, lengths), lengths=lengths)


def _ratio(factor: float) -> Fraction:
    ratio = Fraction(factor).limit_denominator(_LARGEST) if math.isfinite(factor) else Fraction(0)
    if ratio <= 0 or ratio.numerator > _LARGEST or not math.isclose(ratio, factor, rel_tol=1e-9):
        raise ValueError(f"factors must be ratios of whole numbers up to {_LARGEST}, such as 0.9 or 1.25, is {factor}")
    return ratio
