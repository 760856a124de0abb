"""CAM++: a small 2-D front, then densely connected time-delay layers with context-aware masking.

Wang et al., "CAM++: A Fast and Efficient Network for Speaker Verification Using Context-Aware Masking", INTERSPEECH
2023; widths and depths as published by its authors. With 80 bands and ten classes, its statistics pooling and its
512-wide embedding, it has 7,181,354 parameters.

Shapes: `(B, F, T)` to `(B, C, ceil(T / 2))`, any F and T; rows shorter than three frames are extended to three, so that
two are left to compute statistics of.

Departs from the paper's text like its authors' own program: batch norm and ReLU come before each dense layer's
convolutions, and segments have 100 frames after the front's halving. Departs from that program: rows are masked, and
the mask of a segment is computed once per segment, not for each of its frames.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from soundbench import masks

__all__ = ["CAMPPlus"]

# Frames of a segment: a frame's mask is computed from its segment and the whole row.
_SEGMENT = 100


class CAMPPlus(nn.Module):
    """CAM++, a densely connected time-delay network with context-aware masking.

    Args:
        growth: number of channels that each dense layer adds.
        bottleneck: width inside a dense layer, in multiples of `growth`.
        width: channels before the first dense block.
        front: channels of the 2-D front.
        layers: number of dense layers of each block.
    """

    default_pooling: ClassVar[Mapping[str, Any]] = {"use": "tsp"}
    default_head: ClassVar[Mapping[str, Any]] = {"embedding": 512, "bias": False, "norm_after": "plain"}
    shortest = 3  # two frames are left after the halving

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
                raise ValueError(f"{name} must be at least 1, is {value}")
        if not layers or min(layers) < 1:
            raise ValueError(f"layers must be a list of numbers from 1, one per block, is {layers}")
        self.front = Front(bands, front)
        self.entry = nn.Conv1d(self.front.rows, width, 5, stride=2, padding=2, bias=False)
        self.entry_norm = nn.BatchNorm1d(width)
        self.blocks = nn.ModuleList()
        for place, count in enumerate(layers):
            self.blocks.append(DenseBlock(width, count, growth, bottleneck * growth, dilation=1 if place == 0 else 2))
            width = (width + count * growth) // 2
        self.exit_norm = nn.BatchNorm1d(width)
        self.channels = width
        for module in self.modules():
            if isinstance(module, nn.Conv1d | nn.Linear):
                nn.init.kaiming_normal_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Features `(B, F, T)` to frame-level vectors `(B, C, ceil(T / 2))` and their lengths."""
        features, lengths = masks.extend(features, lengths, self.shortest)
        x = self.entry(self.front(features, lengths)).transpose(1, 2)
        lengths = masks.strided(lengths, 2)
        rows = Rows(lengths, x)
        x = _rectified(self.entry_norm(x.flatten(0, 1)), rows.keep)
        for block in self.blocks:
            x = block(x, rows)
        x = self.exit_norm(x).relu_()
        return rows.split(x).transpose(1, 2), lengths


class Front(nn.Module):
    """The 2-D front: `(B, F, T)` to `(B, channels * ceil(F / 8), T)`, zero beyond the lengths.

    Its weights and activations are channels-last: twice as fast on a CPU.
    """

    def __init__(self, bands: int, channels: int) -> None:
        super().__init__()
        self.rows = channels * -(-bands // 8)
        self.first = nn.Conv2d(1, channels, 3, padding=1, bias=False)
        self.first_norm = nn.BatchNorm2d(channels)
        self.stages = nn.ModuleList(Residual(channels, halve) for _ in range(2) for halve in (True, False))
        self.last = nn.Conv2d(channels, channels, 3, stride=(2, 1), padding=1, bias=False)
        self.last_norm = nn.BatchNorm2d(channels)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, features: Tensor, lengths: Tensor) -> Tensor:
        """Features `(B, F, T)` to rows `(B, R, T)`."""
        x = self.first(features.unsqueeze(1).contiguous(memory_format=torch.channels_last))
        keep = masks.keep(lengths, x)
        x = _rectified(self.first_norm(x), keep)
        for stage in self.stages:
            x = stage(x, keep)
        return _rectified(self.last_norm(self.last(x)), keep).flatten(1, 2)


class Residual(nn.Module):
    """Two 3x3 convolutions with a residual connection; halves the bands or keeps them."""

    def __init__(self, channels: int, halve: bool) -> None:
        super().__init__()
        stride = 2 if halve else 1
        self.first = nn.Conv2d(channels, channels, 3, stride=(stride, 1), padding=1, bias=False)
        self.first_norm = nn.BatchNorm2d(channels)
        self.second = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.second_norm = nn.BatchNorm2d(channels)
        self.shortcut = nn.Conv2d(channels, channels, 1, stride=(2, 1), bias=False) if halve else None
        self.shortcut_norm = nn.BatchNorm2d(channels) if halve else None

    def forward(self, x: Tensor, keep: Tensor | None) -> Tensor:
        """`(B, C, F, T)` to `(B, C, F or ceil(F / 2), T)`."""
        inner = _rectified(self.first_norm(self.first(x)), keep)
        inner = self.second_norm(self.second(inner))
        if self.shortcut is not None and self.shortcut_norm is not None:
            x = self.shortcut_norm(self._halved(x, self.shortcut))
        return _rectified(inner.add_(x), keep)

    def _halved(self, x: Tensor, shortcut: nn.Conv2d) -> Tensor:
        if not torch.is_grad_enabled():
            halved: Tensor = shortcut(x)
            return halved
        # In training every second band is indexed: the gradient of a strided 1x1 convolution is slow on a CPU. Indexed
        # with the channels innermost, so that its gradient has the layout of the others it is added to; copied once,
        # not by the convolution and again by its gradient.
        halved = x.permute(0, 2, 3, 1)[:, ::2].contiguous().permute(0, 3, 1, 2)
        return F.conv2d(halved, shortcut.weight, shortcut.bias)


