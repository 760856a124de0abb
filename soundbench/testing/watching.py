"""Which files a stretch of code writes, and which it reads, as Python's audit events tell."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

__all__ = ["Watch"]

_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_TRUNC
_PLACES = {"os.mkdir": 0, "os.rename": 1, "os.remove": 0, "os.link": 1, "os.symlink": 1, "os.truncate": 0}

_watching: list[Watch] = []


class Watch:
    """Notes the files that are opened inside its `with`.

    Attributes:
        written: opened for writing, made, renamed to or removed; not bytecode, not devices.
        read: opened for reading.
    """

    hooked = False

    def __init__(self) -> None:
        self.written: list[Path] = []
        self.read: list[Path] = []

    def __enter__(self) -> Watch:
        if not Watch.hooked:  # an audit hook stays for ever
            sys.addaudithook(_audit)
            Watch.hooked = True
        _watching.append(self)
        return self

    def __exit__(self, *_: object) -> None:
        _watching.remove(self)

    def note(self, event: str, arguments: tuple[Any, ...]) -> None:
        """Take down an event that names a file."""
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
    if _watching and (event == "open" or event in _PLACES):
        for watch in list(_watching):
            watch.note(event, arguments)
