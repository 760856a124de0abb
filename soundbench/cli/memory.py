"""Keeps freed memory in the process for the next step, in huge pages where Linux has them.

A training step frees gigabytes and allocates them again. The C library returns large blocks to the kernel at once, and
every step waits for the kernel to clear the pages again: up to a third of the time with large networks. The price is
that a process keeps its peak memory. `benchmarks/heap.py` measures both.
"""

from __future__ import annotations

import ctypes
import math
import mmap
import os
import platform
import sys
from functools import cache
from pathlib import Path
from typing import Any

from soundbench import limits

__all__ = ["keep"]

# Options of `mallopt`, from malloc.h.
_TRIM_THRESHOLD, _MMAP_MAX, _ARENA_MAX = -1, -4, -8
_HUGE = 1 << 21
_OVERCOMMIT = Path("/proc/sys/vm/overcommit_memory")


@cache
def keep() -> bool:
    """Keep freed memory from now on; returns whether the C library can (glibc on Linux). Allocates no memory itself.

    An allocator loaded in its place (jemalloc or tcmalloc, by LD_PRELOAD) is left unchanged.
    """
    if sys.platform != "linux" or platform.libc_ver()[0] != "glibc":
        return False
    libc = ctypes.CDLL("libc.so.6", use_errno=True)
    libc.malloc.argtypes, libc.malloc.restype = [ctypes.c_size_t], ctypes.c_void_p
    if _address(libc.malloc) != _address(ctypes.CDLL(None).malloc):
        return False
    libc.free.argtypes = [ctypes.c_void_p]
    libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    # All threads take memory from the one heap that keeps it: those of their own give it back.
    if not all(libc.mallopt(*option) for option in ((_MMAP_MAX, 0), (_TRIM_THRESHOLD, -1), (_ARENA_MAX, 1))):
        return False
    if _rationed():
        return True
    size = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    room = libc.malloc(size)  # only addresses: the heap grows, and a page is allocated when it is written to
    if room:
        begin = -(-room // _HUGE) * _HUGE
        libc.madvise(begin, room + size - begin, mmap.MADV_HUGEPAGE)
        libc.free(room)
    return True


def _address(function: Any) -> int | None:
    return ctypes.cast(function, ctypes.c_void_p).value


def _rationed() -> bool:
    """Whether reserved addresses count against a limit: of this process, or of a Linux without overcommit."""
    if min(limits.of_process("AS"), limits.of_process("DATA")) < math.inf:
        return True
    try:
        return _OVERCOMMIT.read_text(encoding="ascii").strip() == "2"
    except OSError:
        return False
