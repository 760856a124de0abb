"""Devices, precision, threads and memory layout: what `auto` means on this machine, settled when a run starts.

What the system says of its processor is asked here alone; where it says nothing, there is a plain answer. The rules
follow the measurements in `benchmarks/results/`. Importing this module does not import torch, so that counting cores is
fast.
"""

from __future__ import annotations

import math
import os
import platform
import warnings
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Literal

import attrs

from soundbench.errors import CallError

if TYPE_CHECKING:
    import torch
    from torch import nn

__all__ = [
    "Machine",
    "allowed_cores",
    "auto_threads",
    "cores",
    "local_processes",
    "processor",
    "settle",
    "started_by",
]

Precision = Literal["fp32", "bf16", "fp16"]


def cores() -> int:
    """The number of CPU cores that this process may use, at least 1.

    `taskset`, SLURM and CPU sets of containers limit it, and so does a container's quota of processor time: with a
    quota of 1.5 cores, two threads would be stopped together for a quarter of the time.
    """
    return max(1, int(min(allowed_cores(), _quota())))


def allowed_cores() -> int:
    """The number of CPU cores that this process is not kept off, whatever a container's quota is."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _quota(system: Path = Path("/")) -> float:
    """The cores' worth of processor time that the process's control groups (version 1 or 2) allow; infinity for all.

    A container may see its own group at the root of the file system, under a path that the host gave it: the groups
    above are looked at too, which counts anyway, since each limits those in it.
    """
    least = math.inf
    with suppress(OSError):
        for line in (system / "proc/self/cgroup").read_text().splitlines():
            number, controllers, path = line.split(":", 2)
            if number == "0":
                mounts, names = [""], ["cpu.max"]
            elif "cpu" in controllers.split(","):
                mounts, names = [controllers, "cpu"], ["cpu.cfs_quota_us", "cpu.cfs_period_us"]
            else:
                continue
            own = PurePosixPath(path.lstrip("/"))
            groups = [system / "sys/fs/cgroup" / mount / group for mount in mounts for group in (own, *own.parents)]
            least = min([least, *(_quota_of(group, names) for group in groups)])
    return least


def _quota_of(group: Path, names: Sequence[str]) -> float:
    """The quota of one control group, in whose files of these names stand a time and the period that it is of."""
    with suppress(OSError, ValueError):
        quota, period = (float(part) for name in names for part in (group / name).read_text().split())
        if quota > 0 < period:
            return quota / period
    return math.inf


def processor() -> str:
    """The name of the processor: of Linux, or else what the system calls it."""
    with suppress(OSError, StopIteration), open("/proc/cpuinfo", encoding="utf-8") as file:
        return next(line.split(":", 1)[1].strip() for line in file if line.startswith("model name"))
    return platform.processor() or platform.machine()


def auto_threads(local_world: int = 1, workers: int = 0) -> int:
    """The CPU threads of a process that shares the cores with others of its machine and its own loading processes.

    `OMP_NUM_THREADS` limits them. The 1 that `torchrun` sets where the user set nothing is not the user's limit.
    """
    share = max(1, cores() // local_world - workers)
    given = os.environ.get("OMP_NUM_THREADS", "").split(",")[0]
    if not given.isdecimal() or (given == "1" and "TORCHELASTIC_RUN_ID" in os.environ):
        return share
    return max(1, min(share, int(given)))


def local_processes() -> int:
    """The number of processes that share this machine, as `--processes` and torchrun say."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def started_by() -> str | None:
    """The launcher of this process, "torchrun" or "srun", by its environment variables; None for a single process.

    One process counts if torchrun started it: so NCCL can be tried on one GPU.
    """
    if "WORLD_SIZE" in os.environ:  # container platforms set a world size of 1 for every program
        torchrun = int(os.environ["WORLD_SIZE"]) > 1 or "TORCHELASTIC_RUN_ID" in os.environ
        return "torchrun" if torchrun else None
    # The tasks of the job step, not of the job: a program in a batch script is one process whatever the job's tasks.
    return "srun" if int(os.environ.get("SLURM_STEP_NUM_TASKS", "1")) > 1 else None


@attrs.frozen
class Machine:
    """A device and how it is used.

    Attributes:
        device: the device of the tensors.
        precision: precision of the forward pass in training; scoring does not follow it.
        threads: CPU threads of this process.
        channels_last: whether images are stored in channels-last layout.
        tf32: whether steps of training multiply float32 as TF32.
        cudnn_benchmark: whether steps of training have cuDNN choose its algorithms by their time.
    """

    device: torch.device
    precision: Precision
    threads: int
    channels_last: bool
    tf32: bool = False
    cudnn_benchmark: bool = False

    def use(self) -> None:
        """Set the threads and device of the process; only for code that owns the process, such as a run."""
        import torch

        torch.set_num_threads(self.threads)
        if self.device.type == "cuda":
            torch.cuda.set_device(self.device)
            _set_float32(*_EXACT)  # what is no step of training, a run computes exactly

    def exact(self) -> AbstractContextManager[object]:
        """Compute float32 as float32 in the body, with what a process has set: a score must not depend on the device.

        PyTorch's own default for convolutions is TF32, and a program may have set it for the rest.
        """
        return _float32(*_EXACT) if self.device.type == "cuda" else nullcontext()

    def training(self) -> AbstractContextManager[object]:
        """What `tf32` and `cudnn_benchmark` allow, in the body: a step of training, and nothing else of a run."""
        if not (self.tf32 or self.cudnn_benchmark):
            return nullcontext()
        return _float32("high" if self.tf32 else "highest", self.tf32, self.cudnn_benchmark)

    def autocast(self, precision: Precision | None = None) -> AbstractContextManager[object]:
        """The autocast context of a precision, by default that of the forward pass in training; of this thread only."""
        import torch

        chosen = precision or self.precision
        if chosen == "fp32":
            return nullcontext()
        return torch.autocast(self.device.type, dtype={"bf16": torch.bfloat16, "fp16": torch.float16}[chosen])

    def place(self, module: nn.Module) -> nn.Module:
        """Move the module to the device, in channels-last layout if set."""
        import torch

        module = module.to(self.device)
        return module.to(memory_format=torch.channels_last) if self.channels_last else module  # type: ignore[call-overload]


