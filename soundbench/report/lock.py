"""The lock of a run directory: one process works in it, and no other at the same time."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import filelock

from soundbench import files
from soundbench.errors import RunError
from soundbench.signals import has_gone

__all__ = ["LOCK", "NOTE", "held"]

LOCK, NOTE = ".lock", ".lock.json"
"""The files of a lock: the one that the system locks, and who holds it."""

# Seconds in which the processes that loaded data for a killed one notice that it has gone: they inherited its lock.
_ORPHANS = 15.0


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Hold a folder, in the body; the system frees it when this process ends in any way.

    Raises:
        RunError: another process holds it: which, on which host, and since when; or it cannot be written to.
    """
    note = folder / NOTE
    if (folder / LOCK).is_symlink():
        raise RunError(f"{folder / LOCK}: is a link, and nothing in a run directory is written through one; delete it")
    lock = filelock.FileLock(folder / LOCK)
    with files.explain_os_errors(folder):
        try:
            lock.acquire(timeout=0)
        except filelock.Timeout:
            _wait_for_orphans(lock, folder, _read(note))
    try:
        now = datetime.now().astimezone().isoformat(" ", "seconds")
        files.write_json(note, {"process": os.getpid(), "host": socket.gethostname(), "since": now})
        yield
    finally:
        with files.explain_os_errors(folder):
            note.unlink(missing_ok=True)
            lock.release()


def _wait_for_orphans(lock: filelock.BaseFileLock, folder: Path, holder: dict[str, Any]) -> None:
    """Take over the lock of a process of this host that has gone."""
    try:
        if not _has_gone(holder):
            raise filelock.Timeout(lock.lock_file)
        lock.acquire(timeout=_ORPHANS)
    except filelock.Timeout:
        who = "process {process} on {host} works here since {since}" if holder else "another process works here"
        raise RunError(f"{folder}: {who.format(**holder)}; wait until it has ended, or stop it") from None


def _read(note: Path) -> dict[str, Any]:
    """Who holds a lock; empty if that is not known."""
    try:
        found = files.read_json(note)
        return found if {"process", "host", "since"} <= found.keys() else {}
    except (RunError, AttributeError):
        return {}


def _has_gone(holder: dict[str, Any]) -> bool:
    try:
        return bool(holder) and holder["host"] == socket.gethostname() and has_gone(int(holder["process"]))
    except (ValueError, TypeError):
        return False
