"""Which rows of a batch an augmentation changes; shared by those that compute with some of the rows."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["rows_where"]


def rows_where(changed: Tensor, device: torch.device) -> Tensor:
    """The rows where a mask `(B,)` holds, as an index `(N,)` on the device of a batch.

    Args:
        changed: on the CPU, drawn by `Batch.host_position`: how many rows there are is then known without waiting for
            the device, and so few numbers are copied without waiting, too.
        device: that of the batch.
    """
    return torch.nonzero(changed).squeeze(1).to(device, non_blocking=True)
