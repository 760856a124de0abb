"""What computes: Python, the processor, torch and its build, GPUs, precisions, threads and who set them."""

from __future__ import annotations

import os
import platform
import shutil
import sys
import warnings

from soundbench.doctor.finding import Finding, absent, broken, ok
from soundbench.machine import allowed_cores, auto_threads, cores, local_processes, processor

__all__ = ["bf16", "cpu", "gpu", "python", "threads", "torch_build"]


def python() -> Finding:
    """The interpreter, the system, and whether this is a virtual environment."""
    kind = "virtual environment" if sys.prefix != sys.base_prefix else "not a virtual environment"
    version = f"{platform.python_implementation()} {platform.python_version()}"
    says = f"{version}, {sys.executable} ({kind}); {platform.platform()}"
    values = {"version": version, "executable": sys.executable, "environment": kind, "system": platform.platform()}
    return ok(says, values)


def cpu() -> Finding:
    """The processor and its cores."""
    total = os.cpu_count() or 1
    return ok(f"{processor()}, {total} cores", {"name": processor(), "cores": total})


def torch_build() -> Finding:
    """The version of torch, and what it was built for."""
    import torch

    cuda, rocm = torch.version.cuda, torch.version.hip
    build = f"CUDA {cuda}" if cuda else f"ROCm {rocm}" if rocm else "CPUs"
    instructions = torch.backends.cpu.get_cpu_capability()
    says = f"{torch.__version__}, built for {build}; uses {instructions} on this processor"
    return ok(says, {"version": torch.__version__, "build": build, "instructions": instructions})


def gpu() -> Finding:
    """The CUDA devices, each tried on a sum; why there is none is what torch itself says of it."""
    import torch

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if not count:
        return _no_gpu([str(warning.message) for warning in caught])
    lines, values = [], []
    for index in range(count):
        found = torch.cuda.get_device_properties(index)
        capability = f"compute capability {found.major}.{found.minor}"
        lines.append(f"cuda:{index}: {found.name}, {found.total_memory / 1e9:.0f} GB, {capability}")
        values.append({"name": found.name, "memory": found.total_memory, "capability": [found.major, found.minor]})
        try:
            torch.ones(8, device=f"cuda:{index}").sum().item()
        except RuntimeError as error:
            return broken(f"cuda:{index} cannot compute: {str(error).splitlines()[0]}", details=tuple(lines))
    return ok(f"{count} found", {"devices": values}, details=tuple(lines))


def _no_gpu(warned: list[str]) -> Finding:
    """Why there is no GPU; it is a mistake only where there is a driver."""
    import torch

    on_cpu = "training and scoring use the CPU"
    driver = shutil.which("nvidia-smi") is not None
    values = {"driver": driver}
    if torch.version.cuda is None and torch.version.hip is None:
        cure = "pip install --force-reinstall torch, without the CPU index, for the CUDA build" if driver else ""
        there = "; this machine has an NVIDIA driver" if driver else ""
        return absent(f"none: this torch is built for CPUs{there}; {on_cpu}", values, cure)
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES")
    if hidden is not None and hidden.strip() in ("", "-1"):
        return absent(f"none: CUDA_VISIBLE_DEVICES hides them; {on_cpu}", values, "unset it")
    reason = warned[0].split("(")[0].strip() if warned else "no device and no driver that torch can use"
    return absent(f"none: {' '.join(reason.split())}; {on_cpu}", values)


def bf16() -> Finding:
    """Whether `train.precision = "auto"` is bf16 here: where the hardware computes it faster than float32."""
    from soundbench.machine import settle

    machine = settle()
    values = {"device": str(machine.device), "precision": machine.precision, "channels_last": machine.channels_last}
    auto = f'"auto" is device {machine.device}, precision {machine.precision}'
    if machine.precision == "bf16":
        return ok(f"faster than fp32; {auto}", values)
    why = "needs a GPU of compute capability 8.0" if machine.device.type == "cuda" else "no instructions for it"
    return absent(f"not faster than fp32: {why}; {auto}", values)


def threads() -> Finding:
    """The threads that commands compute with, and what sets their number."""
    count, allowed, total = auto_threads(local_processes()), cores(), os.cpu_count() or 1
    omp = os.environ.get("OMP_NUM_THREADS")
    values = {"threads": count, "cores": total, "allowed": allowed, "OMP_NUM_THREADS": omp}
    return ok(f"{count}: {_who(count, allowed, total)}; train.threads of a recipe changes it", values)


def _who(count: int, allowed: int, total: int) -> str:
    if count < allowed // local_processes():
        return f"OMP_NUM_THREADS={os.environ['OMP_NUM_THREADS']} in the environment sets it"
    if allowed == total:
        return "as many as cores"
    limit = "a container's quota of processor time" if allowed < allowed_cores() else "taskset, SLURM or a container"
    return f"{limit} limits this process to {allowed} of {total} cores"
