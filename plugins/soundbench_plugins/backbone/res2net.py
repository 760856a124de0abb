"""Res2Net: a residual network over bands and frames with blocks of several scales; the lightest of its kind here.

Gao, Cheng, Zhao, Zhang, Yang and Torr, "Res2Net: A New Multi-scale Backbone Architecture", IEEE TPAMI 43(2), 2021
(section 3). With 80 bands and ten classes, its attentive pooling and its 192-wide embedding between batch norms, it has
5,650,886 parameters; 5,126,598 with the pooling's `context = false`.

Shapes: `(B, F, T)` to `(B, 1024 * f, t)`, any F and T. The stem keeps `(F - 2) // 3` bands and `(T - 2) // 3` frames; f
and t are a sixteenth of those, rounded up: 2 and 7 of 80 bands and 298 frames. Rows of fewer than five frames, the
stem's minimum, are extended to five. A batch of fewer than 53 frames is padded to 53, which changes nothing.

Departs from the paper like `macls` 1.0.6, since the paper's choices would change its size: a stem half as wide, of
stride 3. `macls` has two groups of channels in a block, so that no group builds on another; here there are four, as in
the paper, a little less than half as wide for the same size: `scale = 2`, `base_width = 32` give its network, and the
tensors of its checkpoints then have counterparts here, in the same order and shape. Departs from both: rows are masked,
and any number of bands is possible.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from soundbench import masks
from soundbench_plugins.layers.images import ConvNorm, as_image, halved, halved_keep, rectified

__all__ = ["Res2Net"]

# Width of a block's output, in multiples of its stage's width.
_EXPANSION = 4
_Size = TypeVar("_Size", int, Tensor)


class Res2Net(nn.Module):
    """Res2Net over bands and frames, whose blocks convolve groups of channels one after another.

    Args:
        layers: number of blocks of each stage; each stage but the first halves bands and frames, and doubles channels.
        width: channels of the stem and of the first stage, a quarter of its output.
        base_width: width of a group of channels, in 64ths of its stage's channels.
        scale: number of groups of channels in a block; all but the last are convolved.
    """

    default_pooling: ClassVar[Mapping[str, Any]] = {"use": "asp"}
    default_head: ClassVar[Mapping[str, Any]] = {"embedding": 192, "norm_before": True, "norm_after": "affine"}
    shortest = 5  # one position of the stem

    def __init__(
        self,
        bands: int,
        *,
        layers: list[int] = [3, 4, 6, 3],  # noqa: B006
        width: int = 32,
        base_width: int = 17,
        scale: int = 4,
    ) -> None:
        super().__init__()
        if not layers or min(layers) < 1:
            raise ValueError(f"layers must be a list of numbers from 1, one per stage, is {layers}")
        for name, value, least in (("width", width, 1), ("scale", scale, 2)):
            if value < least:
                raise ValueError(f"{name} must be at least {least}, is {value}")
        if width * base_width < 64:
            raise ValueError(f"base_width must be at least {-(-64 // width)} where width is {width}, is {base_width}")
        self.stem = nn.Conv2d(1, width, 7, stride=3, padding=1, bias=False)
        self.stem_norm = nn.BatchNorm2d(width)
        self.stages = nn.ModuleList()
        channels = width
        for place, count in enumerate(layers):
            planes = width * 2**place
            stage = nn.ModuleList()
            for block in range(count):
                group, out = planes * base_width // 64, planes * _EXPANSION
                stage.append(Bottleneck(channels, group, scale, out, halve=place > 0 and block == 0, first=block == 0))
                channels = out
            self.stages.append(stage)
        halvings = len(layers)  # the stem's pooling, and every stage but the first
        self.channels = channels * -(-_strode(bands) // 2**halvings)
        # Batches are padded to two positions after the last stage, as batch norm and export require.
        self.padded = 3 * (2**halvings + 1) + 2
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Features `(B, F, T)` to frame-level vectors `(B, C, T')` and their lengths."""
        features, _ = masks.extend(features, lengths, self.padded)
        x = self.stem_norm(self.stem(as_image(features)))
        lengths = _strode(lengths.clamp(min=self.shortest))
        # Zeros beyond the lengths do not change a maximum of values that are not negative.
        x = F.max_pool2d(rectified(x, masks.keep(lengths, x)), 3, stride=2, padding=1)
        lengths = masks.strided(lengths, 2)
        keep = masks.keep(lengths, x)
        for place, stage in enumerate(self.stages):
            for block in stage.children():
                x = block(x, keep)
                keep = halved_keep(keep) if block.halve else keep
            lengths = masks.strided(lengths, 2) if place else lengths
        return x.flatten(1, 2), lengths


def _strode(size: _Size) -> _Size:
    """The number of positions after the stem, for at least five bands or frames."""
    return (size - 2) // 3


class Bottleneck(nn.Module):
    """Groups of channels, each convolved after adding the output of the one before, between two 1x1 convolutions.

    In a stage's first block nothing is added, and the last group is averaged over its neighbours.
    """

    def __init__(self, channels: int, group: int, scale: int, out: int, halve: bool, first: bool) -> None:
        super().__init__()
        self.halve = halve
        stride = 2 if halve else 1
        self.reduce = ConvNorm(channels, group * scale, 1)
        self.groups = nn.ModuleList(ConvNorm(group, group, 3, stride) for _ in range(scale - 1))
        self.pool = nn.AvgPool2d(3, stride, padding=1) if first else None
        self.expand = ConvNorm(group * scale, out, 1)
        self.shortcut = ConvNorm(channels, out, 1) if first else None

    def forward(self, x: Tensor, keep: Tensor | None) -> Tensor:
        """`(B, C, F, T)` to `(B, out, F, T)`, or half of F and T, rounded up; zero beyond the lengths."""
        *parts, last = rectified(self.reduce(x), keep).chunk(len(self.groups) + 1, 1)
        if self.halve:
            x, keep = halved(x), halved_keep(keep)
        made: list[Tensor] = []
        for part, convolve in zip(parts, self.groups, strict=True):
            if made and self.pool is None:
                part = part + made[-1]
            made.append(rectified(convolve(part), keep))
        inner: Tensor = self.expand(torch.cat([*made, last if self.pool is None else self.pool(last)], 1))
        return rectified(inner.add_(x if self.shortcut is None else self.shortcut(x)), keep)
