"""PANNs CNN6, CNN10 and CNN14: plain stacks of convolution blocks, each halving time and bands.

Kong et al., "PANNs: Large-Scale Pretrained Audio Neural Networks for Audio Pattern Recognition", IEEE/ACM TASLP 2020,
section II and table I. With 80 bands, ten classes, their max-and-mean pooling and their head (512 or 2048 wide, ReLU)
they have 4,572,266, 4,954,090 and 79,694,314 parameters.

Shapes: `(B, F, T)` to `(B, C, T')`, the mean over the remaining bands; each block rounds T / 2 down, except CNN14's
last block, which keeps T, so T' is about T / 16 or T / 32. Rows shorter than one frame of the output (16 or 32 frames)
are extended to it with zeros. Bands are halved while there are at least two, so that CNN14 also takes 16 of them.

Names and shapes of weights follow the published checkpoints (`conv_block1.conv1` is `blocks.0.conv1`): images are
`(B, C, T, F)` inside, like theirs. `bias` adds the convolution biases that macls 1.0.6 trains.

Departs from the paper: the spectrogram and its masking are separate components. Departs from macls:
Xavier initialisation as in the paper, no 527-way layer.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from soundbench import masks

__all__ = ["CNN6", "CNN10", "CNN14"]


class PANNs(nn.Module):
    """The common part of the three networks: a norm per band, then blocks."""

    default_pooling: ClassVar[Mapping[str, Any]] = {"use": "max-mean"}
    default_head: ClassVar[Mapping[str, Any]] = {"embedding": 512, "activation": "relu", "dropout": 0.5}
    kernels: ClassVar[tuple[int, ...]]  # kernel size of each convolution of a block
    pool_last: ClassVar[bool] = True

    def __init__(self, bands: int, channels: list[int], dropout: float, bias: bool) -> None:
        super().__init__()
        if not channels or min(channels) < 1:
            raise ValueError(f"channels must be a list of numbers from 1, one per block, is {channels}")
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout must be at least 0 and below 1, is {dropout}")
        self.channels = channels[-1]
        self.bn0 = nn.BatchNorm1d(bands)
        pooled = len(channels) if self.pool_last else len(channels) - 1
        self.shortest = 2**pooled
        self.blocks = nn.ModuleList(
            Block(before, after, self.kernels, pool=place < pooled, dropout=dropout, bias=bias)
            for place, (before, after) in enumerate(zip([1, *channels], channels, strict=False))
        )

    def forward(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Features `(B, F, T)` to frame-level vectors `(B, C, T')` and their lengths."""
        # Always at least two frames of output: norms have two values to compute statistics of in training, and export
        # does not specialise on one frame.
        features, _ = masks.extend(features, lengths, 2 * self.shortest)
        lengths = lengths.clamp(min=self.shortest)
        # Beyond a row's end, the input of convolutions is zero after the norm, as at the end of a row alone.
        x = masks.apply(self.bn0(features), lengths).transpose(1, 2).unsqueeze(1)
        for block in self.blocks:
            x, lengths = block(x, lengths)
        return x.mean(3), lengths


class CNN6(PANNs):
    """PANNs CNN6, four blocks of one 5x5 convolution.

    Args:
        channels: width of each block.
        dropout: share of values that are dropped after each block.
        bias: whether convolutions have biases; those of the paper have none, those of macls do.
    """

    kernels = (5,)

    def __init__(
        self,
        bands: int,
        *,
        channels: list[int] = [64, 128, 256, 512],  # noqa: B006
        dropout: float = 0.2,
        bias: bool = False,
    ) -> None:
        super().__init__(bands, channels, dropout, bias)


class CNN10(PANNs):
    """PANNs CNN10, four blocks of two 3x3 convolutions.

    Args:
        channels: width of each block.
        dropout: share of values that are dropped after each block.
        bias: whether convolutions have biases; those of the paper have none, those of macls do.
    """

    kernels = (3, 3)

    def __init__(
        self,
        bands: int,
        *,
        channels: list[int] = [64, 128, 256, 512],  # noqa: B006
        dropout: float = 0.2,
        bias: bool = False,
    ) -> None:
        super().__init__(bands, channels, dropout, bias)


class CNN14(PANNs):
    """PANNs CNN14, six blocks of two 3x3 convolutions, of which the last does not halve.

    Args:
        channels: width of each block.
        dropout: share of values that are dropped after each block.
        bias: whether convolutions have biases; those of the paper have none, those of macls do.
    """

    default_head: ClassVar[Mapping[str, Any]] = {"embedding": 2048, "activation": "relu", "dropout": 0.5}
    kernels = (3, 3)
    pool_last = False
    channels_last: ClassVar[bool] = False  # measured a fifth slower in float32 than the blocks' own layouts

    def __init__(
        self,
        bands: int,
        *,
        channels: list[int] = [64, 128, 256, 512, 1024, 2048],  # noqa: B006
        dropout: float = 0.2,
        bias: bool = False,
    ) -> None:
        super().__init__(bands, channels, dropout, bias)


class Block(nn.Module):
    """One or two convolutions, each with batch norm and ReLU, then the mean of every two frames and bands, and dropout.

    Args:
        channels: channels of the input.
        out: channels of the output.
        kernels: kernel size of each convolution.
        pool: whether time and bands are halved.
        dropout: share of values dropped.
        bias: whether convolutions have biases.
    """

    def __init__(
        self, channels: int, out: int, kernels: tuple[int, ...], *, pool: bool, dropout: float, bias: bool
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, out, kernels[0], padding=kernels[0] // 2, bias=bias)
        self.bn1 = nn.BatchNorm2d(out)
        self.conv2: nn.Conv2d | None = None
        self.bn2: nn.BatchNorm2d | None = None
        if len(kernels) == 2:
            self.conv2 = nn.Conv2d(out, out, kernels[1], padding=kernels[1] // 2, bias=bias)
            self.bn2 = nn.BatchNorm2d(out)
        self.pool = pool
        self.dropout = dropout
        # On a CPU channels innermost are fastest, except with many weights and small images (CNN14's last blocks).
        self.layout = torch.channels_last if out <= 512 else torch.contiguous_format
        self.to(memory_format=self.layout)  # type: ignore[call-overload]
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.xavier_uniform_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """`(B, C, T, F)`, zero beyond the lengths, to `(B, C', T or T // 2, F')`, also zero there."""
        x = self.bn1(self.conv1(x.contiguous(memory_format=self.layout)))
        if self.conv2 is not None and self.bn2 is not None:
            x = self.bn2(self.conv2(_masked(x, lengths).relu_()))
        x = x.relu_()
        if self.pool:
            x = F.avg_pool2d(x, (2, 2 if x.shape[3] > 1 else 1))
            lengths = lengths // 2
        return _masked(F.dropout(x, self.dropout, self.training), lengths), lengths


def _masked(x: Tensor, lengths: Tensor) -> Tensor:
    """`x` `(B, C, T, F)` with zeros beyond the lengths, as the input of a convolution must have."""
    keep = masks.keep(lengths, x[:, 0, :, 0])
    return x if keep is None else x * keep[:, None, :, None]
