"""Arithmetic with lengths: rows padded at the end, where the padding changes nothing.

Shapes: B rows, C channels, T positions in time. `lengths` `(B,)` counts the true positions of each row, at least one.
All of it can be exported and compiled: only then does nothing look at the value of a tensor.
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
    """Which positions are true, bool `(B, size)`."""
    return torch.arange(size, device=lengths.device) < lengths.unsqueeze(1)


def _aligned(lengths: Tensor, like: Tensor) -> Tensor:
    """The mask `(B, 1, ..., T)` that broadcasts against `like` `(B, ..., T)`."""
    return mask(lengths, like.shape[-1]).reshape(like.shape[0], *[1] * (like.dim() - 2), like.shape[-1])


def full(lengths: Tensor, size: int) -> bool:
    """Whether every row is known to be full, so that there is nothing to mask.

    Looked at only where looking costs nothing, on a CPU outside of export and compilation; False elsewhere.
    """
    return not torch.compiler.is_compiling() and lengths.device.type == "cpu" and bool((lengths >= size).all())


def apply(x: Tensor, lengths: Tensor, fill: float = 0.0) -> Tensor:
    """`x` `(B, ..., T)` with zeros, or `fill`, beyond each row's length, whatever stood there (NaN too).

    `x` itself, not a copy, where every row is full.
    """
    return x if full(lengths, x.shape[-1]) else x.masked_fill(~_aligned(lengths, x), fill)


def keep(lengths: Tensor, like: Tensor) -> Tensor | None:
    """A multiplier `(B, 1, ..., T)` of ones and zeros that does what `apply` does to finite values.

    None where every row is `full` and nothing is to be done.

    Args:
        lengths: true positions of each row.
        like: `(B, ..., T)`, whose rank and type the multiplier gets.
    """
    if full(lengths, like.shape[-1]):
        return None
    return _aligned(lengths, like).to(like.dtype)


def count(lengths: Tensor, like: Tensor) -> Tensor:
    """The lengths `(B, 1, ...)` in the type of `like` and one rank below it, to divide sums over time by."""
    return lengths.clamp(min=1).to(like.dtype).reshape(-1, *[1] * (like.dim() - 2))


def wide(x: Tensor) -> Tensor:
    """`x` in float32 at least: what sums over time are taken in, under autocast too."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def mean(x: Tensor, lengths: Tensor) -> Tensor:
    """The mean over the true positions of `x` `(B, ..., T)`, `(B, ...)`, in float32 at least."""
    x = apply(wide(x), lengths)
    return x.sum(-1) / count(lengths, x)


def mean_std(x: Tensor, lengths: Tensor, unbiased: bool = True, eps: float = 1e-10) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation over the true positions of `x` `(B, C, T)`, each `(B, C)`, in float32 at least.

    Args:
        x: what is summed up.
        lengths: true positions of each row.
        unbiased: divide by the length less one (by one where the length is one) rather than by the length.
        eps: the least variance; it keeps the root and its gradient finite on a single position or a constant row.
    """
    variance, average = variance_mean(x, lengths, unbiased)
    return average, variance.clamp(min=eps).sqrt()


def variance_mean(x: Tensor, lengths: Tensor, unbiased: bool = True) -> tuple[Tensor, Tensor]:
    """Variance and mean over the true positions of `x` `(B, C, T)`, each `(B, C)`, in float32 at least."""
    x = wide(x)
    average = mean(x, lengths)
    squares = apply(x - average.unsqueeze(-1), lengths).square().sum(-1)
    return squares / count((lengths - 1) if unbiased else lengths, x), average


def softmax(logits: Tensor, lengths: Tensor) -> Tensor:
    """Weights `(B, C, T)` that add up to one over the true positions and are zero beyond, in float32 at least."""
    return apply(wide(logits), lengths.clamp(min=1), float("-inf")).softmax(-1)


def extend(x: Tensor, lengths: Tensor, shortest: int) -> tuple[Tensor, Tensor]:
    """Rows of at least `shortest` positions: `x` `(B, ..., T)` lengthened with zeros, and the lengths clamped to it."""
    x = apply(x, lengths)
    if torch.compiler.is_compiling() or x.shape[-1] < shortest:
        x = F.pad(x, (0, torch.sym_max(shortest - x.shape[-1], 0)))  # type: ignore[no-untyped-call]
    return x, lengths.clamp(min=shortest)


def strided(lengths: Tensor, stride: int) -> Tensor:
    """The lengths after a step of `stride` that keeps every begun position: `ceil(length / stride)`."""
    return (lengths + stride - 1) // stride
