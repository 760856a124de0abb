"""The largest inputs and values that are accepted, each refused in one line; and the limits that the system sets."""

from __future__ import annotations

import math
from importlib import import_module
from typing import Any

__all__ = [
    "CELLS",
    "CHUNK",
    "CHUNKS",
    "DIGITS",
    "EXTENDS",
    "INTEGER",
    "ITEMS",
    "KEYS",
    "MISTAKES",
    "MODULES",
    "NESTING",
    "NUMBERS",
    "ODD",
    "PROBE",
    "SAMPLES",
    "SIZED",
    "TABLE",
    "TEXT",
    "THREADS",
    "TIMES",
    "WIDTH",
    "WINDOW",
    "YAML",
    "nameable",
    "of_process",
    "raise_of_process",
]

# Bytes of a file. TEXT: a recipe, `model.toml`, a list of classes, JSON that describes something, Python source. TABLE:
# a manifest, a CSV table, a report; ten million rows of 200 bytes fit. YAML: PyYAML reads about 100 kB in a second.
TEXT = 4 << 20
TABLE = 2 << 30
YAML = 128 << 10

# Chunks of a sound file before its sound; bytes of a chunk that may state when the recording began.
CHUNKS = 10_000
CHUNK = 1 << 16

# A TOML file: keys (or lists), items of all lists, tables and lists inside each other, recipes that extend one another;
# a resolved recipe has some 100 keys in 4 levels. MISTAKES: how many of a recipe's mistakes are listed.
KEYS = 20_000
ITEMS = 100_000
NESTING = 32
EXTENDS = 20
MISTAKES = 50

# Runs of a sweep.
CELLS = 10_000

# Any integer of a recipe is a 64-bit number, as NumPy and torch take them; DIGITS of one that is text.
INTEGER = (1 << 63) - 1
DIGITS = 18

# Threads of a process, processes that load batches, processes of a run.
THREADS = 1024

# A network, see `model/bounds.py`. WIDTH: an integer option of its components, such as a number of bands, channels or
# layers, or a frame in samples; or TIMES its default, if that is more. MODULES and NUMBERS: what it consists of while
# it is made; the largest speech encoders have 1,000 modules and 2.2e9 numbers. From ODD on an option is so large that
# SIZED numbers must do. WINDOW: seconds, as for a classifier;
# SAMPLES: of it. PROBE: seconds of silence that test whether components fit each other.
WIDTH = 1 << 16
TIMES = 16
MODULES = 5_000
NUMBERS = 4_000_000_000
ODD = 2_000
SIZED = 300_000_000
WINDOW = 600
SAMPLES = 30_000_000
PROBE = 10


def of_process(name: str) -> float:
    """The limit of this process on a resource, as `ulimit` shows it; infinity where there is none.

    Args:
        name: as in `RLIMIT_...`: "AS", "DATA" and "FSIZE" in bytes, "NOFILE" in open files.
    """
    resource = _resource()
    soft = resource.getrlimit(getattr(resource, f"RLIMIT_{name}"))[0] if resource else math.inf
    return math.inf if resource and soft == resource.RLIM_INFINITY else soft


def raise_of_process(name: str, wanted: int) -> None:
    """Raise a limit of this process that is below `wanted`, as far as its user may; nothing where there are none."""
    resource = _resource()
    if resource and of_process(name) < wanted:
        which = getattr(resource, f"RLIMIT_{name}")
        hard = resource.getrlimit(which)[1]
        resource.setrlimit(which, (wanted if hard == resource.RLIM_INFINITY else min(hard, wanted), hard))


def _resource() -> Any:
    """Python's module for limits, which only POSIX systems have."""
    try:
        return import_module("resource")
    except ImportError:
        return None


def nameable(_: Any, attribute: Any, value: Any) -> None:
    """A validator of attrs: refuses text that is a name where no file could have it."""
    if isinstance(value, str) and ("\0" in value or any(len(part.encode()) > 255 for part in value.split("/"))):
        key = attribute.metadata.get("key", attribute.name)
        raise ValueError(f"{key} must be a path or a name, of at most 255 bytes and without NUL")
