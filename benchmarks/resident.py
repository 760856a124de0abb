"""The memory of a process that it uses itself; `ru_maxrss` begins with the peak of the process that started it.

    python benchmarks/resident.py COMMAND ...

calls soundbench with these arguments, and prints its peak in bytes as the last line of standard error.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path


def resident(which: str) -> int:
    """A value of `/proc/self/status`, in bytes: `VmRSS` is the memory in use, `VmHWM` its peak."""
    return 1024 * int(re.search(rf"{which}:\s+(\d+)", Path("/proc/self/status").read_text())[1])


if __name__ == "__main__":
    from soundbench.cli.main import invoke

    code = invoke(sys.argv[1:])
    print(resident("VmHWM"), file=sys.stderr)
    raise SystemExit(code)
