"""Computes the rows of a batch in several threads, each of which computes whole rows by itself.

The threads inside an operation wait for each other at its end, thousands of times a batch. On a core that another
program uses as well, one of them is always late, and the others wait. Threads that share no operation wait once a
batch. `benchmarks/contention.py` measures both.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import TypeVar

import torch
from torch import Tensor

__all__ = ["by_rows", "on_one_core"]

Found = TypeVar("Found")

# With fewer rows for each thread, preparing the operations costs more than the threads save.
_ROWS = 6
# Python prepares the operations of one thread at a time: with more threads, they would wait for that.
_THREADS = 8


def by_rows(compute: Callable[[Tensor, Tensor], Tensor], data: Tensor, lengths: Tensor) -> Tensor:
    """`compute(data, lengths)` without gradients, its rows shared among as many threads as PyTorch would use here.

    Args:
        compute: gives each row `(B, ...)` a result that depends on this row alone; called in several threads.
        data: rows `(B, ...)`.
        lengths: their lengths `(B,)`.
    """
    threads = torch.get_num_threads()
    count = min(len(data) // _ROWS, threads, _THREADS)
    if data.device.type != "cpu" or count < 2:
        with torch.inference_mode():
            return compute(data, lengths)
    parts = zip(data.tensor_split(count), lengths.tensor_split(count), strict=True)
    waiting = [_pool(count, threads // count).submit(_compute, compute, *part) for part in parts]
    found = torch.cat([one.result() for one in waiting])
    torch.set_num_threads(threads)  # the pool's threads, when they begin, set the number for threads to come as well
    return found


def on_one_core(work: Callable[[], Found]) -> Found:
    """`work()`, in a thread whose operations use no other threads: small ones would only wait for them."""
    threads = torch.get_num_threads()
    pool = _pool(1, 1)
    pool.submit(torch.get_num_threads).result()  # the thread begins, and keeps its number
    torch.set_num_threads(threads)
    return pool.submit(work).result()


def _compute(compute: Callable[[Tensor, Tensor], Tensor], data: Tensor, lengths: Tensor) -> Tensor:
    with torch.inference_mode():  # which each thread enters for itself
        return compute(data, lengths)


@cache
def _pool(count: int, threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(count, "rows", _begin, (threads,))


def _begin(threads: int) -> None:
    """Let a thread use so many threads inside an operation; it keeps the number that is set when it first asks."""
    torch.set_num_threads(threads)
    torch.get_num_threads()


if hasattr(os, "register_at_fork"):  # a forked process has none of the pool's threads
    os.register_at_fork(after_in_child=_pool.cache_clear)
