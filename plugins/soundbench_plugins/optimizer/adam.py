"""Adam: Kingma and Ba, "Adam: A Method for Stochastic Optimization", ICLR 2015. PyTorch's, fused.

`decay` is added to the gradient as L2 regularisation; AdamW decouples it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch

__all__ = ["adam"]


def adam(
    groups: Sequence[Mapping[str, Any]],
    *,
    lr: float = 1e-3,
    decay: float = 1e-5,
    betas: list[float] = [0.9, 0.999],  # noqa: B006
    eps: float = 1e-8,
) -> torch.optim.Adam:
    """Adam, with L2 regularisation.

    Args:
        groups: the parameter groups.
        lr: learning rate, for groups that set none.
        decay: weight of the L2 regularisation, for groups that set none.
        betas: share of the running means of gradient and squared gradient that is kept at each step, in [0, 1).
        eps: value that is added to the root of the mean squared gradient.
    """
    for name, value in (("lr", lr), ("decay", decay), ("eps", eps)):
        if not 0.0 <= value < math.inf:
            raise ValueError(f"{name} must be at least 0 and finite, is {value:g}")
    if len(betas) != 2 or not all(0.0 <= beta < 1.0 for beta in betas):
        raise ValueError(f"betas must be two numbers from 0 to below 1, is {betas}")
    return torch.optim.Adam(
        [dict(group) for group in groups], lr=lr, weight_decay=decay, betas=(betas[0], betas[1]), eps=eps, fused=True
    )
