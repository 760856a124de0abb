"""Layers of two-dimensional networks: convolutions over bands and frames, masked beyond the lengths.

Shapes: images `(B, C, F, T)`, channels innermost in memory, which is faster on a CPU. `keep` `(B, 1, 1, T)` is
one inside each row's length and zero beyond, from `soundbench.masks.keep`: None if every row is full.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from soundbench import masks

__all__ = ["ConvNorm", "SqueezeExcitation", "as_image", "halved", "halved_keep", "masked", "rectified"]


def as_image(features: Tensor) -> Tensor:
    """Features `(B, F, T)` as an image of one channel, `(B, 1, F, T)`."""
    return features.unsqueeze(1).contiguous(memory_format=torch.channels_last)


def masked(x: Tensor, keep: Tensor | None) -> Tensor:
    """A tensor set to zero beyond the lengths, in place, as the input of a convolution must be."""
    return x if keep is None else x.mul_(keep)


def rectified(x: Tensor, keep: Tensor | None, most: float | None = None) -> Tensor:
    """ReLU of a tensor, in place, with zeros beyond the lengths.

    Args:
        x: changed in place.
        keep: ones inside the lengths; None if every row is full.
        most: the maximum that larger values are clipped to.
    """
    x = masked(x, keep)
    return x.relu_() if most is None else F.hardtanh_(x, 0.0, most)


def halved(x: Tensor) -> Tensor:
    """Every second band and frame, beginning with the first: `(B, C, ceil(F / 2), ceil(T / 2))`.

    A 1x1 convolution of the result equals one of stride 2, whose own gradient is slow on a CPU. Indexed with the
    channels innermost, so that its gradient has the same memory layout as the others it is added to.
    """
    return x.permute(0, 2, 3, 1)[:, ::2, ::2].permute(0, 3, 1, 2)


def halved_keep(keep: Tensor | None) -> Tensor | None:
    """`keep` of every second frame, as for `masks.strided(lengths, 2)`."""
    return None if keep is None else keep[..., ::2]


class ConvNorm(nn.Module):
    """A convolution without bias that keeps the size, or halves it by its stride, and batch norm."""

    def __init__(self, channels: int, out: int, size: int, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, out, size, stride=stride, padding=size // 2, bias=False)
        self.norm = nn.BatchNorm2d(out)

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, F, T)` to `(B, out, F, T)`."""
        normed: Tensor = self.norm(self.conv(x))
        return normed


class SqueezeExcitation(nn.Module):
    """A gate for each channel from the mean of the row over bands and true frames: Hu, Shen and Sun, CVPR 2018."""

    def __init__(self, channels: int, inner: int) -> None:
        super().__init__()
        self.squeeze = nn.Linear(channels, inner)
        self.excite = nn.Linear(inner, channels)

    def forward(self, x: Tensor, keep: Tensor | None) -> Tensor:
        """Gates `(B, C, 1, 1)` in (0, 1) of an image `(B, C, F, T)`."""
        gates: Tensor = self.excite(self.squeeze(_mean(x, keep)).relu()).sigmoid()
        return gates[..., None, None]


def _mean(x: Tensor, keep: Tensor | None) -> Tensor:
    """The mean `(B, C)` of an image over bands and true frames."""
    if keep is None:
        return x.mean((2, 3))
    # A matrix product: with the channels innermost it reads the image once and copies nothing.
    weights = keep.expand(-1, 1, x.shape[2], -1).flatten(2)
    total = (weights @ x.permute(0, 2, 3, 1).flatten(1, 2)).squeeze(1)
    return total / masks.wide(weights).sum(-1)
