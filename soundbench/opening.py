"""Open files of any origin: only regular ones of a limited size are read, and nothing is written through a link.

A folder that somebody sent may hold links to files of its reader, pipes without an end, and devices.
"""

from __future__ import annotations

import errno
import io
import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, TextIO

__all__ = [
    "LINK",
    "NO_LINK",
    "create",
    "lock",
    "open_regular",
    "open_text",
    "open_to_append",
    "other_than_files",
    "read_bytes",
    "refuse_compressed",
]

# Flags of `os.open`; where the system has none, there is no such danger.
NO_LINK = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
LINK = "this is a link, and nothing is written through links; remove it"


def open_regular(path: Path | str) -> io.BufferedReader:
    """Open a file to read bytes. Never waits: a named pipe, a device, a socket or a folder is refused.

    Raises:
        OSError: it cannot be opened, or is no regular file; `strerror` is then a phrase for a message.
    """
    try:
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except OSError as error:
        if error.errno != errno.ENXIO:  # a socket
            raise
        raise _not_regular(path, os.stat(path).st_mode) from None
    mode = os.fstat(handle).st_mode
    if stat.S_ISREG(mode):
        return open(handle, "rb")
    os.close(handle)
    raise _not_regular(path, mode)


def open_text(path: Path, limit: int, encoding: str = "utf-8", **options: Any) -> TextIO:
    """Open a regular file of at most `limit` bytes to read text; `options` are those of `io.TextIOWrapper`.

    Raises:
        OSError: as of `read_bytes`.
    """
    file = open_regular(path)
    if os.fstat(file.fileno()).st_size > limit:
        file.close()
        raise _too_large(path, limit)
    return io.TextIOWrapper(file, encoding=encoding, **options)


def read_bytes(path: Path, limit: int) -> bytes:
    """The content of a regular file of at most `limit` bytes (one of `soundbench.limits`).

    Raises:
        OSError: it cannot be read, is no regular file, or is larger; `strerror` is then a phrase for a message.
    """
    with open_regular(path) as file:
        data = file.read(limit + 1) if os.fstat(file.fileno()).st_size <= limit else b""
        if len(data) > limit or os.fstat(file.fileno()).st_size > limit:
            raise _too_large(path, limit)
    return data


def open_to_append(path: Path) -> BinaryIO:
    """Open a file to write at its end, created if missing; never through a link, nor another name of the same file.

    A file that has other names (hard links) is replaced by a copy of its own first.

    Raises:
        OSError: it cannot be opened, is a link, or is no regular file; `strerror` is then a phrase for a message.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | NO_LINK | getattr(os, "O_NONBLOCK", 0)
    try:
        handle = os.open(path, flags, 0o666)
        about = os.fstat(handle)
        if stat.S_ISREG(about.st_mode) and about.st_nlink > 1:
            os.close(handle)
            beside = path.with_name(f".{path.name}.tmp")
            create(beside)
            shutil.copyfile(path, beside)
            os.replace(beside, path)
            handle = os.open(path, flags, 0o666)
            about = os.fstat(handle)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise OSError(errno.ELOOP, LINK, str(path)) from None
        if error.errno == errno.ENXIO:  # a socket, or a pipe without a reader
            raise _not_regular(path, os.stat(path).st_mode) from None
        raise
    if stat.S_ISREG(about.st_mode):
        return open(handle, "ab")
    os.close(handle)
    raise _not_regular(path, about.st_mode)


def refuse_compressed(path: Path) -> None:
    """Refuse a file that `torch.load` would unpack to more than it holds: `torch.save` never compresses.

    Raises:
        OSError: it cannot be opened, is no regular file, or has compressed parts; `strerror` is a phrase.
    """
    import zipfile  # not at the start: listing plugins does not need it

    with open_regular(path) as file:
        try:
            if zipfile.is_zipfile(file):
                parts = zipfile.ZipFile(file).infolist()
                if any(part.compress_type != zipfile.ZIP_STORED for part in parts):
                    raise OSError(errno.EINVAL, "has compressed parts, which a file of torch.save has not", str(path))
        except (zipfile.BadZipFile, ValueError, NotImplementedError):
            pass  # torch says what is wrong with it


def create(path: Path) -> int:
    """Create an empty file in place of what a killed process left there, or a link; returns its permissions."""
    path.unlink(missing_ok=True)
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | NO_LINK, 0o666)
    try:
        return stat.S_IMODE(os.fstat(handle).st_mode)
    finally:
        os.close(handle)


def other_than_files(folder: Path) -> Iterator[tuple[str, str]]:
    """The links, pipes, sockets and devices in a folder at any depth, each with what it is; no link is followed.

    Raises:
        OSError: a folder cannot be read.
    """
    pending = [str(folder)]
    while pending:
        with os.scandir(pending.pop()) as entries:
            for entry in sorted(entries, key=lambda entry: entry.name):
                if entry.is_symlink():
                    yield entry.path, LINK
                elif entry.is_dir(follow_symlinks=False):
                    pending.append(entry.path)
                elif not entry.is_file(follow_symlinks=False):
                    yield entry.path, f"{_kind(entry.stat(follow_symlinks=False).st_mode)}; remove it"


@contextmanager
def lock(path: Path, wait: bool = True) -> Iterator[bool]:
    """Hold the lock of a file in the body; yields False if another process holds it and `wait` is False.

    Raises:
        OSError: the lock file is a link, or cannot be made.
    """
    import filelock  # not at the start: listing plugins does not need it

    if path.is_symlink():
        raise OSError(errno.ELOOP, LINK, str(path))
    held = filelock.FileLock(path)
    try:
        held.acquire(timeout=-1 if wait else 0)
    except filelock.Timeout:
        yield False
        return
    try:
        yield True
    finally:
        held.release()


def _not_regular(path: Path | str, mode: int) -> OSError:
    number = errno.EISDIR if stat.S_ISDIR(mode) else errno.EINVAL
    return OSError(number, _kind(mode), str(path))


def _kind(mode: int) -> str:
    kinds = {stat.S_IFIFO: "a named pipe", stat.S_IFSOCK: "a socket", stat.S_IFDIR: "a folder"}
    return f"this is {kinds.get(stat.S_IFMT(mode), 'a device')}, not a file"


def _too_large(path: Path, limit: int) -> OSError:
    return OSError(errno.EINVAL, f"more than the {limit / 1e6:.1f} MB that are read of such a file", str(path))
