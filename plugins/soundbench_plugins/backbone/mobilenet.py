"""MobileNetV3 for audio: inverted residual blocks with depthwise convolutions, small and fast on CPUs.

Schmid, Koutini and Widmer, "Efficient Large-Scale Audio Tagging via Transformer-to-CNN Knowledge Distillation", ICASSP
2023, section 3.1 (EfficientAT's mn04, mn10, mn20 are `width` 0.4, 1.0, 2.0); blocks as in table 1 of Howard et al.,
"Searching for MobileNetV3", ICCV 2019, all widths in multiples of eight. With AudioSet's 527 classes and its
default pooling and head it has 983,599, 4,876,831 and 17,909,287 parameters.

Shapes: `(B, F, T)` to `(B, C, ceil(T / 32))`, any F and T; C is 1280 at width 1.0. No row is extended.

Squeeze-excitation weights only channels, as in the published networks, by means over true frames.

Departs from the paper in two ways. The layer before the classifier, 1280 wide with hard swish, is applied to the mean
over bands of each frame, not once to the mean over bands and time: its outputs are then frames for any pooling. And
batch norm follows the statistics of training with a momentum of 0.1, not 0.01: a training of a few hundred steps ends
before the slower one has followed through all layers, and the network then predicts one class.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from soundbench import masks

__all__ = ["MobileNet"]

# For each block: kernel, width inside, width of the output, squeeze-excitation, hard swish (or ReLU), stride.
_BLOCKS = (
    (3, 16, 16, False, False, 1),
    (3, 64, 24, False, False, 2),
    (3, 72, 24, False, False, 1),
    (5, 72, 40, True, False, 2),
    (5, 120, 40, True, False, 1),
    (5, 120, 40, True, False, 1),
    (3, 240, 80, False, True, 2),
    (3, 200, 80, False, True, 1),
    (3, 184, 80, False, True, 1),
    (3, 184, 80, False, True, 1),
    (3, 480, 112, True, True, 1),
    (3, 672, 112, True, True, 1),
    (5, 672, 160, True, True, 2),
    (5, 960, 160, True, True, 1),
    (5, 960, 160, True, True, 1),
)


class MobileNet(nn.Module):
    """MobileNetV3 as in EfficientAT, small and fast on CPUs.

    Args:
        width: factor of the width of every layer, from 0.1 to 4; 0.4, 1.0, 2.0 and others are published.
    """

    default_pooling: ClassVar[Mapping[str, Any]] = {"use": "tap"}
    default_head: ClassVar[Mapping[str, Any]] = {"embedding": 0, "dropout": 0.2}

    def __init__(self, _bands: int, *, width: float = 1.0) -> None:
        super().__init__()
        if not 0.1 <= width <= 4:
            raise ValueError(f"width must be from 0.1 to 4, is {width:g}")
        channels = _eights(16 * width)
        self.entry = ConvNorm(1, channels, 3, stride=2, activation=nn.Hardswish())
        self.blocks = nn.ModuleList()
        for kernel, inner, out, gated, swish, stride in _BLOCKS:
            inner, out = _eights(inner * width), _eights(out * width)
            self.blocks.append(Block(channels, inner, out, kernel, stride, gated=gated, swish=swish))
            channels = out
        self.exit = ConvNorm(channels, 6 * channels, 1, activation=nn.Hardswish())
        self.channels = _eights(1280 * width)
        self.last = nn.Linear(6 * channels, self.channels)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out")
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=0.01)
                nn.init.zeros_(module.bias)
        # Twice as fast on a CPU with the channels innermost.
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Features `(B, F, T)` to frame-level vectors `(B, C, T')` and their lengths."""
        # At least two frames of output in training, whose norms compute statistics of them, and in export, which would
        # specialise on one frame. Elsewhere frames that no row has would only take time.
        least = 33 if self.training or torch.compiler.is_compiling() else 1
        features, _ = masks.extend(features, lengths, least)
        x = self.entry(features.unsqueeze(1).contiguous(memory_format=torch.channels_last))
        lengths = masks.strided(lengths, 2)
        for block in self.blocks:
            x, lengths = block(x, lengths)
        frames = _over_bands(self.exit(x)).transpose(1, 2)
        return F.hardswish(self.last(frames)).transpose(1, 2), lengths


