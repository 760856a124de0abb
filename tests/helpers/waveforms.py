"""Batches of waveforms, as augmentations are given them."""

from __future__ import annotations

import torch

from soundbench.contracts import Batch

__all__ = ["counting", "padded", "waveforms"]


def waveforms(data: torch.Tensor, lengths: list[int] | None = None, first: int = 0) -> Batch:
    """Rows `(B, S)` of two classes at positions from `first` on; whatever is beyond their lengths stays there."""
    index = torch.arange(first, first + len(data))
    whole = torch.tensor(lengths) if lengths else torch.full((len(data),), data.shape[1])
    return Batch(data=data, lengths=whole, target=torch.zeros(len(data), 2), index=index, position=index)


def padded(data: torch.Tensor, lengths: list[int] | None = None, first: int = 0) -> Batch:
    """The same with zeros beyond the lengths, written into `data`."""
    batch = waveforms(data, lengths, first)
    for row, length in zip(data, batch.lengths, strict=True):
        row[length:] = 0.0
    return batch


def counting(rows: int, samples: int) -> torch.Tensor:
    """Rows of 1, 2, 3, ..., so that a sample says where it was."""
    return torch.arange(1.0, samples + 1).repeat(rows, 1)
