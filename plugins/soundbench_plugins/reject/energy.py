"""Energy: the logarithm of the sum of the exponentials of the logits, which sound of no class leaves low.

Liu, Wang, Owens and Li, "Energy-based Out-of-distribution Detection", NeurIPS 2020, section 3.1: the negative energy
`T * log sum_c exp(f_c / T)`. The paper's fine-tuning with other data is left out.

Shapes: logits `(B, K)` to `(B,)`. Computed in float32 at least.
"""

from __future__ import annotations

import math
from typing import ClassVar

from torch import Tensor, nn

from soundbench import masks

__all__ = ["Energy"]


class Energy(nn.Module):
    """The negative energy of the logits (Liu et al., 2020).

    Args:
        temperature: the paper's T; 1 in its experiments.
    """

    embeddings: ClassVar[bool] = False

    def __init__(self, classes: int, *, temperature: float = 1.0) -> None:
        super().__init__()
        if not 0.0 < temperature < math.inf:
            raise ValueError(f"temperature must be above 0, and finite, is {temperature}")
        self.temperature = temperature

    def forward(self, logits: Tensor, embeddings: Tensor | None = None) -> Tensor:
        """Logits `(B, K)` to reject scores `(B,)`."""
        return self.temperature * (masks.wide(logits) / self.temperature).logsumexp(1)
