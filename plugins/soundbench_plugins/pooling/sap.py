"""Self-attentive pooling: a mean over time with learnt weights.

Cai, Chen and Li, "Exploring the Encoding Layer and Loss Function in End-to-End Speaker and Language Recognition
System", Odyssey 2018, section 2.3.

Shapes: `(B, C, T)` to `(B, C)`. Masked; sums are taken in float32 at least. Departs from the paper: each
channel has its own weights, while the paper has one weight per frame.
"""

from __future__ import annotations

from torch import Tensor, nn

from soundbench import masks

__all__ = ["SAP"]


class SAP(nn.Module):
    """Mean over time, weighted by attention.

    Args:
        attention: width of the layer that computes the weights.
    """

    def __init__(self, channels: int, *, attention: int = 128) -> None:
        super().__init__()
        if attention < 1:
            raise ValueError(f"attention must be at least 1, is {attention}")
        self.features = channels
        self.hidden = nn.Conv1d(channels, attention, 1)
        self.score = nn.Conv1d(attention, channels, 1)

    def forward(self, frames: Tensor, lengths: Tensor) -> Tensor:
        """Frames `(B, C, T)` to their weighted means `(B, C)`."""
        weights = masks.softmax(self.score(self.hidden(frames).tanh()), lengths)
        return (weights * masks.apply(masks.wide(frames), lengths)).sum(-1)
