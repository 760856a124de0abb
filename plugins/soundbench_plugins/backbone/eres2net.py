"""ERes2Net: a Res2Net over bands and frames whose features are fused by attention, within blocks and between stages.

Chen, Zheng, Wang, Cheng, Chen and Qi, "An Enhanced Res2Net with Local and Global Feature Fusion for Speaker
Verification", INTERSPEECH 2023; widths, depths and the clipping of activations at 20 as published by its authors in
3D-Speaker. With 80 bands and ten classes, its statistics pooling and its 192-wide embedding, it has 6,612,618
parameters.

Shapes: `(B, F, T)` to `(B, 512 * ceil(F / 8), ceil(T / 8))`, any F and T: odd numbers of bands or frames are
halved and rounded up. A batch of fewer than nine frames is padded to nine, which changes nothing; no row is extended.

Departs from the authors' program, and from `macls` 1.0.6, which follows it: rows are masked, any number of bands is
possible, and a row of one to eight frames has statistics (theirs are NaN). Their tensors have counterparts here, in the
same order and shape.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from soundbench_plugins.layers.eres2 import AttentiveFusion, Downsample, Trunk

__all__ = ["ERes2Net"]


class ERes2Net(nn.Module):
    """ERes2Net, a Res2Net with attentive fusion within its blocks and between its stages.

    Args:
        layers: number of blocks of each stage; each stage but the first halves bands and frames, and doubles channels.
        width: channels of the stem, and of the first stage before expansion.
        base_width: width of a group of channels, in 64ths of its stage's channels before expansion.
        scale: number of groups of channels in a block.
        expansion: width of a block's output, in multiples of its stage's channels.
    """

    default_pooling: ClassVar[Mapping[str, Any]] = {"use": "tsp"}
    default_head: ClassVar[Mapping[str, Any]] = {"embedding": 192}

    def __init__(
        self,
        bands: int,
        *,
        layers: list[int] = [3, 4, 6, 3],  # noqa: B006
        width: int = 32,
        base_width: int = 32,
        scale: int = 2,
        expansion: int = 2,
    ) -> None:
        super().__init__()
        self.trunk = Trunk(layers, width, base_width, scale, expansion)
        widths = self.trunk.widths
        self.downsamples = nn.ModuleList(Downsample(channels) for channels in widths[:-1])
        self.fusions = nn.ModuleList(AttentiveFusion(channels) for channels in widths[1:])
        self.channels = widths[-1] * self.trunk.rows(bands)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Features `(B, F, T)` to frame-level vectors `(B, C, ceil(T / 8))` and their lengths."""
        (fused, _, _), *above = self.trunk(features, lengths)
        for (x, keep, _), downsample, fuse in zip(above, self.downsamples, self.fusions, strict=True):
            fused = fuse(x, downsample(fused, keep))
        return fused.flatten(1, 2), above[-1][2]
