"""Distributed runs: joining processes, ranks, gathering. The only file that uses `ignite.distributed`.

A run is one process, or several started by `--processes`, `torchrun` or SLURM's `srun`, as environment variables say.
Every function here works in both cases.
"""

from __future__ import annotations

import gc
import logging
import os
import socket
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import ignite.distributed as idist
import torch
from torch import nn
from torch.distributed import TCPStore  # type: ignore[attr-defined]
from torch.distributed.rendezvous import register_rendezvous_handler

from soundbench.errors import CallError, LostProcess, SoundbenchError
from soundbench.machine import local_processes, started_by

__all__ = [
    "barrier",
    "broadcast",
    "contact",
    "first_here",
    "from_main",
    "gather",
    "idle",
    "is_main",
    "join",
    "leave",
    "local_rank",
    "local_world",
    "rank",
    "same_buffers",
    "synchronise",
    "world",
    "wrap",
]

T = TypeVar("T")

# An Ignite engine logs the exception that ends it; without a handler the user would see it besides our own message.
logging.getLogger("ignite").addHandler(logging.NullHandler())


# The address that only this machine reaches, its network interface, and the name of the way to meet there.
_HERE, _LOOPBACK = "127.0.0.1", "lo0" if sys.platform == "darwin" else "lo"
_LOCAL = "loopback://"

# How long a process waits for another that is alive: one machine may decode all sound while the others have it cached.
# A process that has ended is noticed at once.
_PATIENCE = timedelta(hours=12)


def join(device: str) -> None:
    """Join the other processes of the run; does nothing for a single process, or if joined already.

    One process that `torchrun` started joins as the only one: what several would do to each other, it does to itself.

    Args:
        device: the requested device; `machine.settle` checks whether it exists.

    Raises:
        CallError: each process needs its own GPU, and there are too few.
        LostProcess: the other processes cannot be reached.
    """
    if started_by() is None or not _alone():
        return
    gpu = device != "cpu" and torch.cuda.is_available()
    if gpu:
        _refuse_shared_gpus(device)
    # torchrun's variables count inside a SLURM job as well; and on CPUs no process needs its own GPU.
    hidden: dict[str, str | None] = {"SLURM_JOB_ID": None} if started_by() == "torchrun" else {}
    if not gpu:
        hidden["CUDA_VISIBLE_DEVICES"] = ""
    how: dict[str, Any] = {"timeout": _PATIENCE}
    if _all_here():
        how["init_method"] = _LOCAL
        for name in ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME"):
            os.environ.setdefault(name, _LOOPBACK)  # for groups of processes that are formed later, too
    with _environment(hidden), contact():
        idist.initialize("nccl" if gpu else "gloo", **how)


def _all_here() -> bool:
    """Whether all processes are on this machine, as `--processes` says, or whoever sets the variables by hand.

    The agent of `torchrun` has a store of its own, which its processes are to use.
    """
    here = os.environ.get("MASTER_ADDR", "").startswith(("127.", "localhost", "::1"))
    return here and "MASTER_PORT" in os.environ and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True"


def _meet(_url: str, *, timeout: timedelta = _PATIENCE, **_: Any) -> Iterator[tuple[TCPStore, int, int]]:
    """Where the processes of one machine meet: torch's store, which listens on this machine's own address only.

    By itself it listens on every address, and whoever reaches it could send the processes what they unpickle.
    """
    rank, world, port = (int(os.environ[name]) for name in ("RANK", "WORLD_SIZE", "MASTER_PORT"))
    listening = None
    if rank == 0:
        try:
            listening = socket.create_server((_HERE, port)).detach()
        except OSError as error:
            raise LostProcess(
                f"the processes cannot meet at {_HERE}:{port}: {(error.strerror or '').lower()}"
            ) from error
    yield TCPStore(_HERE, port, world, rank == 0, timeout, master_listen_fd=listening), rank, world


register_rendezvous_handler(_LOCAL.partition(":")[0], _meet)  # type: ignore[no-untyped-call]


def _refuse_shared_gpus(device: str) -> None:
    """Refuse more processes on this machine than it has GPUs; all of them, if their number is known, so none waits."""
    own, there = int(os.environ.get("LOCAL_RANK", os.environ.get("SLURM_LOCALID", "0"))), torch.cuda.device_count()
    here = max(own + 1, local_processes())
    if here > 1 and ":" in device:
        raise CallError(f"device {device!r} is a single GPU; use 'cuda', which gives each process its own")
    if here > there:
        raise CallError(
            f"process {there + 1} on this machine has no GPU of its own: {there} visible; "
            "start one process per GPU, make all GPUs visible to each process, or use --device cpu"
        )


