"""CAM++: a small 2-D front, then densely connected time-delay layers with context-aware masking.

Wang et al., "CAM++: A Fast and Efficient Network for Speaker Verification Using Context-Aware Masking", INTERSPEECH
2023; widths and depths as its authors published them. With 80 bands and ten classes, its statistics pooling and its
512-wide embedding, it has 7,181,354 parameters.

Shapes: `(B, F, T)` to `(B, C, ceil(T / 2))`, any F and T; rows shorter than three frames are extended to three, so that
two are left to take statistics of.

Departs from the paper's text as its authors' own program does: batch norm and ReLU stand before each dense layer's
convolutions, and segments are of 100 frames after the front's halving. Departs from that program: rows are masked, and
the mask of a segment is computed once for the segment, not again for each of its frames.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from soundbench import masks

__all__ = ["CAMPPlus"]

# Frames of a segment, the neighbourhood that a frame's mask is computed from beside the whole row.
_SEGMENT = 100

# Frames of the shortest input: two remain after the halving.
_SHORTEST = 3


class CAMPPlus(nn.Module):
    """CAM++, a densely connected time-delay network with context-aware masking.

    Args:
        growth: channels that each dense layer adds.
        bottleneck: width inside a dense layer, in multiples of `growth`.
        width: channels before the first dense block.
        front: channels of the 2-D front.
        layers: dense layers of each block.
    """

    default_pooling: ClassVar[Mapping[str, Any]] = {"use": "tsp"}
    default_head: ClassVar[Mapping[str, Any]] = {"embedding": 512, "bias": False, "norm_after": "plain"}

    def __init__(
        self,
        bands: int,
        *,
        growth: int = 32,
        bottleneck: int = 4,
        width: int = 128,
        front: int = 32,
        layers: list[int] = [12, 24, 16],  # noqa: B006
    ) -> None:
        super().__init__()
        for name, value in (("growth", growth), ("bottleneck", bottleneck), ("width", width), ("front", front)):
            if value < 1:
                raise ValueError(f"{name} is at least 1, not {value}")
        if not layers or min(layers) < 1:
            raise ValueError(f"layers is a list of numbers from 1, one a block, not {layers}")
        self.front = Front(bands, front)
        self.entry = nn.Sequential(
            nn.Conv1d(self.front.rows, width, 5, stride=2, padding=2, bias=False), nn.BatchNorm1d(width), nn.ReLU()
        )
        self.blocks = nn.ModuleList()
        for place, count in enumerate(layers):
            self.blocks.append(DenseBlock(width, count, growth, bottleneck * growth, dilation=1 if place == 0 else 2))
            width = (width + count * growth) // 2
        self.exit = nn.Sequential(nn.BatchNorm1d(width), nn.ReLU())
        self.channels = width
        for module in self.modules():
            if isinstance(module, nn.Conv1d):
                nn.init.kaiming_normal_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Features `(B, F, T)` to frame-level vectors `(B, C, ceil(T / 2))` and their lengths."""
        features, lengths = masks.extend(features, lengths, _SHORTEST)
        x = self.entry(self.front(features, lengths))
        lengths = masks.strided(lengths, 2)
        segments = Segments(lengths, x)
        for block in self.blocks:
            x = block(x, segments)
        return self.exit(x), lengths


