"""Convolve rows with responses; shared by augmentations that filter, and by those that make sound."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["convolved"]


def convolved(x: Tensor, responses: Tensor, before: int) -> Tensor:
    """Rows `(B, S)`, each convolved with a response `(B, K)` whose time 0 is its sample `before`: `(B, S)`."""
    size = x.shape[1]
    # Wrapped samples must not reach the part that is kept, which begins at `before`.
    count = _fast(size + max(responses.shape[1] - before - 1, before))
    spectrum = torch.fft.rfft(x, count) * torch.fft.rfft(responses, count)
    wet: Tensor = torch.fft.irfft(spectrum, count)[:, before : before + size]
    return wet


def _fast(least: int) -> int:
    """The smallest length from `least` on with a fast Fourier transform: an even product of 2, 3 and 5."""
    odd: list[int] = [3**three * 5**five for three in range(8) for five in range(6)]
    return min(part << max((-(-least // part) - 1).bit_length(), 1) for part in odd)
