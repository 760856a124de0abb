"""Attentive statistics pooling: mean and standard deviation over time with learnt weights.

Okabe, Koshinaka and Shinoda, "Attentive Statistics Pooling for Deep Speaker Embedding", INTERSPEECH 2018. The context,
the row's own mean and deviation beside each frame, is ECAPA-TDNN's: Desplanques, Thienpondt and Demuynck, INTERSPEECH
2020, section 3.1; from there too the ReLU and batch norm before the tanh.

Shapes: `(B, C, T)` to `(B, 2C)`, the means first. Masked; sums are taken in float32 at least. In training the batch
norm includes the zeros of the padding.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from soundbench import masks

__all__ = ["ASP"]

# Minimum variance: it keeps the root and its gradient finite for a single frame.
_EPS = 1e-12


class ASP(nn.Module):
    """Mean and standard deviation over time, weighted by attention.

    Args:
        attention: width of the layer that computes the weights.
        context: whether the row's mean and deviation are also input of that layer.
    """

    def __init__(self, channels: int, *, attention: int = 128, context: bool = True) -> None:
        super().__init__()
        if attention < 1:
            raise ValueError(f"attention must be at least 1, is {attention}")
        self.channels, self.features, self.context = channels, 2 * channels, context
        self.hidden = nn.Conv1d(channels * (3 if context else 1), attention, 1)
        self.norm = nn.BatchNorm1d(attention)
        self.score = nn.Conv1d(attention, channels, 1)

    def forward(self, frames: Tensor, lengths: Tensor) -> Tensor:
        """Frames `(B, C, T)` to their weighted statistics `(B, 2C)`."""
        frames = masks.apply(masks.wide(frames), lengths)
        hidden = masks.apply(self._hidden(frames, lengths).relu(), lengths)
        weights = masks.softmax(self.score(self.norm(hidden).tanh()), lengths)
        mean = (weights * frames).sum(-1)
        variance = (weights * (frames - mean.unsqueeze(-1)).square()).sum(-1)
        return torch.cat([mean, variance.clamp(min=_EPS).sqrt()], 1)

    def _hidden(self, frames: Tensor, lengths: Tensor) -> Tensor:
        if not self.context:
            hidden: Tensor = self.hidden(frames)
            return hidden
        # The context is the same for all frames of a row: its part of the layer is computed once per row.
        here, row = self.hidden.weight[:, : self.channels], self.hidden.weight[:, self.channels :]
        context = torch.cat(masks.mean_std(frames, lengths, unbiased=False, eps=_EPS), 1).unsqueeze(-1)
        return F.conv1d(frames, here, self.hidden.bias) + F.conv1d(context, row)
