"""Windows of different lengths as one batch."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["RawBatch", "pack"]


class RawBatch(NamedTuple):
    """A batch before it is moved to the device: 16-bit samples `(B, S)` and scales `(B,)`; the rest as in `Batch`.

    All of them are tensors, or all NumPy arrays. Precomputed features are `samples` `(B, T, F)` float32 with scale 1
    and `lengths` in frames.
    """

    samples: Any
    scales: Any
    lengths: Any
    target: Any
    index: Any
    position: Any


def pack(samples: list[NDArray[np.int16]], scales: list[float], index: list[int], classes: int) -> RawBatch:
    """A batch of given windows, padded to the longest, without labels; NumPy arrays."""
    lengths = np.array([len(row) for row in samples], np.int64)
    rows = np.zeros((len(samples), lengths.max()), np.int16)
    for row, values in zip(rows, samples, strict=True):
        row[: len(values)] = values
    target = np.zeros((len(samples), classes), np.float32)
    return RawBatch(rows, np.array(scales, np.float32), lengths, target, np.array(index), np.arange(len(samples)))
