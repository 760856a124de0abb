"""Constant learning rates: each group's own, from the first step to the last."""

from __future__ import annotations

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

__all__ = ["constant"]


def constant(optimizer: Optimizer, steps: int, steps_per_epoch: int) -> LambdaLR:
    """The same learning rate at every step."""
    return LambdaLR(optimizer, lambda step: 1.0)
