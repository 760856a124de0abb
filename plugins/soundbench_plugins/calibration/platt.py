"""Platt scaling: a slope and an offset for the logits of each class.

Platt, "Probabilistic Outputs for Support Vector Machines", 1999, section 2.1, with its targets: of n clips that have a
class, each counts as (n + 1) / (n + 2) instead of 1, and of m that have not, as 1 / (m + 2) instead of 0, so that a
class that is separated without an error gets a finite slope. Slopes are above 0: the order of clips stays. Here, they
apply to the logits of windows, and the mean over a clip's windows is fitted. Where a clip has one label, targets are
the labels themselves, and this is the vector scaling of Guo et al., "On Calibration of Modern Neural Networks", ICML
2017, section 4.2. A class that no clip has, or all have, keeps its logits.

Shapes: logits `(B, K)` to `(B, K)`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from soundbench.contracts import HeldOut

__all__ = ["Platt"]

_STEPS = 200


class Platt(nn.Module):
    """A slope and an offset for each class, fitted by log loss.

    Args:
        slopes: what the logits of each class are multiplied by, above 0; fitted after training if left out.
        offsets: what is added then; fitted after training if left out.
    """

    def __init__(self, classes: int, *, slopes: list[float] | None = None, offsets: list[float] | None = None) -> None:
        super().__init__()
        if (slopes is None) != (offsets is None):
            raise ValueError("slopes must be given with offsets, or both be left out")
        for name, values in (("slopes", slopes), ("offsets", offsets)):
            if values is not None and len(values) != classes:
                raise ValueError(f"{name} must have {classes} values, one per class, has {len(values)}")
            if not all(map(math.isfinite, values or [])):
                raise ValueError(f"{name} must be finite, is {values}")
        if not all(slope > 0 for slope in slopes or []):
            raise ValueError(f"slopes must be above 0, is {slopes}")
        self.slopes, self.offsets = slopes, offsets

    def fit(self, held_out: HeldOut) -> Mapping[str, Any]:
        """The slopes and offsets with the least log loss, found by L-BFGS from slopes of 1."""
        if self.slopes is not None:
            return {}
        target = _smoothed(held_out.target) if held_out.multilabel else held_out.target
        clips = held_out.target.sum(0)
        known = (clips > 0) & (clips < len(held_out.target))
        classes = held_out.logits.shape[1]
        exponents, offsets = (torch.zeros(classes, dtype=torch.float64, requires_grad=True) for _ in range(2))
        optimizer = torch.optim.LBFGS([exponents, offsets], max_iter=_STEPS, line_search_fn="strong_wolfe")

        def fitted() -> tuple[Tensor, Tensor]:
            return torch.where(known, exponents, 0.0).exp(), torch.where(known, offsets, 0.0)

        def step() -> float:
            optimizer.zero_grad()
            slopes, shifts = fitted()
            # Of the sum: the gradient of one class among many would be small in a mean.
            loss = held_out.log_loss(slopes * held_out.logits + shifts, target) * target.numel()
            loss.backward()  # type: ignore[no-untyped-call]
            return loss.item()

        optimizer.step(step)  # type: ignore[no-untyped-call]
        slopes, shifts = fitted()
        return {"slopes": slopes.tolist(), "offsets": shifts.tolist()}

    def forward(self, logits: Tensor) -> Tensor:
        """Logits `(B, K)`, each class by its slope and offset."""
        if self.slopes is None or self.offsets is None:
            return logits
        return logits * logits.new_tensor(self.slopes) + logits.new_tensor(self.offsets)


def _smoothed(target: Tensor) -> Tensor:
    """Platt's targets of labels `(N, K)`."""
    positive = target.sum(0)
    negative = len(target) - positive
    return torch.where(target > 0, (positive + 1) / (positive + 2), 1 / (negative + 2))