def _over_bands(x: Tensor) -> Tensor:
    """The mean of `(B, C, F, T)` over bands, `(B, C, T)`, with the channels innermost as in `x`: four times as fast."""
    return x.permute(0, 2, 3, 1).mean(1).transpose(1, 2)


def _eights(width: float) -> int:
    """The nearest multiple of eight, at least eight and nine tenths of the width."""
    nearest = max(8, int(width + 4) // 8 * 8)
    return nearest if nearest >= 0.9 * width else nearest + 8


class ConvNorm(nn.Sequential):
    """A convolution that keeps its input's size, or halves it by its stride, batch norm and an activation."""

    def __init__(
        self, channels: int, out: int, kernel: int, *, stride: int = 1, groups: int = 1, activation: nn.Module
    ) -> None:
        super().__init__(
            nn.Conv2d(channels, out, kernel, stride, padding=kernel // 2, groups=groups, bias=False),
            nn.BatchNorm2d(out, eps=0.001),
            activation,
        )


class Block(nn.Module):
    """An inverted residual block: widen, convolve each channel separately, weight the channels, narrow.

    Args:
        channels: channels of the input.
        inner: channels inside.
        out: channels of the output.
        kernel: kernel size of the depthwise convolution.
        stride: stride of the depthwise convolution.
        gated: whether channels are weighted by squeeze-excitation.
        swish: whether to use hard swish instead of ReLU.
    """

    def __init__(
        self, channels: int, inner: int, out: int, kernel: int, stride: int, *, gated: bool, swish: bool
    ) -> None:
        super().__init__()

        def activation() -> nn.Module:
            return nn.Hardswish() if swish else nn.ReLU(inplace=True)

        self.widen = ConvNorm(channels, inner, 1, activation=activation()) if inner != channels else nn.Identity()
        self.convolve = ConvNorm(inner, inner, kernel, stride=stride, groups=inner, activation=activation())
        self.gate = Gate(inner) if gated else None
        self.narrow = ConvNorm(inner, out, 1, activation=nn.Identity())
        self.stride = stride
        self.residual = stride == 1 and channels == out

    def forward(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """`(B, C, F, T)` to `(B, C', F', T')`, and the lengths in T'."""
        inner = self.widen(x)
        keep = masks.keep(lengths, inner)
        inner = self._convolved(inner if keep is None else inner * keep)
        lengths = masks.strided(lengths, self.stride)
        if self.gate is not None:
            inner = self.gate(inner, lengths)
        narrow = self.narrow(inner)
        return narrow + x if self.residual else narrow, lengths

    def _convolved(self, x: Tensor) -> Tensor:
        # On a CPU the gradients of depthwise convolutions take five times as long in bfloat16 as in float32.
        if x.device.type == "cpu" and torch.is_autocast_enabled("cpu"):
            with torch.autocast("cpu", enabled=False):
                convolved: Tensor = self.convolve(x.float())
        else:
            convolved = self.convolve(x)
        return convolved


class Gate(nn.Module):
    """Squeeze-excitation: each channel weighted by the means of all channels over bands and true frames."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        squeezed = _eights(channels // 4)
        self.squeeze = nn.Linear(channels, squeezed)
        self.excite = nn.Linear(squeezed, channels)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """`(B, C, F, T)` to the same."""
        mean = masks.mean(_over_bands(x), lengths)
        weights = self.excite(self.squeeze(mean).relu()).sigmoid()
        weighed: Tensor = x * weights.to(x.dtype)[:, :, None, None]
        return weighed
