"""A backbone of a few convolutions over time.

Shapes: `(B, F, T)` to `(B, width, ceil(T / 2))`, any F and T.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any, ClassVar

from soundbench import masks
from torch import Tensor, nn


class Tiny(nn.Module):
    """A few convolutions over time, each seven frames wide; the first halves the frames.

    Args:
        width: channels of each layer.
        layers: number of layers.
    """

    default_pooling: ClassVar[Mapping[str, Any]] = {"use": "tap"}
    default_head: ClassVar[Mapping[str, Any]] = {"embedding": 0}

    def __init__(self, bands: int, *, width: int = 96, layers: int = 3) -> None:
        super().__init__()
        if width < 1:
            raise ValueError(f"width must be at least 1, is {width}")
        if layers < 1:
            raise ValueError(f"layers must be at least 1, is {layers}")
        self.channels = width
        sizes = [bands, *[width] * layers]
        self.convolutions = nn.ModuleList(
            nn.Conv1d(before, after, 7, stride=1 if place else 2, padding=3, bias=False)
            for place, (before, after) in enumerate(pairwise(sizes))
        )
        self.norms = nn.ModuleList(nn.BatchNorm1d(width) for _ in range(layers))

    def forward(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Features `(B, F, T)` to frame-level vectors `(B, width, ceil(T / 2))` and their lengths."""
        x = masks.apply(features, lengths)
        lengths = masks.strided(lengths, 2)
        for convolve, normalize in zip(self.convolutions, self.norms, strict=True):
            # A convolution reads beyond the end of a row: the padding there must be zero, in every layer.
            x = masks.apply(normalize(convolve(x)).relu(), lengths)
        return x, lengths
