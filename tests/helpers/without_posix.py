"""`python -m helpers.without_posix ARGUMENTS`: soundbench as on a system that has nothing of POSIX, such as Windows.

In this process and in those that it starts:
- for the modules of soundbench, `os`, `signal`, `mmap` and `time` have only the names that typeshed has for Windows,
  `sys.platform` is "win32" and `os.name` is "nt";
- `resource`, `fcntl` and others like them cannot be imported, and nothing below /proc and /sys can be opened;
- processes are spawned, never forked;
- a file that this process has open or mapped can be neither replaced, renamed nor deleted.

What is not simulated: paths (they have `/`), line ends, drives and the console.
"""

from __future__ import annotations

import ast
import asyncio
import builtins
import errno
import mmap
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import filelock
import mypy
import torch

ABSENT = ("fcntl", "grp", "posix", "pty", "pwd", "resource", "syslog", "termios", "tty")
OURS = ("soundbench", "soundbench_plugins")
OPENED_BEFORE = (asyncio, filelock, subprocess, torch)  # libraries that take what their Windows does not need

_looking = threading.local()


def names_of(module: str, platform: str) -> set[str]:
    """The names that a module of the standard library has on a platform, as typeshed says."""
    stubs = Path(mypy.__file__).parent / "typeshed" / "stdlib"
    path = next(path for path in (stubs / module / "__init__.pyi", stubs / f"{module}.pyi") if path.exists())
    system = ModuleType("sys")
    system.platform, system.version_info = platform, sys.version_info  # type: ignore[attr-defined]

    def names(body: list[ast.stmt]) -> Iterator[str]:
        for one in body:
            if isinstance(one, ast.If):
                yield from names(one.body if eval(ast.unparse(one.test), {"sys": system}) else one.orelse)
            elif isinstance(one, ast.FunctionDef | ast.ClassDef):
                yield one.name
                if one.name in ("Signals", "Handlers", "Sigmasks"):
                    yield from names(one.body)
            elif isinstance(one, ast.AnnAssign | ast.Assign):
                for target in one.targets if isinstance(one, ast.Assign) else [one.target]:
                    yield ast.unparse(target)
            elif isinstance(one, ast.ImportFrom):
                yield from (alias.asname or alias.name for alias in one.names)

    return set(names(ast.parse(path.read_text(encoding="utf-8")).body))


class View(ModuleType):
    """A module, without some of its names and with other values for some."""

    def __init__(self, module: ModuleType, without: set[str], **values: Any) -> None:
        super().__init__(module.__name__)
        object.__setattr__(self, "_seen", (module, without, values))

    def __getattribute__(self, name: str) -> Any:
        module, without, values = object.__getattribute__(self, "_seen")
        if name in values:
            return values[name]
        if name in without:
            raise AttributeError(f"module {module.__name__!r} has no attribute {name!r}")
        return getattr(module, name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(object.__getattribute__(self, "_seen")[0], name, value)


def absent(module: ModuleType) -> set[str]:
    return names_of(module.__name__, "linux") - names_of(module.__name__, "win32")


def install() -> None:
    """Hide it all, before soundbench is imported."""
    assert not any(name.split(".")[0] in OURS for name in sys.modules)
    views = {module.__name__: View(module, absent(module)) for module in (signal, mmap, time)}
    views["os"] = View(os, absent(os), name="nt")
    views["sys"] = View(sys, set(), platform="win32")
    imported = builtins.__import__

    def look(name: str, globals: Any = None, locals: Any = None, fromlist: Any = (), level: int = 0) -> Any:
        ours = globals and str(globals.get("__name__")).split(".")[0] in OURS
        return views[name] if ours and name in views else imported(name, globals, locals, fromlist, level)

    builtins.__import__ = look
    for name in ABSENT:
        sys.modules[name] = None  # type: ignore[assignment]
    sys.addaudithook(_refuse_system_files)
    for name in ("replace", "rename", "remove", "unlink"):
        setattr(os, name, _refusing_open_files(getattr(os, name)))
    multiprocessing.set_start_method("spawn", force=True)


def _refuse_system_files(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "open" and str(arguments[0]).startswith(("/proc/", "/sys/")) and not hasattr(_looking, "now"):
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), arguments[0])


def _refusing_open_files(change: Callable[..., None]) -> Callable[..., None]:
    def checked(*paths: Any, **options: Any) -> None:
        for path in paths:
            if _place(path, options.get("dir_fd")) in _in_use():
                raise PermissionError(errno.EACCES, "the file is used by another process (as on Windows)", path)
        change(*paths, **options)

    return checked


def _place(path: Any, folder: int | None) -> str:
    return os.path.realpath(os.fsdecode(path) if folder is None else f"/proc/self/fd/{folder}/{os.fsdecode(path)}")


def _in_use() -> set[str]:
    """The files that this process has open or mapped."""
    _looking.now = True
    try:
        found = set()
        for handle in os.listdir("/proc/self/fd"):
            try:
                found.add(os.readlink(f"/proc/self/fd/{handle}"))
            except OSError:  # that of the listing
                continue
        with open("/proc/self/maps", encoding="utf-8", errors="surrogateescape") as maps:
            return found | {parts[5] for parts in (line.rstrip("\n").split(None, 5) for line in maps) if len(parts) > 5}
    finally:
        del _looking.now


install()

if __name__ == "__main__":
    from soundbench.cli.main import main

    main()
