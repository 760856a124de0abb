"""Which files a block of code writes and reads, from Python's audit events."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

__all__ = ["FileAccess"]

_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_TRUNC
_PLACES = {"os.mkdir": 0, "os.rename": 1, "os.remove": 0, "os.link": 1, "os.symlink": 1, "os.truncate": 0}

_active: list[FileAccess] = []


class FileAccess:
    """Records the files that are opened inside its `with` block.

    Attributes:
        written: opened for writing, created, renamed to or removed; without bytecode and devices.
        read: opened for reading.
    """

    hooked = False

    def __init__(self) -> None:
        self.written: list[Path] = []
        self.read: list[Path] = []

    def __enter__(self) -> FileAccess:
        if not FileAccess.hooked:  # an audit hook cannot be removed
            sys.addaudithook(_audit)
            FileAccess.hooked = True
        _active.append(self)
        return self

    def __exit__(self, *_: object) -> None:
        _active.remove(self)

    def record(self, event: str, arguments: tuple[Any, ...]) -> None:
        """Record an audit event that names a file."""
        if event == "open":
            place, mode, flags = arguments
            writing = any(letter in mode for letter in "wax+") if isinstance(mode, str) else bool(flags & _WRITING)
        else:
            place, writing = arguments[_PLACES[event]], True
        if not isinstance(place, str | bytes | os.PathLike):
            return
        path = Path(os.path.realpath(os.fsdecode(place)))
        if "__pycache__" not in path.parts and path.parts[1:2] not in (("dev",), ("proc",)):
            (self.written if writing else self.read).append(path)


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    if _active and (event == "open" or event in _PLACES):
        for access in list(_active):
            access.record(event, arguments)
