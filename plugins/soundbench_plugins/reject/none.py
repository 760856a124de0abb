"""The same score for any sound, so that none but digital silence is rejected.

Shapes: logits `(B, K)` to `(B,)`.
"""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn

__all__ = ["NoReject"]


class NoReject(nn.Module):
    """The same score for any sound: nothing but digital silence is rejected."""

    embeddings: ClassVar[bool] = False

    def __init__(self, classes: int) -> None:
        super().__init__()

    def forward(self, logits: Tensor, embeddings: Tensor | None = None) -> Tensor:
        """Logits `(B, K)` to zeros `(B,)`."""
        return logits.new_zeros(logits.shape[0])
