"""What the machine can do, and what `auto` therefore means: settled once at the start of a run, and recorded.

The rules follow measurements kept in `benchmarks/results/`.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Literal

import attrs
import torch
from torch import nn

from soundbench import heap
from soundbench.cores import cores
from soundbench.errors import CallError

__all__ = ["Machine", "settle"]

Precision = Literal["fp32", "bf16", "fp16"]

_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


@attrs.frozen
class Machine:
    """A device and how it is used.

    Attributes:
        device: where tensors live.
        precision: of the network's forward pass in training; judging is always float32.
        threads: of this process, for computing on a CPU.
        channels_last: whether images are stored with their channels last.
    """

    device: torch.device
    precision: Precision
    threads: int
    channels_last: bool

    def autocast(self, precision: Precision | None = None) -> AbstractContextManager[object]:
        """The context in which a forward pass runs in this machine's precision, or in another."""
        precision = precision or self.precision
        if precision == "fp32":
            return nullcontext()
        return torch.autocast(self.device.type, dtype=_DTYPES[precision])

    def place(self, module: nn.Module) -> nn.Module:
        """The module on the device, images channels last where that was settled."""
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
    """Settle what `auto` means here; set this process's number of threads, and on a CPU how it keeps memory.

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
    torch.set_num_threads(count)
    if where.type == "cpu":
        heap.keep()
    chosen = _precision(where) if precision == "auto" else precision
    if chosen == "fp16" and where.type == "cpu":
        raise CallError("train.precision: fp16 needs a GPU; on a CPU use 'bf16' or 'fp32'")
    last = fits or where.type != "cpu" if channels_last == "auto" else channels_last
    return Machine(where, chosen, count, last)


def _device(name: str, local_rank: int) -> torch.device:
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
        torch.cuda.set_device(device)
        torch.backends.cudnn.allow_tf32 = False  # float32 is float32: a score must not depend on the device
    return device


def _precision(device: torch.device) -> Precision:
    """bf16 where the hardware multiplies it faster than float32, fp16 on older GPUs, float32 elsewhere."""
    if device.type == "cuda":
        return "bf16" if torch.cuda.get_device_capability(device) >= (8, 0) else "fp16"
    return "bf16" if _has_amx() else "fp32"


def _has_amx() -> bool:
    """Whether the processor has matrix units for bf16; without them bf16 was measured slower than float32."""
    probe = getattr(torch.cpu, "_is_amx_tile_supported", None)
    return bool(probe and probe())
