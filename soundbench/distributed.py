"""Processes, ranks and gathering: the one file that knows `ignite.distributed`.

A run is one process, or several started by `--processes`, `torchrun` or SLURM's `srun`, which say so in the
environment. Every function here does the right thing for both.
"""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import ignite.distributed as idist
import torch
from torch import nn

from soundbench.errors import CallError, LostProcess, SoundbenchError
from soundbench.machine import started_by

__all__ = [
    "barrier",
    "broadcast",
    "contact",
    "first_here",
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


# How long one waits for another that is alive but has not come as far: one machine may read all sound anew while the
# others have it. One that is gone is noticed at once.
_PATIENCE = timedelta(hours=12)


def join(device: str) -> None:
    """Join the other processes that were started with this one; does nothing where there are none, or when joined.

    Args:
        device: that the work is asked to be done on; whether it is there is for `machine.settle` to say.

    Raises:
        CallError: a GPU for each process was asked for, and there are too few.
        LostProcess: the others cannot be reached.
    """
    if _expected() == 1 or idist.backend() is not None:
        return
    gpu = device != "cpu" and torch.cuda.is_available()
    if gpu:
        _refuse_shared_gpus(device)
    # What torchrun has said counts inside a SLURM job as well; and who computes on CPUs needs no GPU for each process.
    hidden: dict[str, str | None] = {"SLURM_JOB_ID": None} if started_by() == "torchrun" else {}
    if not gpu:
        hidden["CUDA_VISIBLE_DEVICES"] = ""
    with _environment(hidden), contact():
        idist.initialize("nccl" if gpu else "gloo", timeout=_PATIENCE)


def _expected() -> int:
    """How many processes were started, as the environment says."""
    said_in = {"torchrun": "WORLD_SIZE", "srun": "SLURM_STEP_NUM_TASKS"}
    return int(os.environ[said_in[starter]]) if (starter := started_by()) else 1


def _refuse_shared_gpus(device: str) -> None:
    own, there = int(os.environ.get("LOCAL_RANK", os.environ.get("SLURM_LOCALID", "0"))), torch.cuda.device_count()
    if own and ":" in device:
        raise CallError(f"train.device: {device!r} is one GPU; the processes of a machine take one each with 'cuda'")
    if own >= there:
        raise CallError(
            f"process {own + 1} of this machine finds no GPU of its own: it sees {there}; "
            "start as many processes as there are, let each see all of them, or use --device cpu"
        )


@contextmanager
def _environment(changed: dict[str, str | None]) -> Iterator[None]:
    """While variables of the environment are others, or (None) not there."""
    before = {name: os.environ.get(name) for name in changed}
    try:
        _set(changed)
        yield
    finally:
        _set(before)


def _set(variables: dict[str, str | None]) -> None:
    for name, value in variables.items():
        os.environ.pop(name, None)
        if value is not None:
            os.environ[name] = value


@contextmanager
def contact() -> Iterator[None]:
    """Say in one line what torch raises when another process is gone.

    Raises:
        LostProcess: contact to another process is lost.
    """
    try:
        yield
    except RuntimeError as error:
        if isinstance(error, torch.distributed.DistError) or "gloo" in str(error):
            raise LostProcess(
                "contact to another process is lost: it has ended, or cannot be reached; if it did not say why, "
                "its machine or its starter (torchrun, SLURM) may"
            ) from error
        raise


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
    with contact():
        idist.barrier()


def gather(item: T) -> list[T]:
    """Every process's item, in the order of their ranks, on every process."""
    if world() == 1:
        return [item]
    items: list[Any] = [None] * world()
    with contact():
        torch.distributed.all_gather_object(items, item)
    return items


def broadcast(item: T) -> T:
    """The main process's item, on every process."""
    if world() == 1:
        return item
    items: list[Any] = [item]
    with contact():
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


def first_here(make: Callable[[], T]) -> T:
    """What every process makes once the first of its machine has; what is raised there is raised by all.

    So that work whose result they share is not begun by all of them at once.
    """
    made: T | None = None
    failed: SoundbenchError | None = None
    if local_rank() == 0:
        try:
            made = make()
        except SoundbenchError as error:
            failed = error
    for failure in gather(failed):
        if failure is not None:
            raise failure
    return make() if local_rank() else made  # type: ignore[return-value]


def wrap(module: nn.Module, device: torch.device) -> nn.Module:
    """The module with its gradients averaged over the processes, all beginning alike; itself where there is one."""
    if world() == 1:
        return module
    with contact(), warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # newer versions of torch have another name for it
        wrapped = nn.parallel.DistributedDataParallel(
            module,
            device_ids=[device.index] if device.type == "cuda" else None,
            broadcast_buffers=False,  # `same_buffers` does so where it matters, and not in every step
            gradient_as_bucket_view=True,
        )
    if device.type == "cpu" and world() > 2:
        # Gradients are laid out anew after a first step, and what three add up depends on where it lies: a step that is
        # the first one after a resume would not be the step of a run that was never stopped. So now, before any.
        wrapped.reducer._push_all_rebuilt_params()
        wrapped.reducer._rebuild_buckets()
    same_buffers(module)
    return wrapped


def same_buffers(module: nn.Module) -> None:
    """Give every process the main one's buffers: each has moved its batch norm's statistics by its own last step."""
    if world() > 1:
        with contact():
            for buffer in module.buffers():
                torch.distributed.broadcast(buffer, src=0)
