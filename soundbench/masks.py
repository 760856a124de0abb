"""Arithmetic on padded rows: means, deviations and softmax over the valid positions of each row.

Shapes: B rows, C channels, T positions in time. `lengths` `(B,)` counts the valid positions of each row, at least one.
Everything works with `torch.export` and `torch.compile`; the values of tensors are then not inspected.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = [
    "apply",
    "count",
    "extend",
    "full",
    "keep",
    "mask",
    "mean",
    "mean_std",
    "softmax",
    "strided",
    "variance_mean",
    "wide",
]


def mask(lengths: Tensor, size: int) -> Tensor:
    """Which positions are valid, bool `(B, size)`."""
    return torch.arange(size, device=lengths.device) < lengths.unsqueeze(1)


def _aligned(lengths: Tensor, like: Tensor) -> Tensor:
    """The mask `(B, 1, ..., T)` that broadcasts against `like` `(B, ..., T)`."""
    return mask(lengths, like.shape[-1]).reshape(like.shape[0], *[1] * (like.dim() - 2), like.shape[-1])


def full(lengths: Tensor, size: int) -> bool:
    """Whether every row is known to be full, so that no masking is needed.

    Checked only where that is cheap, on a CPU and outside of export and compilation; False elsewhere.
    """
    return not torch.compiler.is_compiling() and lengths.device.type == "cpu" and bool((lengths >= size).all())


def apply(x: Tensor, lengths: Tensor, fill: float = 0.0) -> Tensor:
    """`x` `(B, ..., T)` with `fill` after each row's length, replacing any value there, NaN included.

    Returns `x` itself, not a copy, if every row is full.
    """
    return x if full(lengths, x.shape[-1]) else x.masked_fill(~_aligned(lengths, x), fill)


def keep(lengths: Tensor, like: Tensor) -> Tensor | None:
    """A factor `(B, 1, ..., T)` of ones and zeros that has the effect of `apply` on finite values.

    None if every row is `full`.

    Args:
        lengths: valid positions of each row.
        like: `(B, ..., T)`; the factor has its rank and type.
    """
    if full(lengths, like.shape[-1]):
        return None
    return _aligned(lengths, like).to(like.dtype)


def count(lengths: Tensor, like: Tensor) -> Tensor:
    """The lengths `(B, 1, ...)` as the divisor of sums over time: in the type of `like`, with one dimension less."""
    return lengths.clamp(min=1).to(like.dtype).reshape(-1, *[1] * (like.dim() - 2))


def wide(x: Tensor) -> Tensor:
    """`x` in float32 at least, for sums over time, under autocast too."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def mean(x: Tensor, lengths: Tensor) -> Tensor:
    """The mean over the valid positions of `x` `(B, ..., T)`, `(B, ...)`, in float32 at least."""
    x = apply(wide(x), lengths)
    return x.sum(-1) / count(lengths, x)


def mean_std(x: Tensor, lengths: Tensor, unbiased: bool = True, eps: float = 1e-10) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation over the valid positions of `x` `(B, C, T)`, each `(B, C)`, in float32 at least.

    Args:
        x: the values.
        lengths: valid positions of each row.
        unbiased: divide by length - 1 (by 1 if the length is 1) instead of the length.
        eps: the minimum variance; it keeps the root and its gradient finite for a single position or a constant row.
    """
    variance, average = variance_mean(x, lengths, unbiased)
    return average, variance.clamp(min=eps).sqrt()


def variance_mean(x: Tensor, lengths: Tensor, unbiased: bool = True) -> tuple[Tensor, Tensor]:
    """Variance and mean over the valid positions of `x` `(B, C, T)`, each `(B, C)`, in float32 at least."""
    x = wide(x)
    average = mean(x, lengths)
    squares = apply(x - average.unsqueeze(-1), lengths).square().sum(-1)
    return squares / count((lengths - 1) if unbiased else lengths, x), average


def softmax(logits: Tensor, lengths: Tensor) -> Tensor:
    """Weights `(B, C, T)` that sum to one over the valid positions and are zero after them, in float32 at least."""
    return apply(wide(logits), lengths.clamp(min=1), float("-inf")).softmax(-1)


def extend(x: Tensor, lengths: Tensor, shortest: int) -> tuple[Tensor, Tensor]:
    """Pad `x` `(B, ..., T)` with zeros to at least `shortest` positions, and clamp the lengths to that minimum."""
    x = apply(x, lengths)
    if torch.compiler.is_compiling() or x.shape[-1] < shortest:
        x = F.pad(x, (0, torch.sym_max(shortest - x.shape[-1], 0)))  # type: ignore[no-untyped-call]
    return x, lengths.clamp(min=shortest)


def strided(lengths: Tensor, stride: int) -> Tensor:
    """The lengths after downsampling by `stride`, rounded up: `ceil(length / stride)`."""
    return (lengths + stride - 1) // stride
