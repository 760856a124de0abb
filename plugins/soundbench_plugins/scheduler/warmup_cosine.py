"""A linear warm-up, then half a cosine down to a floor.

Loshchilov and Hutter, "SGDR: Stochastic Gradient Descent with Warm Restarts", ICLR 2017, equation 5, without restarts;
the warm-up is Goyal et al., "Accurate, Large Minibatch SGD", arXiv:1706.02677, section 2.2.

Step s (from 0) of the W warm-up steps uses (s + 1) / W of each group's learning rate, so that the first is above 0.
A warm-up longer than the run ends with it, below the peak.
"""

from __future__ import annotations

import math

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

__all__ = ["warmup_cosine"]


def warmup_cosine(
    optimizer: Optimizer, steps: int, steps_per_epoch: int, *, warmup: float = 1.0, floor: float = 0.01
) -> LambdaLR:
    """Linear warm-up, then a cosine down to a floor.

    Args:
        optimizer: the optimizer whose learning rates are scaled.
        steps: number of steps of the whole run.
        steps_per_epoch: number of steps of one epoch.
        warmup: length of the warm-up in epochs; may be a fraction.
        floor: learning rate at the end of the run, as a share of each group's own.
    """
    if warmup < 0.0 or not math.isfinite(warmup):
        raise ValueError(f"warmup must be at least 0 epochs, and finite, is {warmup}")
    if not 0.0 <= floor <= 1.0:
        raise ValueError(f"floor must be from 0 to 1, is {floor}")
    rising = round(warmup * steps_per_epoch)

    def factor(step: int) -> float:
        if step < rising:
            return (step + 1) / rising
        progress = min((step - rising) / max(steps - rising, 1), 1.0)
        return floor + (1.0 - floor) * 0.5 * (1.0 + math.cos(math.pi * progress))

    return LambdaLR(optimizer, factor)