@contextmanager
def _environment(changed: dict[str, str | None]) -> Iterator[None]:
    """Change environment variables in the body; None removes one."""
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
    """Turn torch's errors about a process that has ended into a `LostProcess`.

    Raises:
        LostProcess: the connection to another process is lost.
    """
    try:
        yield
    except RuntimeError as error:
        if isinstance(error, torch.distributed.DistError) or "gloo" in str(error):
            raise LostProcess(
                "lost the connection to another process: it has ended, or cannot be reached; "
                "see its own output, or the log of its launcher (torchrun, SLURM)"
            ) from error
        raise


def _alone() -> bool:
    """Whether this process has joined no group."""
    return idist.backend() is None


def leave() -> None:
    """Leave the process group, if joined, and end its threads.

    A thread of gloo's that lets go of a tensor while the interpreter ends would abort the process. The threads end with
    the last reference to the group, and the variables of an exception that is under way hold some.
    """
    if _alone():
        return
    # The last reference must be this one: it waits for the threads without Python's lock (GIL), which one that lets go
    # of a tensor needs. A network wrapped for several processes would keep the lock meanwhile, and both would wait.
    group = torch.distributed.group.WORLD
    idist.finalize()
    error = sys.exc_info()[1]
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error = error.__cause__ or error.__context__
    gc.collect()
    del group


def rank() -> int:
    """The rank of this process, from 0."""
    return int(idist.get_rank())


def world() -> int:
    """The number of processes."""
    return int(idist.get_world_size())


def local_rank() -> int:
    """The rank of this process on its machine."""
    return int(idist.get_local_rank())


def local_world() -> int:
    """The number of processes on this machine."""
    return int(idist.get_nproc_per_node())


def idle(count: int, what: str) -> str | None:
    """A line that says that processes have nothing to do, if there are more of them than `count` of `what`."""
    spare = world() > max(count, 1)
    return f"more processes ({world()}) than {what} ({count}): some have nothing to do" if spare else None


def is_main() -> bool:
    """Whether this is the main process, which writes files."""
    return rank() == 0


def barrier() -> None:
    """Wait for all processes."""
    with contact():
        idist.barrier()


def gather(item: T) -> list[T]:
    """The items of all processes, in the order of their ranks, on every process."""
    if _alone():
        return [item]
    items: list[Any] = [None] * world()
    with contact():
        torch.distributed.all_gather_object(items, item)
    return items


def broadcast(item: T) -> T:
    """The main process's item, on every process."""
    if _alone():
        return item
    items: list[Any] = [item]
    with contact():
        torch.distributed.broadcast_object_list(items, src=0)
    received: T = items[0]
    return received


def from_main(make: Callable[[], T]) -> T:
    """The result of `make()` in the main process, on every process; its `SoundbenchError`, too, is raised by all."""
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
    """The result of `make()` in every process; the first process of each machine runs it before the others start.

    For work whose result is shared on disk. An error of a first process is raised by all.
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
    """The module as DistributedDataParallel, with equal weights everywhere; itself for a process that joined none."""
    if _alone():
        return module
    with contact(), warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # newer versions of torch renamed an argument
        wrapped = nn.parallel.DistributedDataParallel(
            module,
            device_ids=[device.index] if device.type == "cuda" else None,
            broadcast_buffers=False,  # `same_buffers` does it where needed, not in every step
            gradient_as_bucket_view=True,
        )
    if device.type == "cpu" and world() > 2:
        # The reducer changes the layout of gradients after the first step, and with three processes or more the sums
        # depend on it: the first step after a resume would differ from that of an uninterrupted run. So do it now.
        wrapped.reducer._push_all_rebuilt_params()
        wrapped.reducer._rebuild_buckets()
    same_buffers(module)
    return wrapped


def synchronise(network: nn.Module, frozen: Sequence[nn.Module] = ()) -> None:
    """Make batch norms compute with the rows of all processes in training; those that are frozen stay as they are.

    No weight or statistic has another name by that. Each process must call each batch norm equally often in a step.
    """
    still = {inner for module in frozen for inner in module.modules()}
    for module in list(network.modules()):
        for name, inner in list(module.named_children()):
            if isinstance(inner, nn.modules.batchnorm._BatchNorm) and inner not in still:
                synchronised = nn.SyncBatchNorm.convert_sync_batchnorm(inner)  # type: ignore[no-untyped-call]
                module.add_module(name, synchronised)


def same_buffers(module: nn.Module) -> None:
    """Copy the main process's buffers to all: their batch norm statistics differ, for each saw its own rows."""
    if not _alone():
        with contact():
            for buffer in module.buffers():
                torch.distributed.broadcast(buffer, src=0)
