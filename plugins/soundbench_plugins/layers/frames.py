"""Layers over time of rows whose channels are innermost, `(B, T, C)`.

In this layout a layer of each frame by itself is a plain matrix product, and torch has its fastest convolutions on a
CPU in it, for images: hence images one high, where a convolution of rows would copy them to and fro.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["TimeConv", "Turning", "rectified_norm"]


class TimeConv(nn.Conv1d):
    """A convolution over time without padding, `(B, T, C)` to `(B, T', C')`."""

    def __init__(self, channels: int, out: int, kernel: int, dilation: int = 1, bias: bool = True) -> None:
        super().__init__(channels, out, kernel, dilation=dilation, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """Rows `(B, T, C)` to `(B, T', C')`."""
        image, weight = x.transpose(1, 2).unsqueeze(2), self.weight.unsqueeze(2)
        image = F.conv2d(image, weight, self.bias, dilation=(1, self.dilation[0]))
        return image.squeeze(2).transpose(1, 2)


class Turning(nn.Linear):
    """A layer of each frame by itself whose output has its frames innermost, `(B, T, C)` to `(B, C', T)`.

    Poolings compute on that layout, and the product comes out in it at no cost.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Rows `(B, T, C)` to `(B, C', T)`."""
        return self.weight @ x.transpose(1, 2) + self.bias.unsqueeze(1)


def rectified_norm(norm: nn.BatchNorm1d, x: Tensor) -> Tensor:
    """ReLU, then batch norm, of `(B, T, C)` that nobody else holds."""
    normed: Tensor = norm(x.flatten(0, 1).relu_())
    return normed.view(x.shape)
