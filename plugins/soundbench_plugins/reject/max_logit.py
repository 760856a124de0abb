"""The largest logit, which sound of no class leaves low.

Hendrycks, Basart, Mazeika, Zou, Kwon, Mostajabi, Steinhardt and Song, "Scaling Out-of-Distribution Detection for
Real-World Settings", ICML 2022, section 4: the maximum logit, which does not depend on how many classes share the rest,
as the largest probability does.

Shapes: logits `(B, K)` to `(B,)`. Computed in float32 at least.
"""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn

from soundbench import masks

__all__ = ["MaxLogit"]


class MaxLogit(nn.Module):
    """The largest logit (Hendrycks et al., 2022)."""

    embeddings: ClassVar[bool] = False

    def __init__(self, classes: int) -> None:
        super().__init__()

    def forward(self, logits: Tensor, embeddings: Tensor | None = None) -> Tensor:
        """Logits `(B, K)` to reject scores `(B,)`."""
        return masks.wide(logits).amax(1)
