"""Focal loss: clips that are already easy count less.

Lin et al., "Focal Loss for Dense Object Detection", ICCV 2017, section 3: cross entropy times (1 - p)^gamma. The
paper's form has one sigmoid per class, here `multilabel`, as the mean over the classes; the softmax form is for one
class per clip. With gamma 0 they are `bce` and `cross-entropy`. The loss of a soft target is the weighted mean of the
losses of its classes. `train.class_weights` takes the place of the paper's alpha.

Shapes: logits and target `(B, K)` to `(B,)`. Computed in float32 at least.
"""

from __future__ import annotations

import math
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from soundbench import masks

__all__ = ["Focal"]


class Focal(nn.Module):
    """Cross entropy in which easy clips count less; scores are the softmax, or sigmoids.

    Args:
        gamma: how strongly easy clips are weighted down; 0 is plain cross entropy.
        multilabel: whether a clip may have several classes, each with its own sigmoid, instead of one by a softmax.
    """

    classifier: ClassVar[Literal["linear", "cosine"]] = "linear"

    def __init__(self, classes: int, *, gamma: float = 2.0, multilabel: bool = False) -> None:
        super().__init__()
        if not 0.0 <= gamma < math.inf:
            raise ValueError(f"gamma must be at least 0, and finite, is {gamma}")
        self.gamma, self.multilabel = gamma, multilabel

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Logits and target `(B, K)` to the loss of each row `(B,)`."""
        logits = masks.wide(logits)
        if self.multilabel:
            there, absent = F.logsigmoid(logits), F.logsigmoid(-logits)
            costs = target * (self.gamma * absent).exp() * there + (1.0 - target) * (self.gamma * there).exp() * absent
            return -costs.mean(1)
        logs = logits.log_softmax(1)
        # Above 0, where the power has no gradient for a gamma below 1.
        rest = (-logs.expm1()).clamp(min=torch.finfo(logs.dtype).eps)
        return -(target * rest**self.gamma * logs).sum(1)

    def scores(self, logits: Tensor) -> Tensor:
        """Logits `(B, K)` to probabilities `(B, K)`."""
        logits = masks.wide(logits)
        return logits.sigmoid() if self.multilabel else logits.softmax(1)
