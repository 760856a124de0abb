"""ResNet with squeeze-excitation: a thin residual network over bands and frames whose blocks weight their channels.

He, Zhang, Ren and Sun, "Deep Residual Learning for Image Recognition", CVPR 2016 (the bottleneck of table 1); Hu, Shen
and Sun, "Squeeze-and-Excitation Networks", CVPR 2018 (figure 3). With 80 bands and ten classes, its attentive pooling
and its 192-wide embedding between batch norms, it has 9,125,826 parameters; 7,815,106 with the pooling's
`context = false`.

Shapes: `(B, F, T)` to `(B, 512 * ceil(F / 8), ceil(T / 8))`, any F and T: odd numbers of bands or frames are
halved and rounded up. A batch of fewer than nine frames is padded to nine, which changes nothing; no row is extended.

Departs from the papers like `macls` 1.0.6, since the papers' choices would change its size: half as wide, a block's
output twice (not four times) as wide as its middle, gates from an eighth (not a sixteenth) of the channels, and a stem
that keeps all bands and frames. Departs from `macls`: rows are masked, also in the means of the gates, and any number
of bands is possible. The tensors of its checkpoints have counterparts here, in the same order and shape.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from soundbench import masks
from soundbench_plugins.layers.images import ConvNorm, SqueezeExcitation, as_image, halved, halved_keep, rectified

__all__ = ["ResNetSE"]

# Width of a block's output, in multiples of its middle.
_EXPANSION = 2
# Ratio of a block's output channels to the width inside its gate.
_REDUCTION = 8


class ResNetSE(nn.Module):
    """ResNet over bands and frames, its bottlenecks with squeeze-excitation.

    Args:
        layers: number of blocks of each stage; every stage but the first halves bands and frames.
        widths: channels of the 3x3 convolutions of each stage.
    """

    default_pooling: ClassVar[Mapping[str, Any]] = {"use": "asp"}
    default_head: ClassVar[Mapping[str, Any]] = {"embedding": 192, "norm_before": True, "norm_after": "affine"}

    def __init__(
        self,
        bands: int,
        *,
        layers: list[int] = [3, 4, 6, 3],  # noqa: B006
        widths: list[int] = [32, 64, 128, 256],  # noqa: B006
    ) -> None:
        super().__init__()
        if not layers or min(layers) < 1:
            raise ValueError(f"layers must be a list of numbers from 1, one per stage, is {layers}")
        if len(widths) != len(layers) or min(widths) < _REDUCTION:
            raise ValueError(f"widths must be {len(layers)} numbers from {_REDUCTION}, one per stage, is {widths}")
        self.stem = ConvNorm(1, widths[0], 3)
        self.stages = nn.ModuleList()
        channels, rows = widths[0], bands
        for place, (count, width) in enumerate(zip(layers, widths, strict=True)):
            stage = nn.ModuleList()
            for block in range(count):
                stage.append(Bottleneck(channels, width, halve=place > 0 and block == 0, shortcut=block == 0))
                channels = _EXPANSION * width
            self.stages.append(stage)
            rows = -(-rows // 2) if place else rows
        self.channels = channels * rows
        # Batches are padded to two positions after the last stage: export would specialise on a single one.
        self.padded = 2 ** (len(layers) - 1) + 1
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Features `(B, F, T)` to frame-level vectors `(B, C, ceil(T / 8))` and their lengths."""
        features, _ = masks.extend(features, lengths, self.padded)
        x = self.stem(as_image(features))
        keep = masks.keep(lengths, x)
        x = rectified(x, keep)
        for place, stage in enumerate(self.stages):
            for block in stage.children():
                x = block(x, keep)
                keep = halved_keep(keep) if block.halve else keep
            lengths = masks.strided(lengths, 2) if place else lengths
        return x.flatten(1, 2), lengths


class Bottleneck(nn.Module):
    """A 3x3 convolution between two 1x1 convolutions, gated, with a residual connection."""

    def __init__(self, channels: int, width: int, halve: bool, shortcut: bool) -> None:
        super().__init__()
        out = _EXPANSION * width
        self.halve = halve
        self.reduce = ConvNorm(channels, width, 1)
        self.middle = ConvNorm(width, width, 3, stride=2 if halve else 1)
        self.expand = ConvNorm(width, out, 1)
        self.gate = SqueezeExcitation(out, out // _REDUCTION)
        self.shortcut = ConvNorm(channels, out, 1) if shortcut else None

    def forward(self, x: Tensor, keep: Tensor | None) -> Tensor:
        """`(B, C, F, T)` to `(B, out, F, T)`, or half of F and T, rounded up; zero beyond the lengths."""
        inner = rectified(self.reduce(x), keep)
        if self.halve:
            x, keep = halved(x), halved_keep(keep)
        inner = self.expand(rectified(self.middle(inner), keep))
        if self.shortcut is not None:
            x = self.shortcut(x)
        return rectified(torch.addcmul(x, inner, self.gate(inner, keep)), keep)
