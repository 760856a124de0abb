"""Cross entropy between the softmax of the logits and soft targets.

Label smoothing is Szegedy et al., "Rethinking the Inception Architecture for Computer Vision", CVPR 2016, section 7.

Shapes: logits and target `(B, K)` to `(B,)`. Computed in float32 at least.
"""

from __future__ import annotations

from typing import ClassVar, Literal

from torch import Tensor, nn

from soundbench import masks

__all__ = ["CrossEntropy"]


class CrossEntropy(nn.Module):
    """Cross entropy with label smoothing; scores are the softmax, one class per clip.

    Args:
        smoothing: share of each target that is spread evenly over all classes, from 0 to below 1.
    """

    classifier: ClassVar[Literal["linear", "cosine"]] = "linear"

    def __init__(self, classes: int, *, smoothing: float = 0.0) -> None:
        super().__init__()
        if not 0.0 <= smoothing < 1.0:
            raise ValueError(f"smoothing must be from 0 to below 1, is {smoothing}")
        self.classes = classes
        self.smoothing = smoothing

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Logits and target `(B, K)` to the loss of each row `(B,)`."""
        if self.smoothing:
            target = target * (1.0 - self.smoothing) + self.smoothing / self.classes
        return -(target * masks.wide(logits).log_softmax(1)).sum(1)

    def scores(self, logits: Tensor) -> Tensor:
        """Logits `(B, K)` to probabilities `(B, K)`."""
        return masks.wide(logits).softmax(1)