def _rectified(x: Tensor, keep: Tensor | None) -> Tensor:
    """ReLU of a tensor, in place, with zeros beyond the lengths, as the input of a convolution must have."""
    if keep is not None:
        x = x.mul_(keep)
    return x.relu_()


class Rows:
    """The frames of all rows as one matrix `(B * T, C)`, and the operations that need to know the rows.

    Channels are innermost from here on, so that the many 1x1 convolutions are plain matrix products.
    """

    def __init__(self, lengths: Tensor, like: Tensor) -> None:
        self.shape = like.shape[:2]
        size, dtype = like.shape[1], like.dtype
        inside = masks.wide(masks.mask(lengths, size).to(dtype))
        keep = masks.keep(lengths, inside)
        self.keep = None if keep is None else keep.to(dtype).reshape(-1, 1)
        segment = torch.arange(size, device=like.device) // _SEGMENT
        # One or two more than there are: export would specialise on a single one.
        segments = torch.arange(size // _SEGMENT + 2, device=like.device)
        # (T, N): one if frame t is in segment n.
        self.members = (segment.unsqueeze(1) == segments).to(dtype)
        # (B, N, T): weight of each frame in the mean of its row plus the mean of the segment.
        parts = inside.unsqueeze(1) * self.members.t()
        means = parts / parts.sum(-1, keepdim=True).clamp(min=1)
        self.weights = (means + (inside / inside.sum(-1, keepdim=True)).unsqueeze(1)).to(dtype)

    def split(self, x: Tensor) -> Tensor:
        """`(B * T, C)` to `(B, T, C)`."""
        return x.reshape(*self.shape, -1)

    def context(self, x: Tensor) -> Tensor:
        """`(B, T, C)` to the mean of the row plus that of each segment `(B, N, C)`."""
        return self.weights @ x

    def spread(self, x: Tensor) -> Tensor:
        """One value per segment `(B, N, C)` to one value per frame `(B, T, C)`."""
        return self.members @ x


class TimeConv(nn.Conv1d):
    """A convolution over three frames of rows with channels innermost, `(B, T, C)` to `(B, T, C')`.

    Computed on images of height one: torch has fast convolutions in this layout for images, but would copy rows.
    """

    def __init__(self, channels: int, out: int, dilation: int) -> None:
        super().__init__(channels, out, 3, padding=dilation, dilation=dilation, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Rows `(B, T, C)` to `(B, T, C')`."""
        image, weight = x.transpose(1, 2).unsqueeze(2), self.weight.unsqueeze(2)
        image = F.conv2d(image, weight, padding=(0, self.dilation[0]), dilation=(1, self.dilation[0]))
        return image.squeeze(2).transpose(1, 2)


class DenseLayer(nn.Module):
    """Batch norm, ReLU, a bottleneck, the same again, and a convolution masked by its context."""

    def __init__(self, channels: int, growth: int, inner: int, dilation: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(channels)
        self.reduce = nn.Linear(channels, inner, bias=False)
        self.inner_norm = nn.BatchNorm1d(inner)
        self.local = TimeConv(inner, growth, dilation)
        self.squeeze = nn.Linear(inner, -(-inner // 2))
        self.expand = nn.Linear(-(-inner // 2), growth)

    def forward(self, x: Tensor, rows: Rows) -> Tensor:
        """`(B * T, C)` to the new channels `(B * T, growth)`."""
        x = self.reduce(self.norm(x).relu_())
        x = rows.split(_rectified(self.inner_norm(x), rows.keep))
        mask = self.expand(self.squeeze(rows.context(x)).relu()).sigmoid()
        local: Tensor = self.local(x)
        return (local * rows.spread(mask)).flatten(0, 1)


class DenseBlock(nn.Module):
    """Dense layers, each with the outputs of all earlier ones as input, and a transition that halves the channels."""

    def __init__(self, channels: int, count: int, growth: int, inner: int, dilation: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            DenseLayer(channels + place * growth, growth, inner, dilation) for place in range(count)
        )
        channels += count * growth
        self.norm = nn.BatchNorm1d(channels)
        self.reduce = nn.Linear(channels, channels // 2, bias=False)

    def forward(self, x: Tensor, rows: Rows) -> Tensor:
        """`(B * T, C)` to `(B * T, (C + count * growth) / 2)`."""
        for layer in self.layers:
            x = torch.cat([x, layer(x, rows)], 1)
        halved: Tensor = self.reduce(self.norm(x).relu_())
        return halved
