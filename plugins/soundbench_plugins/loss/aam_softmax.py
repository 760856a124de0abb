"""Additive angular margin softmax (ArcFace): a clip must be closer to its own class by a margin.

Deng et al., "ArcFace: Additive Angular Margin Loss for Deep Face Recognition", CVPR 2019, section 3.1; margin and scale
by default as for speakers (Xiang et al., "Margin Matters", APSIPA 2019), not faces. If the angle plus the margin is
more than half a turn, the cosine continues as a falling line, as in the authors' code. Each class gets the share of the
margin that it has in the target, so that soft targets work; for one class it is the paper's loss.

Shapes: cosines and target `(B, K)` to `(B,)`. Computed in float32 at least.
"""

from __future__ import annotations

import math
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from soundbench import masks

__all__ = ["AAMSoftmax"]

# Minimum squared sine: at 0, where a vector equals its class vector, the sine has no gradient.
_LEAST = 1e-6


class AAMSoftmax(nn.Module):
    """Softmax of scaled cosines, with an angular margin in training; one class per clip.

    Args:
        margin: angle in radians by which a clip must be closer to its own class, from 0 to below pi / 2.
        scale: factor of the cosines before the softmax.
    """

    classifier: ClassVar[Literal["linear", "cosine"]] = "cosine"

    def __init__(self, classes: int, *, margin: float = 0.2, scale: float = 32.0) -> None:
        super().__init__()
        if not 0.0 <= margin < math.pi / 2:
            raise ValueError(f"margin must be from 0 to below pi / 2, is {margin}")
        if not 0.0 < scale < math.inf:
            raise ValueError(f"scale must be above 0, and finite, is {scale}")
        self.margin, self.scale = margin, scale

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Cosines and target `(B, K)` to the loss of each row `(B,)`."""
        cosine = masks.wide(logits).clamp(-1.0, 1.0)
        target = target.to(cosine.dtype)
        margin = self.margin * target
        sine = (1.0 - cosine.square()).clamp(min=_LEAST).sqrt()
        closer = cosine * margin.cos() - sine * margin.sin()
        closer = torch.where(cosine > -margin.cos(), closer, cosine - margin * margin.sin())
        return -(target * (self.scale * closer).log_softmax(1)).sum(1)

    def scores(self, logits: Tensor) -> Tensor:
        """Cosines `(B, K)` to probabilities `(B, K)`, without margin."""
        return (self.scale * masks.wide(logits)).softmax(1)
