"""Speed perturbation: a row played faster or slower, pitch and all.

Ko et al., "Audio Augmentation for Speech Recognition", INTERSPEECH 2015. Band-limited: a sinc under Kaiser's window,
cut off below the lower of both Nyquist frequencies, evaluated at the phases of a small ratio (a polyphase filter).

Shapes: waveforms `(B, S)` stay `(B, S)`; a slower row loses its end, a faster one is padded, and its length tells.
"""

from __future__ import annotations

import math
from fractions import Fraction
from typing import ClassVar, Literal

import attrs
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from soundbench import masks
from soundbench.chance import Chance
from soundbench.contracts import Batch

__all__ = ["Speed"]

# Zero crossings on either side, cutoff as a share of the lower Nyquist frequency, and Kaiser's beta. As measured on the
# filters: nothing is lost up to 0.87 of that frequency (7 kHz of 8), and from it on all is 79 dB down.
_CROSSINGS = 32
_CUTOFF = 0.925
_BETA = 8.0

# The ratio's numbers: as many phases are computed, each with a filter of its own.
_LARGEST = 100


class Speed(nn.Module):
    """Rows played faster or slower, band-limited.

    Args:
        factors: the speeds to draw from, each as likely; ratios of whole numbers up to 100, such as 0.9 or 1.25.
        chance: how often a row is changed, from 0 to 1.
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
        """The batch with its rows played at the speeds drawn for them."""
        data, lengths, position = batch.data, batch.lengths, batch.position
        which = chance.integers(position, "factor", len(self.factors))
        changed = chance.uniform(position, "chance") < self.chance
        data, lengths = masks.apply(data, lengths).clone(), lengths.clone()
        for place, factor in enumerate(self.factors):
            if factor == 1:
                continue
            rows = torch.nonzero(changed & (which == place)).squeeze(1)
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


def sinc_kernel(factor: Fraction) -> Tensor:
    """The filters of a factor p / q, float64 `(q, 1, W)`: output k q + j is made by filter j around input k p."""
    p, q = factor.numerator, factor.denominator
    cutoff = _CUTOFF * min(1.0, q / p)
    reach = _CROSSINGS / cutoff  # in input samples
    sides = math.ceil(reach)
    # Output j of q stands at j * p / q of the p samples that a step advances by.
    at = torch.arange(q, dtype=torch.float64).unsqueeze(1) * p / q
    distance = torch.arange(-sides, sides + p, dtype=torch.float64) - at
    window = torch.special.i0(_BETA * (1.0 - (distance / reach).square()).clamp(min=0.0).sqrt())
    taps = torch.sinc(cutoff * distance) * window * (distance.abs() <= reach)
    # Every phase passes a constant as it is.
    filters: Tensor = (taps / taps.sum(1, keepdim=True)).unsqueeze(1)
    return filters


def resampled(x: Tensor, factor: Fraction, kernel: Tensor) -> Tensor:
    """Waveforms `(B, S)` at `factor` times their speed, `(B, ceil(S / factor))`."""
    p, q = factor.numerator, factor.denominator
    count = -(-x.shape[1] * q // p)
    groups = -(-count // q)
    sides = (kernel.shape[-1] - p) // 2
    x = F.pad(x, (sides, max((groups - 1) * p + kernel.shape[-1] - sides - x.shape[1], 0)))
    phases = F.conv1d(x.unsqueeze(1), kernel.to(x.dtype), stride=p)[..., :groups]
    played: Tensor = phases.transpose(1, 2).flatten(1)[:, :count]
    return played


def resampled_lengths(lengths: Tensor, factor: Fraction) -> Tensor:
    """How many samples `lengths` become: `ceil(length / factor)`."""
    return (lengths * factor.denominator + factor.numerator - 1) // factor.numerator
