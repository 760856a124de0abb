"""PANNs CNN6, CNN10 and CNN14: plain stacks of convolution blocks, each halving time and bands.

Kong et al., "PANNs: Large-Scale Pretrained Audio Neural Networks for Audio Pattern Recognition", IEEE/ACM TASLP 2020,
section II and table I. With 80 bands, ten classes, their max-and-mean pooling and their head (512 or 2048 wide, ReLU)
they have 4,572,266, 4,954,090 and 79,694,314 parameters.

Shapes: `(B, F, T)` to `(B, C, T')`, the mean over what is left of the bands; each block rounds T / 2 down, CNN14's last
block leaves it, so T' is about T / 16 or T / 32. Rows shorter than one frame of the output (16 or 32 frames) are
extended to it with zeros. Bands are halved as long as there are two, so that CNN14 takes 16 of them too.

Names and shapes of weights are the published checkpoints' (`conv_block1.conv1` is `blocks.0.conv1`): images are held as
`(B, C, T, F)` inside, as theirs are. `bias` adds the biases to the convolutions that macls 1.0.6 trains with.

Departs from the paper: the spectrogram and its masking are a featurizer's and an augmentation's. Departs from macls:
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
    """What the three networks have in common: a norm a band, then blocks."""

    default_pooling: ClassVar[Mapping[str, Any]] = {"use": "max-mean"}
    default_head: ClassVar[Mapping[str, Any]] = {"embedding": 512, "activation": "relu", "dropout": 0.5}
    kernels: ClassVar[tuple[int, ...]]  # of each convolution of a block
    pool_last: ClassVar[bool] = True

    def __init__(self, bands: int, channels: list[int], dropout: float, bias: bool) -> None:
        super().__init__()
        if not channels or min(channels) < 1:
            raise ValueError(f"channels must be a list of numbers from 1, one a block, is {channels}")
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
        # Room for two frames of output whatever the lengths: norms have two values to take statistics of in training,
        # and export need not ask whether there is one frame or more.
        features, _ = masks.extend(features, lengths, 2 * self.shortest)
        lengths = lengths.clamp(min=self.shortest)
        # What a convolution sees beyond a row's end are zeros after the norm, as at the end of a row alone.
        x = masks.apply(self.bn0(features), lengths).transpose(1, 2).unsqueeze(1)
        for block in self.blocks:
            x, lengths = block(x, lengths)
        return x.mean(3), lengths


class CNN6(PANNs):
    """PANNs CNN6, four blocks of one 5x5 convolution.

    Args:
        channels: width of each block.
        dropout: share of values dropped after each block.
        bias: whether convolutions have biases: the paper's have none, macls's have.
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
        dropout: share of values dropped after each block.
        bias: whether convolutions have biases: the paper's have none, macls's have.
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
    """PANNs CNN14, six blocks of two 3x3 convolutions, the last one not halving.

    Args:
        channels: width of each block.
        dropout: share of values dropped after each block.
        bias: whether convolutions have biases: the paper's have none, macls's have.
    """

    default_head: ClassVar[Mapping[str, Any]] = {"embedding": 2048, "activation": "relu", "dropout": 0.5}
    kernels = (3, 3)
    pool_last = False
    channels_last: ClassVar[bool] = False  # all of them: measured a fifth slower in float32 than as the blocks are

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
        channels: of the input.
        out: of the output.
        kernels: side of each convolution.
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
        # On a CPU the channels are best innermost, unless the weights are many and the images small (CNN14's last).
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
            x = self.bn2(self.conv2(_silence(x, lengths).relu_()))
        x = x.relu_()
        if self.pool:
            x = F.avg_pool2d(x, (2, 2 if x.shape[3] > 1 else 1))
            lengths = lengths // 2
        return _silence(F.dropout(x, self.dropout, self.training), lengths), lengths


def _silence(x: Tensor, lengths: Tensor) -> Tensor:
    """`x` `(B, C, T, F)` with zeros beyond the lengths: what a convolution may look at."""
    keep = masks.keep(lengths, x[:, 0, :, 0])
    return x if keep is None else x * keep[:, None, :, None]
