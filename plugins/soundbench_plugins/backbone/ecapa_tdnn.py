"""ECAPA-TDNN: time-delay layers in a hierarchy of groups, squeeze-excitation, and aggregation of all depths.

Desplanques, Thienpondt and Demuynck, "ECAPA-TDNN: Emphasized Channel Attention, Propagation and Aggregation in TDNN
Based Speaker Verification", INTERSPEECH 2020, sections 3.2 and 3.3; the attention with context of its section 3.1 is
the pooling `asp`. With 80 bands, ten classes and the default pooling and head it has 6.20 M parameters, 14.65 M with
1024 channels (published with 192-wide embeddings and no classifier).

Shapes: `(B, F, T)` to `(B, C, T)`, C the aggregation's width, any F and T; rows shorter than the widest dilation plus
one frame (five) are extended to that.

For convolutions, each row is reflected at its own two ends, not at the end of the batch; the paper does not say how its
rows are padded. In training the batch norms include the outputs for zeroed padding.

In `macls` the input of each block is only the output of the last one, as with `summed = false`, and there is no batch
norm after the embedding: `head.norm_after = "none"`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from soundbench import masks
from soundbench_plugins.layers.frames import TimeConv, TransposedLinear, rectified_norm

__all__ = ["EcapaTdnn"]

_STEM = 5  # kernel size of the first layer, in frames
_KERNEL = 3  # kernel size of a group's layer, in frames


class EcapaTdnn(nn.Module):
    """ECAPA-TDNN, time-delay blocks with squeeze-excitation whose outputs are aggregated.

    Args:
        channels: width of the frame layers; 512 and 1024 are the paper's.
        aggregation: width of the layer that combines the outputs of all blocks.
        dilations: dilation of a block's convolutions, one per block.
        scale: number of groups that a block's channels are split into.
        squeeze: width inside the squeeze-excitation.
        summed: whether a block's input is the sum of all previous outputs, or only the last one.
    """

    default_pooling: ClassVar[Mapping[str, Any]] = {"use": "asp"}
    default_head: ClassVar[Mapping[str, Any]] = {"embedding": 192, "norm_before": True, "norm_after": "affine"}

    def __init__(
        self,
        bands: int,
        *,
        channels: int = 512,
        aggregation: int = 1536,
        dilations: list[int] = [2, 3, 4],  # noqa: B006
        scale: int = 8,
        squeeze: int = 128,
        summed: bool = True,
    ) -> None:
        super().__init__()
        for name, value in (("aggregation", aggregation), ("squeeze", squeeze)):
            if value < 1:
                raise ValueError(f"{name} must be at least 1, is {value}")
        if scale < 2:
            raise ValueError(f"scale must be at least 2, is {scale}")
        if channels < 1 or channels % scale:
            raise ValueError(f"channels must be a multiple of scale, {scale}, is {channels}")
        if not dilations or min(dilations) < 1:
            raise ValueError(f"dilations must be numbers from 1, one per block, is {dilations}")
        self.summed, self.channels = summed, aggregation
        self.stem = Delay(bands, channels, _STEM, 1)
        self.blocks = nn.ModuleList(Block(channels, scale, squeeze, dilation) for dilation in dilations)
        self.aggregate = TransposedLinear(len(dilations) * channels, aggregation)
        self.aggregate_norm = nn.BatchNorm1d(aggregation)
        self.shortest = 1 + max(_STEM // 2, *dilations)

    def forward(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Features `(B, F, T)` to frame-level vectors `(B, C, T)` and their lengths."""
        features, lengths = masks.extend(features, lengths, self.shortest)
        ends = Ends(lengths, features.shape[2], _STEM // 2)
        fed = self.stem(features.transpose(1, 2), ends)
        outputs: list[Tensor] = []
        for block in self.blocks:
            if outputs:
                fed = fed + outputs[-1] if self.summed else outputs[-1]
            outputs.append(block(fed, lengths))
        x = self.aggregate(torch.cat(outputs, 2))
        return self.aggregate_norm(x.relu_()), lengths


class Block(nn.Module):
    """SE-Res2 block: groups of channels, each convolved after adding the one before; squeeze-excitation; residual.

    Channels are innermost, `(B, T, C)`.
    """

    def __init__(self, channels: int, scale: int, squeeze: int, dilation: int) -> None:
        super().__init__()
        self.scale, width = scale, channels // scale
        self.enter = Pointwise(channels, channels)
        self.groups = nn.ModuleList(Delay(width, width, _KERNEL, dilation) for _ in range(scale - 1))
        self.leave = Pointwise(channels, channels)
        self.squeeze = nn.Linear(channels, squeeze)
        self.excite = nn.Linear(squeeze, channels)
        self.reach = _KERNEL // 2 * dilation

    def forward(self, fed: Tensor, lengths: Tensor) -> Tensor:
        """`(B, T, C)` to `(B, T, C)`."""
        ends = Ends(lengths, fed.shape[1], self.reach)
        passed, *groups = self.enter(fed).chunk(self.scale, 2)
        outputs = [passed]
        for place, (layer, group) in enumerate(zip(self.groups, groups, strict=True)):
            outputs.append(layer(group + outputs[-1] if place else group, ends))
        x = self.leave(torch.cat(outputs, 2))
        mean = masks.mean(x.transpose(1, 2), lengths)
        gate = self.excite(self.squeeze(mean).relu()).sigmoid()
        return torch.addcmul(fed, x, gate.to(x.dtype).unsqueeze(1))


class Pointwise(nn.Module):
    """A linear layer for each frame, ReLU, batch norm."""

    def __init__(self, channels: int, out: int) -> None:
        super().__init__()
        self.linear = nn.Linear(channels, out)
        self.norm = nn.BatchNorm1d(out)

    def forward(self, x: Tensor) -> Tensor:
        """`(B, T, C)` to `(B, T, C')`."""
        return rectified_norm(self.norm, self.linear(x))


class Delay(nn.Module):
    """A convolution over time of rows reflected at their ends, ReLU, batch norm."""

    def __init__(self, channels: int, out: int, kernel: int, dilation: int) -> None:
        super().__init__()
        self.conv = TimeConv(channels, out, kernel, dilation)
        self.norm = nn.BatchNorm1d(out)

    def forward(self, x: Tensor, ends: Ends) -> Tensor:
        """`(B, T, C)` to `(B, T, C')`."""
        return rectified_norm(self.norm, self.conv(ends.reflect(x)))


class Ends:
    """The indices of the frames that are reflected at each row's own first and last frame.

    Args:
        lengths: true frames of each row, more than `reach`.
        size: T.
        reach: number of frames reflected at each end.
    """

    def __init__(self, lengths: Tensor, size: int, reach: int) -> None:
        self.reach = reach
        row = torch.arange(lengths.shape[0], device=lengths.device).unsqueeze(1)
        last = lengths.unsqueeze(1) - 1
        away = torch.arange(1, reach + 1, device=lengths.device)
        before, behind = row * size, row * (size + 2 * reach) + reach
        self.source = torch.cat([before + away, before + last - away], 1).flatten()
        self.target = torch.cat([behind - away, behind + last + away], 1).flatten()

    def reflect(self, x: Tensor) -> Tensor:
        """Rows `(B, T, C)` to `(B, T + 2 * reach, C)`.

        Frames beyond a row's reflection may be anything: no true frame depends on them.
        """
        padded = F.pad(x, (0, 0, self.reach, self.reach))
        padded.view(-1, x.shape[2]).index_copy_(0, self.target, x.flatten(0, 1)[self.source])
        return padded
