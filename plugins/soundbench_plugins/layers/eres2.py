"""What ERes2Net and ERes2NetV2 share: blocks whose groups of channels build on each other, and attentive fusion.

Shapes: images `(B, C, F, T)` and their `keep` as in `soundbench_plugins.layers.images`.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from soundbench import masks
from soundbench_plugins.layers.images import ConvNorm, as_image, halved, halved_keep, masked, rectified

__all__ = ["AttentiveFusion", "Downsample", "Trunk"]

# The maximum to which the authors' program clips the blocks' activations.
_MOST = 20.0
# The stages from this one on fuse their groups by attention, those before by a sum.
_ATTENTIVE = 2


class Trunk(nn.Module):
    """A stem and stages of blocks, each stage but the first at half of the bands and frames and twice the channels.

    Args:
        layers: blocks of each stage.
        width: channels of the stem, and of the first stage before expansion.
        base_width: width of a group, in 64ths of its stage's channels before expansion, rounded down.
        scale: groups of a block.
        expansion: how many times a block's output is as wide as its stage's channels.
    """

    def __init__(self, layers: list[int], width: int, base_width: int, scale: int, expansion: int) -> None:
        super().__init__()
        if len(layers) < 2 or min(layers) < 1:
            raise ValueError(f"layers must be at least two numbers from 1, one per stage, is {layers}")
        for name, value, least in (("width", width, 1), ("scale", scale, 2), ("expansion", expansion, 1)):
            if value < least:
                raise ValueError(f"{name} must be at least {least}, is {value}")
        if width * base_width < 64:
            raise ValueError(f"base_width must be at least {-(-64 // width)} where width is {width}, is {base_width}")
        self.stem = ConvNorm(1, width, 3)
        self.stages = nn.ModuleList()
        self.widths: list[int] = []
        channels = width
        for place, count in enumerate(layers):
            planes = width * 2**place
            group, out, attentive = planes * base_width // 64, planes * expansion, place >= _ATTENTIVE
            stage = nn.ModuleList()
            for block in range(count):
                stage.append(Block(channels, group, scale, out, place > 0 and block == 0, attentive))
                channels = out
            self.stages.append(stage)
            self.widths.append(out)
        # Batches are padded to two positions after the last stage: export would specialise on a single one.
        self.padded = 2 ** (len(layers) - 1) + 1

    def rows(self, bands: int) -> int:
        """The number of bands after the last stage."""
        return -(-bands // (1 << (len(self.stages) - 1)))

    def forward(self, features: Tensor, lengths: Tensor) -> list[tuple[Tensor, Tensor | None, Tensor]]:
        """Features `(B, F, T)` to the output of each stage, its `keep` and its lengths."""
        features, _ = masks.extend(features, lengths, self.padded)
        x = self.stem(as_image(features))
        keep = masks.keep(lengths, x)
        x = rectified(x, keep)
        made = []
        for place, stage in enumerate(self.stages):
            if place:
                keep, lengths = halved_keep(keep), masks.strided(lengths, 2)
            for block in stage.children():
                x = block(x, keep)
            made.append((x, keep, lengths))
        return made


class Block(nn.Module):
    """Groups of channels, each convolved together with the output of the one before, with a residual connection."""

    def __init__(self, channels: int, group: int, scale: int, out: int, halve: bool, attentive: bool) -> None:
        super().__init__()
        self.halve = halve
        self.reduce = ConvNorm(channels, group * scale, 1)
        self.groups = nn.ModuleList(ConvNorm(group, group, 3) for _ in range(scale))
        self.fusions = nn.ModuleList(AttentiveFusion(group) for _ in range(scale - 1)) if attentive else None
        self.expand = ConvNorm(group * scale, out, 1)
        self.shortcut = ConvNorm(channels, out, 1) if halve or channels != out else None

    def forward(self, x: Tensor, keep: Tensor | None) -> Tensor:
        """`(B, C, F, T)` to `(B, out, F, T)`, or half of F and T, rounded up; `keep` is of the latter."""
        if self.halve:
            x = halved(x)
        parts = rectified(self.reduce(x), keep, _MOST).chunk(len(self.groups), 1)
        made: list[Tensor] = []
        for place, (part, convolve) in enumerate(zip(parts, self.groups, strict=True)):
            if place and self.fusions is None:
                part = made[-1] + part
            elif place and self.fusions is not None:
                part = self.fusions[place - 1](made[-1], part)
            made.append(rectified(convolve(part), keep, _MOST))
        inner: Tensor = self.expand(torch.cat(made, 1))
        return rectified(inner.add_(x if self.shortcut is None else self.shortcut(x)), keep, _MOST)


class AttentiveFusion(nn.Module):
    """Two images added, each channel of each position weighted by attention: `x (1 + a) + y (1 - a)`."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        inner = max(channels // 4, 1)
        self.squeeze = nn.Conv2d(2 * channels, inner, 1)
        self.squeeze_norm = nn.BatchNorm2d(inner)
        self.excite = nn.Conv2d(inner, channels, 1)
        self.excite_norm = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Two images `(B, C, F, T)` to one of their shape; zero where both are."""
        hidden = nn.functional.silu(self.squeeze_norm(self.squeeze(torch.cat([x, y], 1))))
        weight = self.excite_norm(self.excite(hidden)).tanh()
        return torch.addcmul(x + y, x - y, weight)


class Downsample(nn.Conv2d):
    """A 3x3 convolution to half of the bands and frames and twice the channels, zero beyond the lengths."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, 2 * channels, 3, stride=2, padding=1, bias=False)

    def forward(self, x: Tensor, keep: Tensor | None = None) -> Tensor:
        """`(B, C, F, T)` to `(B, 2C, ceil(F / 2), ceil(T / 2))`; `keep` is of the latter."""
        return masked(super().forward(x), keep)
