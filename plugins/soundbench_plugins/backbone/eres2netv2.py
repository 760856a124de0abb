"""ERes2NetV2: ERes2Net made lighter, with narrower blocks and one fusion, of the last two stages.

Chen, Zheng, Wang, Cheng, Qi and Chen, "ERes2NetV2: Boosting Short-Duration Speaker Verification Performance with
Computational Efficiency", INTERSPEECH 2024; the structure as published by its authors in 3D-Speaker, half as wide as
there, like `macls` 1.0.6. With 80 bands and ten classes, its statistics pooling and its 192-wide embedding, it has
5,460,132 parameters.

Shapes: `(B, F, T)` to `(B, 512 * ceil(F / 8), ceil(T / 8))`, any F and T: odd numbers of bands or frames are
halved and rounded up. A batch of fewer than nine frames is padded to nine, which changes nothing; no row is extended.

Departs from the authors' program and from `macls`: rows are masked, any number of bands is possible, and a row of one
to eight frames has statistics (theirs are NaN). Their tensors have counterparts here, in the same order and shape;
the authors' own width is `width = 64`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from soundbench_plugins.layers.eres2 import AttentiveFusion, Downsample, Trunk

__all__ = ["ERes2NetV2"]


class ERes2NetV2(nn.Module):
    """ERes2NetV2, a lighter ERes2Net with attentive fusion within its blocks and between its last two stages.

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
        base_width: int = 26,
        scale: int = 2,
        expansion: int = 2,
    ) -> None:
        super().__init__()
        self.trunk = Trunk(layers, width, base_width, scale, expansion)
        before, last = self.trunk.widths[-2:]
        self.downsample = Downsample(before)
        self.fusion = AttentiveFusion(last)
        self.channels = last * self.trunk.rows(bands)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Features `(B, F, T)` to frame-level vectors `(B, C, ceil(T / 8))` and their lengths."""
        (before, _, _), (x, _, lengths) = self.trunk(features, lengths)[-2:]
        return self.fusion(x, self.downsample(before)).flatten(1, 2), lengths
