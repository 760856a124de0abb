"""Temporal average pooling: the mean over time.

Shapes: `(B, C, T)` to `(B, C)`. Masked; sums are taken in float32 at least.
"""

from __future__ import annotations

from torch import Tensor, nn

from soundbench import masks

__all__ = ["TAP"]


class TAP(nn.Module):
    """Mean over time."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.features = channels

    def forward(self, frames: Tensor, lengths: Tensor) -> Tensor:
        """Frames `(B, C, T)` to their means `(B, C)`."""
        return masks.mean(frames, lengths)
