"""Temperature scaling: all logits are divided by one number, which leaves the order of the classes as it is.

Guo et al., "On Calibration of Modern Neural Networks", ICML 2017, section 4.2. The paper's clips are one window each;
here the temperature divides the logits of windows, and is the one at which the mean over a clip's windows has the least
log loss. It is looked for on a logarithmic grid from 0.1 to 10, then by golden sections between the neighbours of the
best (Kiefer, "Sequential Minimax Search for a Maximum", 1953). Where all of N clips are right, no temperature is low
enough; the labels then count as (N + 1) / (N + 2) instead of 1, as for Platt ("Probabilistic Outputs for Support Vector
Machines", 1999, section 2.1), so that no score claims more than N clips can show.

Shapes: logits `(B, K)` to `(B, K)`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from soundbench.contracts import HeldOut

__all__ = ["Temperature"]

_LEAST, _MOST = 0.1, 10.0
_GRID = 40
_GOLDEN = (math.sqrt(5) - 1) / 2
_PRECISION = 1e-6


class Temperature(nn.Module):
    """One temperature for all classes, fitted by log loss.

    Args:
        temperature: what logits are divided by, above 0; fitted after training if left out.
    """

    def __init__(self, classes: int, *, temperature: float | None = None) -> None:
        super().__init__()
        if temperature is not None and not 0.0 < temperature < math.inf:
            raise ValueError(f"temperature must be above 0, and finite, is {temperature}")
        self.temperature = temperature

    def fit(self, held_out: HeldOut) -> Mapping[str, Any]:
        """The temperature with the least log loss."""
        if self.temperature is not None:
            return {}

        target = _target(held_out)

        def loss(exponent: float) -> float:
            return float(held_out.log_loss(held_out.logits / math.exp(exponent), target))

        return {"temperature": math.exp(_minimum(loss, math.log(_LEAST), math.log(_MOST)))}

    def forward(self, logits: Tensor) -> Tensor:
        """Logits `(B, K)`, divided by the temperature."""
        return logits if self.temperature is None else logits / self.temperature


def _target(held_out: HeldOut) -> Tensor:
    """The labels; Platt's targets where each clip has one, and all are right."""
    target = held_out.target
    right = held_out.clip_scores(held_out.logits).argmax(1) == target.argmax(1)
    if held_out.multilabel or not bool(right.all()):
        return target
    clips, classes = target.shape
    return torch.where(target > 0, (clips + 1) / (clips + 2), 1 / (clips + 2) / max(classes - 1, 1))


def _minimum(function: Callable[[float], float], low: float, high: float) -> float:
    """Where a function is least: at the best of a grid, and by golden sections between its neighbours."""
    grid = [low + (high - low) * number / _GRID for number in range(_GRID + 1)]
    best = min(range(len(grid)), key=lambda number: function(grid[number]))
    low, high = grid[max(best - 1, 0)], grid[min(best + 1, _GRID)]
    left, right = high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)
    at_left, at_right = function(left), function(right)
    while high - low > _PRECISION:
        if at_left <= at_right:
            high, right, at_right = right, left, at_left
            left = high - _GOLDEN * (high - low)
            at_left = function(left)
        else:
            low, left, at_left = left, right, at_right
            right = low + _GOLDEN * (high - low)
            at_right = function(right)
    return (low + high) / 2
