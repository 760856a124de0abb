"""No calibration: scores are those of the loss.

Shapes: logits `(B, K)` to the same logits.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from soundbench.contracts import HeldOut

__all__ = ["NoCalibration"]


class NoCalibration(nn.Module):
    """Scores as they are."""

    def __init__(self, classes: int) -> None:
        super().__init__()

    def fit(self, held_out: HeldOut) -> Mapping[str, Any]:
        """Nothing is fitted."""
        return {}

    def forward(self, logits: Tensor) -> Tensor:
        """Logits `(B, K)`, unchanged."""
        return logits
