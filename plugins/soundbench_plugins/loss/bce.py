"""Binary cross entropy: each class is present or not, independent of the others.

The mean over the classes, as in published multi-label recipes (PANNs, AST, EfficientAT), so that their learning rates
can be used. Targets may be soft. `train.class_weights` sets the weights of classes.

Shapes: logits and target `(B, K)` to `(B,)`. Computed in float32 at least.
"""

from __future__ import annotations

from typing import ClassVar, Literal

from torch import Tensor, nn
from torch.nn import functional as F

from soundbench import masks

__all__ = ["BCE"]


class BCE(nn.Module):
    """Binary cross entropy; scores are sigmoids, several classes per clip."""

    classifier: ClassVar[Literal["linear", "cosine"]] = "linear"
    multilabel: ClassVar[bool] = True

    def __init__(self, classes: int) -> None:
        super().__init__()

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Logits and target `(B, K)` to the loss of each row `(B,)`."""
        logits = masks.wide(logits)
        return F.binary_cross_entropy_with_logits(logits, target.to(logits.dtype), reduction="none").mean(1)

    def scores(self, logits: Tensor) -> Tensor:
        """Logits `(B, K)` to a probability of each class `(B, K)`."""
        return masks.wide(logits).sigmoid()