class Front(nn.Module):
    """The 2-D front: `(B, F, T)` to `(B, channels * ceil(F / 8), T)`, zero beyond the lengths."""

    def __init__(self, bands: int, channels: int) -> None:
        super().__init__()
        self.rows = channels * -(-bands // 8)
        self.first = nn.Conv2d(1, channels, 3, padding=1, bias=False)
        self.first_norm = nn.BatchNorm2d(channels)
        self.stages = nn.ModuleList(Residual(channels, stride) for _ in range(2) for stride in (2, 1))
        self.last = nn.Conv2d(channels, channels, 3, stride=(2, 1), padding=1, bias=False)
        self.last_norm = nn.BatchNorm2d(channels)

    def forward(self, features: Tensor, lengths: Tensor) -> Tensor:
        """Features `(B, F, T)` to rows `(B, R, T)`."""
        x = self.first(features.unsqueeze(1))
        keep = masks.keep(lengths, x)
        x = _rectified(self.first_norm(x), keep)
        for stage in self.stages:
            x = stage(x, keep)
        return _rectified(self.last_norm(self.last(x)), keep).flatten(1, 2)


class Residual(nn.Module):
    """Two 3x3 convolutions around which the input is added; the stride is on the bands alone."""

    def __init__(self, channels: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, stride=(stride, 1), padding=1, bias=False)
        self.first_norm = nn.BatchNorm2d(channels)
        self.second = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.second_norm = nn.BatchNorm2d(channels)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1:
            shortcut = nn.Conv2d(channels, channels, 1, stride=(stride, 1), bias=False)
            self.shortcut = nn.Sequential(shortcut, nn.BatchNorm2d(channels))

    def forward(self, x: Tensor, keep: Tensor | None) -> Tensor:
        """`(B, C, F, T)` to `(B, C, ceil(F / stride), T)`."""
        inner = _rectified(self.first_norm(self.first(x)), keep)
        return _rectified(self.second_norm(self.second(inner)) + self.shortcut(x), keep)


def _rectified(x: Tensor, keep: Tensor | None) -> Tensor:
    """ReLU of a fresh tensor, with zeros beyond the lengths: what the next convolution may look at."""
    if keep is not None:
        x = x.mul_(keep)
    return x.relu_()


class Segments:
    """Means of each row, and of each of its segments: the context that the masking layers are given."""

    def __init__(self, lengths: Tensor, like: Tensor) -> None:
        size = like.shape[-1]
        self.keep = masks.keep(lengths, like)
        self.missing = -size % _SEGMENT
        self.count = (size + self.missing) // _SEGMENT
        starts = torch.arange(self.count, device=like.device) * _SEGMENT
        self.lengths = (lengths.unsqueeze(1) - starts).clamp(0, _SEGMENT).unsqueeze(1)
        self.total = masks.count(lengths, like).unsqueeze(-1)

    def context(self, x: Tensor) -> Tensor:
        """`(B, C, T)`, zero beyond the lengths, to the mean of the row plus that of each segment `(B, C, N)`."""
        sums = F.pad(x, (0, self.missing)).reshape(*x.shape[:2], self.count, _SEGMENT).sum(-1)
        context: Tensor = sums.sum(-1, keepdim=True) / self.total + sums / self.lengths.clamp(min=1)
        return context

    def spread(self, x: Tensor, size: int) -> Tensor:
        """A value a segment `(B, C, N)` to a value a frame `(B, C, T)`."""
        return x.repeat_interleave(_SEGMENT, -1)[..., :size]


class DenseLayer(nn.Module):
    """Batch norm, ReLU, a bottleneck, the same again, and a convolution masked by its context."""

    def __init__(self, channels: int, growth: int, inner: int, dilation: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(channels)
        self.reduce = nn.Conv1d(channels, inner, 1, bias=False)
        self.inner_norm = nn.BatchNorm1d(inner)
        self.local = nn.Conv1d(inner, growth, 3, padding=dilation, dilation=dilation, bias=False)
        self.squeeze = nn.Conv1d(inner, -(-inner // 2), 1)
        self.expand = nn.Conv1d(-(-inner // 2), growth, 1)

    def forward(self, x: Tensor, segments: Segments) -> Tensor:
        """`(B, C, T)` to the new channels `(B, growth, T)`."""
        x = self.reduce(self.norm(x).relu_())
        x = _rectified(self.inner_norm(x), segments.keep)
        mask = self.expand(self.squeeze(segments.context(x)).relu()).sigmoid()
        local: Tensor = self.local(x)
        return local * segments.spread(mask, x.shape[-1])


class DenseBlock(nn.Module):
    """Dense layers, each fed with all that came before it, and a transition that halves the channels."""

    def __init__(self, channels: int, count: int, growth: int, inner: int, dilation: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            DenseLayer(channels + place * growth, growth, inner, dilation) for place in range(count)
        )
        channels += count * growth
        self.norm = nn.BatchNorm1d(channels)
        self.reduce = nn.Conv1d(channels, channels // 2, 1, bias=False)

    def forward(self, x: Tensor, segments: Segments) -> Tensor:
        """`(B, C, T)` to `(B, (C + count * growth) / 2, T)`."""
        for layer in self.layers:
            x = torch.cat([x, layer(x, segments)], 1)
        halved: Tensor = self.reduce(self.norm(x).relu_())
        return halved
