"""A time-delay network, the frame layers of an x-vector: five layers with a context of fifteen frames.

Snyder et al., "X-Vectors: Robust DNN Embeddings for Speaker Recognition", ICASSP 2018, section 3.1, table 1. With 80
bands and ten classes it has 2,772,810 parameters with its default pooling and head, 2,641,738 with
`pooling.context = false`.

Shapes: `(B, F, T)` to `(B, C, T - 14)`, any F and T; rows shorter than sixteen frames are extended to sixteen, so
that two are left to compute statistics of.

Departs from the paper like the network of this name in `macls`: the last frame layer is as wide as the others (the
paper's has 1500 channels) and its batch norm comes after the pooling, the pooling is attentive, and one embedding layer
of 192 replaces two of 512. The paper's pooling is `tsp`.

Nothing is padded, so that no frame of the output depends on values beyond its row's end.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Tensor, nn

from soundbench import masks
from soundbench_plugins.layers.frames import TimeConv, TransposedLinear, rectified_norm

__all__ = ["TDNN"]

# For the three layers with a context: kernel size in frames, and dilation.
_CONTEXTS = ((5, 1), (3, 2), (3, 3))
# Number of frames that the output is shorter than the input.
_UNPADDED = sum((kernel - 1) * dilation for kernel, dilation in _CONTEXTS)


class TDNN(nn.Module):
    """A time-delay network, the frame layers of an x-vector.

    Args:
        channels: width of each layer.
    """

    default_pooling: ClassVar[Mapping[str, Any]] = {"use": "asp"}
    default_head: ClassVar[Mapping[str, Any]] = {"embedding": 192, "norm_before": True, "norm_after": "affine"}
    shortest = 2 + _UNPADDED

    def __init__(self, bands: int, *, channels: int = 512) -> None:
        super().__init__()
        if channels < 1:
            raise ValueError(f"channels must be at least 1, is {channels}")
        self.channels = channels
        widths = (bands, channels, channels)
        self.delays = nn.ModuleList(
            Delay(width, channels, kernel, dilation)
            for width, (kernel, dilation) in zip(widths, _CONTEXTS, strict=True)
        )
        self.fourth = nn.Linear(channels, channels)
        self.fourth_norm = nn.BatchNorm1d(channels)
        self.fifth = TransposedLinear(channels, channels)

    def forward(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Features `(B, F, T)` to frame-level vectors `(B, C, T - 14)` and their lengths."""
        features, lengths = masks.extend(features, lengths, self.shortest)
        x = features.transpose(1, 2).contiguous()
        for delay in self.delays:
            x = delay(x)
        x = rectified_norm(self.fourth_norm, self.fourth(x))
        return self.fifth(x).relu_(), lengths - _UNPADDED


class Delay(nn.Module):
    """A convolution over time without padding, ReLU, batch norm: `(B, T, C)` to `(B, T', C')`."""

    def __init__(self, channels: int, out: int, kernel: int, dilation: int) -> None:
        super().__init__()
        self.conv = TimeConv(channels, out, kernel, dilation)
        self.norm = nn.BatchNorm1d(out)

    def forward(self, x: Tensor) -> Tensor:
        """`(B, T, C)` to `(B, T', C')`."""
        return rectified_norm(self.norm, self.conv(x))
