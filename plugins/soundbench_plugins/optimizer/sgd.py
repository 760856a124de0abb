"""Stochastic gradient descent with momentum: PyTorch's, fused.

Nesterov's momentum has the form of Sutskever et al., "On the importance of initialization and momentum in deep
learning", ICML 2013.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch

__all__ = ["sgd"]


def sgd(
    groups: Sequence[Mapping[str, Any]],
    *,
    lr: float = 1e-2,
    decay: float = 1e-4,
    momentum: float = 0.9,
    nesterov: bool = False,
) -> torch.optim.SGD:
    """Stochastic gradient descent with momentum.

    Args:
        groups: the parameter groups.
        lr: learning rate, for groups that set none.
        decay: weight of the L2 regularisation, for groups that set none.
        momentum: share of the previous step that is kept, from 0 to below 1.
        nesterov: whether to use Nesterov's momentum; momentum must not be 0.
    """
    for name, value in (("lr", lr), ("decay", decay)):
        if not 0.0 <= value < math.inf:
            raise ValueError(f"{name} must be at least 0 and finite, is {value:g}")
    if nesterov and not momentum:
        raise ValueError("nesterov must be false if momentum is 0, is true")
    if not 0.0 <= momentum < 1.0:
        raise ValueError(f"momentum must be from 0 to below 1, is {momentum}")
    return torch.optim.SGD(
        [dict(group) for group in groups],
        lr=lr,
        weight_decay=decay,
        momentum=momentum,
        nesterov=nesterov,
        fused=True,
    )
