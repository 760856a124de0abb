"""Temporal statistics pooling: mean and spread over time.

Snyder et al., "X-Vectors: Robust DNN Embeddings for Speaker Recognition", ICASSP 2018, section 3.1.

Shapes: `(B, C, T)` to `(B, 2C)`, the means first. Masked; sums are taken in float32 at least. The spread is unbiased;
for a single frame it is zero, up to the floor that keeps its gradient finite.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from soundbench import masks

__all__ = ["TSP"]


class TSP(nn.Module):
    """Mean and standard deviation over time.

    Args:
        spread: "std" for the standard deviation, or "variance", as in some older programs.
    """

    def __init__(self, channels: int, *, spread: Literal["std", "variance"] = "std") -> None:
        super().__init__()
        if spread not in ("std", "variance"):
            raise ValueError(f'spread must be "std" or "variance", is {spread!r}')
        self.features = 2 * channels
        self.spread = spread

    def forward(self, frames: Tensor, lengths: Tensor) -> Tensor:
        """Frames `(B, C, T)` to their statistics `(B, 2C)`."""
        if self.spread == "std":
            mean, spread = masks.mean_std(frames, lengths)
        else:
            spread, mean = masks.variance_mean(frames, lengths)
        return torch.cat([mean, spread], 1)
