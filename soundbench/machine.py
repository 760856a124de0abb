"""What the machine can do, and what `auto` therefore means: settled once at the start of a run, and recorded.

The rules follow measurements kept in `benchmarks/results/`. Importing this imports no torch: what only counts cores, or
asks who has started this process, does not wait for it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Literal

import attrs

from soundbench.errors import CallError

if TYPE_CHECKING:
    import torch
    from torch import nn

__all__ = ["Machine", "cores", "settle", "started_by"]

Precision = Literal["fp32", "bf16", "fp16"]


def cores() -> int:
    """Of the machine, those that this process is not kept off (`taskset`, SLURM, containers' sets of CPUs)."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def started_by() -> str | None:
    """What has started this process as one of several, by what it has put into the environment; None for nobody."""
    if "WORLD_SIZE" in os.environ:  # a world of one is nobody's, as torchrun or a container platform may have said
        return "torchrun" if int(os.environ["WORLD_SIZE"]) > 1 else None
    # Of the job step, not of the job: a program in a batch script is one, however many tasks the job may have.
    return "srun" if int(os.environ.get("SLURM_STEP_NUM_TASKS", "1")) > 1 else None


@attrs.frozen
class Machine:
    """A device and how it is used.

    Attributes:
        device: where tensors live.
        precision: of the network's forward pass in training; scoring is always float32.
        threads: of this process, for computing on a CPU.
        channels_last: whether images are stored with their channels last.
    """

    device: torch.device
    precision: Precision
    threads: int
    channels_last: bool

    def use(self) -> None:
        """Compute with that many threads on that device from now on; for who owns the process, as a run does."""
        import torch

        torch.set_num_threads(self.threads)
        if self.device.type == "cuda":
            torch.cuda.set_device(self.device)
            torch.backends.cudnn.allow_tf32 = False  # float32 is float32: a run must not depend on the device

    @contextmanager
    def exact(self) -> Iterator[None]:
        """While float32 is float32 on a GPU too: a score must not depend on the device."""
        import torch

        cudnn = torch.backends.cudnn
        if self.device.type != "cuda" or not cudnn.allow_tf32:
            yield
            return
        cudnn.allow_tf32 = False
        try:
            yield
        finally:
            cudnn.allow_tf32 = True

    def autocast(self) -> AbstractContextManager[object]:
        """The context in which a forward pass of training runs in this machine's precision."""
        import torch

        if self.precision == "fp32":
            return nullcontext()
        return torch.autocast(self.device.type, dtype={"bf16": torch.bfloat16, "fp16": torch.float16}[self.precision])

    def place(self, module: nn.Module) -> nn.Module:
        """The module on the device, images channels last where that was settled."""
        import torch

        module = module.to(self.device)
        return module.to(memory_format=torch.channels_last) if self.channels_last else module  # type: ignore[call-overload]


def settle(
    device: str = "auto",
    precision: Literal["auto"] | Precision = "auto",
    threads: int | Literal["auto"] = "auto",
    channels_last: bool | Literal["auto"] = "auto",
    workers: int = 0,
    local_rank: int = 0,
    local_world: int = 1,
    fits: bool = True,
) -> Machine:
    """Settle what `auto` means here; nothing of the process is changed.

    Several processes of a machine share its cores: threads that were settled for fewer are cut to a process's share.

    Args:
        device: such as `cuda:1`.
        precision: of training.
        threads: of this process.
        channels_last: how images are stored.
        workers: that load for this process.
        local_rank: which of the machine's processes this is.
        local_world: how many there are.
        fits: whether the backbone is for its images to be channels last on a CPU; its attribute `channels_last`.

    Raises:
        CallError: a device that is not there, or a precision that it does not have.
    """
    where = _device(device, local_rank)
    share = max(1, cores() // local_world - workers)
    count = share if threads == "auto" else threads if local_world == 1 else min(threads, share)
    chosen = _precision(where) if precision == "auto" else precision
    if chosen == "fp16" and where.type == "cpu":
        raise CallError("train.precision: fp16 needs a GPU; on a CPU use 'bf16' or 'fp32'")
    last = fits or where.type != "cpu" if channels_last == "auto" else channels_last
    return Machine(where, chosen, count, last)


def _device(name: str, local_rank: int) -> torch.device:
    import torch

    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        raise CallError(f"device {name!r} is not known; use 'auto', 'cpu', 'cuda' or 'cuda:N'") from None
    if device.type not in {"cpu", "cuda"}:
        raise CallError(f"device {name!r} is not supported; use 'auto', 'cpu', 'cuda' or 'cuda:N'")
    if device.type == "cuda":
        if not torch.cuda.is_available():
            raise CallError(f"device {name!r} was asked for, but torch sees no CUDA device; use 'auto' or 'cpu'")
        device = torch.device("cuda", local_rank if device.index is None else device.index)
        if device.index >= torch.cuda.device_count():
            raise CallError(f"device {name!r} was asked for, but there are {torch.cuda.device_count()} CUDA devices")
    return device


def _precision(device: torch.device) -> Precision:
    """bf16 where the hardware multiplies it faster than float32, fp16 on older GPUs, float32 elsewhere."""
    import torch

    if device.type == "cuda":
        return "bf16" if torch.cuda.get_device_capability(device) >= (8, 0) else "fp16"
    # Without matrix units for bf16 it was measured slower than float32.
    matrix_units = getattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    return "bf16" if matrix_units() else "fp32"
