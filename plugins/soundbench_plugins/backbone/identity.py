"""Identity: the features unchanged, for a pretrained encoder that needs only a pooling and a head.

Shapes: `(B, F, T)` to `(B, F, T)`, zero beyond the lengths. No parameters. Its default pooling is attentive statistics
pooling, whose attention is then the only trained part between the encoder and the head.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Tensor, nn

from soundbench import masks

__all__ = ["Identity"]


class Identity(nn.Module):
    """The features unchanged, for a pretrained encoder with a pooling and a head."""

    default_pooling: ClassVar[Mapping[str, Any]] = {"use": "asp"}
    default_head: ClassVar[Mapping[str, Any]] = {"embedding": 192}

    def __init__(self, bands: int) -> None:
        super().__init__()
        self.channels = bands

    def forward(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Features `(B, F, T)` and their lengths, the same."""
        return masks.apply(features, lengths), lengths
