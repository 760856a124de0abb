"""Processes, ranks and gathering: the one file that knows `ignite.distributed`.

A run is one process, or several started by `torchrun`, which says so in the environment. Every function here does the
right thing for both.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from typing import Any, TypeVar

import ignite.distributed as idist
import torch
from torch import nn

from soundbench.errors import SoundbenchError

__all__ = [
    "barrier",
    "broadcast",
    "from_main",
    "gather",
    "is_main",
    "join",
    "leave",
    "local_rank",
    "local_world",
    "rank",
    "same_buffers",
    "world",
    "wrap",
]

T = TypeVar("T")

# An engine logs whatever ends it; without a handler that would reach the user beside the one line meant for them.
logging.getLogger("ignite").addHandler(logging.NullHandler())


def join(device: str) -> None:
    """Join the other processes of a `torchrun` start; does nothing where there is one process, or when joined."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1 and idist.backend() is None:
        gpu = device.startswith("cuda") or (device == "auto" and torch.cuda.is_available())
        idist.initialize("nccl" if gpu else "gloo")


def leave() -> None:
    """Leave the group of processes, when joined."""
    if idist.backend() is not None:
        idist.finalize()


def rank() -> int:
    """The number of this process, from 0."""
    return int(idist.get_rank())


def world() -> int:
    """How many processes there are."""
    return int(idist.get_world_size())


def local_rank() -> int:
    """The number of this process on its machine."""
    return int(idist.get_local_rank())


def local_world() -> int:
    """How many processes there are on this machine."""
    return int(idist.get_nproc_per_node())


def is_main() -> bool:
    """Whether this is the process that writes."""
    return rank() == 0


def barrier() -> None:
    """Wait for the others."""
    idist.barrier()


def gather(item: T) -> list[T]:
    """Every process's item, in the order of their ranks, on every process."""
    if world() == 1:
        return [item]
    items: list[Any] = [None] * world()
    torch.distributed.all_gather_object(items, item)
    return items


def broadcast(item: T) -> T:
    """The main process's item, on every process."""
    if world() == 1:
        return item
    items: list[Any] = [item]
    torch.distributed.broadcast_object_list(items, src=0)
    received: T = items[0]
    return received


def from_main(make: Callable[[], T]) -> T:
    """What the main process makes, on every process; what it raises, too, or the others would wait for ever."""
    made: T | SoundbenchError | None = None
    if is_main():
        try:
            made = make()
        except SoundbenchError as error:
            made = error
    received = broadcast(made)
    if isinstance(received, SoundbenchError):
        raise received
    return received  # type: ignore[return-value]


def wrap(module: nn.Module, device: torch.device) -> nn.Module:
    """The module with its gradients averaged over the processes; itself where there is one."""
    if world() == 1:
        return module
    return nn.parallel.DistributedDataParallel(module, device_ids=[device.index] if device.type == "cuda" else None)


def same_buffers(module: nn.Module) -> None:
    """Give every process the main one's buffers: each has moved its batch norm's statistics by its own last step."""
    if world() > 1:
        for buffer in module.buffers():
            torch.distributed.broadcast(buffer, src=0)
