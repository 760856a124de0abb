"""Maximum plus mean over time, as in PANNs.

Kong et al., "PANNs: Large-Scale Pretrained Audio Neural Networks for Audio Pattern Recognition", IEEE/ACM Transactions
on Audio, Speech, and Language Processing 28, 2020; the sum is taken from its authors' program.

Shapes: `(B, C, T)` to `(B, C)`. Masked; in float32 at least.
"""

from __future__ import annotations

from torch import Tensor, nn

from soundbench import masks

__all__ = ["MaxMean"]


class MaxMean(nn.Module):
    """The sum of maximum and mean over time."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.features = channels

    def forward(self, frames: Tensor, lengths: Tensor) -> Tensor:
        """Frames `(B, C, T)` to the sums `(B, C)` of their maxima and means."""
        frames = masks.wide(frames)
        highest = masks.apply(frames, lengths.clamp(min=1), float("-inf")).amax(-1)
        return highest + masks.mean(frames, lengths)