# How CUDA's libraries compute float32: products of matrices, whether convolutions may be in TF32, and whether cuDNN
# times its algorithms to choose one. Both names of TF32 are the older ones: where PyTorch (2.9 and later) has others,
# these set them too, while the others alone leave a state that `torch.compile` refuses.
_EXACT = ("highest", False, False)


def _set_float32(products: str, convolutions: bool, benchmark: bool) -> None:
    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # versions 2.9 and 2.10 advise the others
        torch.set_float32_matmul_precision(products)
        torch.backends.cudnn.allow_tf32 = convolutions
    torch.backends.cudnn.benchmark = benchmark


@contextmanager
def _float32(products: str, convolutions: bool, benchmark: bool) -> Iterator[None]:
    """Compute float32 in this way in the body, and then as before."""
    import torch

    cudnn = torch.backends.cudnn
    before = torch.get_float32_matmul_precision(), cudnn.allow_tf32, cudnn.benchmark
    if before == (products, convolutions, benchmark):
        yield
        return
    _set_float32(products, convolutions, benchmark)
    try:
        yield
    finally:
        _set_float32(*before)


def settle(
    device: str = "auto",
    precision: Literal["auto"] | Precision = "auto",
    threads: int | Literal["auto"] = "auto",
    channels_last: bool | Literal["auto"] = "auto",
    workers: int = 0,
    local_rank: int = 0,
    local_world: int = 1,
    fits: bool = True,
    tf32: bool = False,
    cudnn_benchmark: bool = False,
) -> Machine:
    """Replace every `auto` by its value on this machine; the process is not changed.

    Several processes on one machine share its cores: each has at most its share of threads.

    Args:
        device: "auto", or a device such as `cuda:1`.
        precision: precision of training.
        threads: CPU threads of this process.
        channels_last: whether images are stored in channels-last layout.
        workers: data loading processes of this process.
        local_rank: rank of this process on its machine.
        local_world: number of processes on this machine.
        fits: whether channels-last suits the backbone on a CPU; the backbone's attribute `channels_last`.
        tf32: whether steps of training multiply float32 as TF32.
        cudnn_benchmark: whether steps of training have cuDNN choose its algorithms by their time.

    Raises:
        CallError: the device does not exist, or does not support the precision, TF32 or cuDNN.
    """
    where = _device(device, local_rank)
    share = auto_threads(local_world, workers)
    count = share if threads == "auto" else threads if local_world == 1 else min(threads, share)
    chosen = _precision(where) if precision == "auto" else precision
    if chosen == "fp16" and where.type == "cpu":
        raise CallError("train.precision: fp16 needs a GPU; on a CPU use 'bf16' or 'fp32'")
    for key, wanted in (("tf32", tf32), ("cudnn_benchmark", cudnn_benchmark)):
        if wanted and where.type == "cpu":
            raise CallError(f"train.{key}: true needs a GPU; on a CPU leave it out")
    if tf32:
        _refuse_without_tf32(where)
    last = fits or where.type != "cpu" if channels_last == "auto" else channels_last
    return Machine(where, chosen, count, last, tf32, cudnn_benchmark)


def _refuse_without_tf32(device: torch.device) -> None:
    import torch

    major, minor = torch.cuda.get_device_capability(device)
    if major < 8:
        name = torch.cuda.get_device_name(device)
        raise CallError(
            f"train.tf32: true needs a GPU of compute capability 8.0 or more; {name} has {major}.{minor}; leave it out"
        )


def _device(name: str, local_rank: int) -> torch.device:
    import torch

    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        raise CallError(f"unknown device {name!r}; use 'auto', 'cpu', 'cuda' or 'cuda:N'") from None
    if device.type not in {"cpu", "cuda"}:
        raise CallError(f"device {name!r} is not supported; use 'auto', 'cpu', 'cuda' or 'cuda:N'")
    if device.type == "cuda":
        if not torch.cuda.is_available():
            raise CallError(f"device {name!r}: torch finds no CUDA device; use 'auto' or 'cpu'")
        device = torch.device("cuda", local_rank if device.index is None else device.index)
        if device.index >= torch.cuda.device_count():
            raise CallError(f"device {name!r}: this machine has {torch.cuda.device_count()} CUDA devices")
    return device


def _precision(device: torch.device) -> Precision:
    """bf16 where the hardware computes it faster than float32, fp16 on older GPUs, float32 elsewhere."""
    import torch

    if device.type == "cuda":
        return "bf16" if torch.cuda.get_device_capability(device) >= (8, 0) else "fp16"
    # Measured: without instructions for it, bf16 is slower than float32.
    probes = (getattr(torch.cpu, f"_is_{name}_supported", lambda: False) for name in ("amx_tile", "avx512_bf16"))
    return "bf16" if any(probe() for probe in probes) else "fp32"
