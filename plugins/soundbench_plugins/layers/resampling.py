"""Change the speed of rows, with their pitch, by a polyphase filter for a small ratio; shared by `speed` and `pitch`.

A sinc with a Kaiser window, cut off below the lower of both Nyquist frequencies, evaluated at the phases of the ratio.

Shapes: waveforms `(B, S)` to `(B, ceil(S / factor))`.
"""

from __future__ import annotations

import math
from fractions import Fraction

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["resampled", "resampled_lengths", "sinc_kernel"]

# Zero crossings on either side, cutoff as a share of the lower Nyquist frequency, and Kaiser's beta. As measured on the
# filters: no loss up to 0.87 of that frequency (7 kHz of 8), and above it everything is 79 dB down.
_CROSSINGS = 32
_CUTOFF = 0.925
_BETA = 8.0


def sinc_kernel(factor: Fraction) -> Tensor:
    """The filters for a factor p / q, float64 `(q, 1, W)`: filter j gives output k q + j around input k p."""
    p, q = factor.numerator, factor.denominator
    cutoff = _CUTOFF * min(1.0, q / p)
    reach = _CROSSINGS / cutoff  # in input samples
    sides = math.ceil(reach)
    # Output j of q stands at j * p / q of the p samples that a step advances by.
    at = torch.arange(q, dtype=torch.float64).unsqueeze(1) * p / q
    distance = torch.arange(-sides, sides + p, dtype=torch.float64) - at
    window = torch.special.i0(_BETA * (1.0 - (distance / reach).square()).clamp(min=0.0).sqrt())
    taps = torch.sinc(cutoff * distance) * window * (distance.abs() <= reach)
    # Every phase passes a constant unchanged.
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
    """The lengths after resampling: `ceil(length / factor)`."""
    return (lengths * factor.denominator + factor.numerator - 1) // factor.numerator
