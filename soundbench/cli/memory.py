"""Memory that was freed is kept for the next step, in huge pages where Linux has them, instead of going back to Linux.

A step of training frees gigabytes and asks for them again. The C library gives large blocks back at once, so that every
step waits for the kernel to clear pages anew: up to a third of the time of large networks. The price is that a process
keeps what it took at its peak. `benchmarks/heap.py` measures both.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import platform
from functools import cache
from pathlib import Path
from typing import Any

__all__ = ["keep", "keep_on_cpu"]

# Of `mallopt`, in malloc.h.
_TRIM_THRESHOLD, _MMAP_MAX = -1, -4
_HUGE = 1 << 21
_OVERCOMMIT = Path("/proc/sys/vm/overcommit_memory")


def keep_on_cpu(device: str | None) -> None:
    """`keep`, for a command that computes on the CPU; for the command line alone, whose process this is.

    Args:
        device: as `--device` or a recipe names it; None for `auto`.
    """
    import torch

    if device == "cpu" or not torch.cuda.is_available():
        keep()


@cache
def keep() -> bool:
    """Keep freed memory from now on; whether this C library can: glibc's, on Linux. Takes no memory by itself.

    An allocator that was put in its place (jemalloc, tcmalloc, by LD_PRELOAD) has ways of its own, and is left alone.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    libc = ctypes.CDLL("libc.so.6", use_errno=True)
    libc.malloc.argtypes, libc.malloc.restype = [ctypes.c_size_t], ctypes.c_void_p
    if _address(libc.malloc) != _address(ctypes.CDLL(None).malloc):
        return False
    libc.free.argtypes = [ctypes.c_void_p]
    libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    if not (libc.mallopt(_MMAP_MAX, 0) and libc.mallopt(_TRIM_THRESHOLD, -1)):
        return False
    if _rationed():
        return True
    size = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    room = libc.malloc(size)  # addresses alone: the heap grows by them, and a page of it is taken when it is written to
    if room:
        begin = -(-room // _HUGE) * _HUGE
        libc.madvise(begin, room + size - begin, mmap.MADV_HUGEPAGE)
        libc.free(room)
    return True


def _address(function: Any) -> int | None:
    return ctypes.cast(function, ctypes.c_void_p).value


def _rationed() -> bool:
    """Whether addresses alone are counted: by a limit of this process, or by a Linux that promises what it has only."""
    import resource  # where there is no such module there is no glibc

    limits = [resource.getrlimit(which)[0] for which in (resource.RLIMIT_AS, resource.RLIMIT_DATA)]
    if any(limit != resource.RLIM_INFINITY for limit in limits):
        return True
    try:
        return _OVERCOMMIT.read_text().strip() == "2"
    except OSError:
        return False
