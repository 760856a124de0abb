"""Layers over time for rows with channels innermost, `(B, T, C)`.

In this layout a linear layer for each frame is a plain matrix product, and torch's fastest convolutions for images on a
CPU use it: hence images of height one, since a 1-D convolution would copy the rows to another layout and back.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["TimeConv", "TransposedLinear", "rectified_norm"]


class TimeConv(nn.Conv1d):
    """A convolution over time without padding, `(B, T, C)` to `(B, T', C')`."""

    def __init__(self, channels: int, out: int, kernel: int, dilation: int = 1, bias: bool = True) -> None:
        super().__init__(channels, out, kernel, dilation=dilation, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """Rows `(B, T, C)` to `(B, T', C')`."""
        image, weight = x.transpose(1, 2).unsqueeze(2), self.weight.unsqueeze(2)
        image = F.conv2d(image, weight, self.bias, dilation=(1, self.dilation[0]))
        return image.squeeze(2).transpose(1, 2)


class TransposedLinear(nn.Linear):
    """A linear layer for each frame whose output has frames innermost, `(B, T, C)` to `(B, C', T)`.

    Poolings use that layout, and the matrix product gives it at no cost.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Rows `(B, T, C)` to `(B, C', T)`."""
        return self.weight @ x.transpose(1, 2) + self.bias.unsqueeze(1)


def rectified_norm(norm: nn.BatchNorm1d, x: Tensor) -> Tensor:
    """ReLU, then batch norm, of `(B, T, C)`, changed in place."""
    normed: Tensor = norm(x.flatten(0, 1).relu_())
    return normed.view(x.shape)
