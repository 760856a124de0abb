r"""Read and write files: atomic writes, logs and CSV tables that survive a kill, and `OSError` as one-line messages.

A file is written under a temporary name, synced and renamed: a reader sees the old file or the new one. Logs and tables
that grow are appended to; readers ignore an incomplete last line left by a kill, and the next append removes it.
All text is UTF-8 with `\n`; characters without UTF-8 (in file names of another encoding) are written as `\udcXX`.

Tables are CSV: cells with a comma, a quote or a line break are quoted, None is empty. A line break inside a quoted cell
does not end a row, so a row is also incomplete if the quotes up to the end of the file do not pair up.
"""

from __future__ import annotations

import csv
import errno
import io
import json
import os
import shutil
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from soundbench.errors import RunError, SoundbenchError
from soundbench.messages import megabytes

__all__ = [
    "append_line",
    "append_row",
    "atomic",
    "explain_os_errors",
    "open_regular",
    "read_bytes",
    "read_json",
    "read_rows",
    "read_table",
    "refuse_full",
    "room",
    "write_bytes",
    "write_json",
    "write_rows",
    "write_text",
]

_REASONS = {
    errno.ENOSPC: "the disk is full",
    getattr(errno, "EDQUOT", -1): "the disk quota is used up",
    errno.EACCES: "no permission to write here",
    errno.EPERM: "no permission to write here",
    errno.EROFS: "the file system is read-only",
    errno.ENOTDIR: "a part of this path is a file, not a folder",
    errno.EEXIST: "a part of this path is a file, not a folder",
    errno.EISDIR: "this is a folder, not a file",
}
_FULL = 1 << 16  # bytes: with less than this free, the full disk is why a library's writer failed


@contextmanager
def explain_os_errors(path: Path) -> Iterator[None]:
    """Turn an `OSError` in the body into a `RunError` of one line that names `path`."""
    try:
        yield
    except OSError as error:
        reason = _REASONS.get(error.errno or 0, error.strerror or str(error))
        raise RunError(f"{path}: {reason}") from error


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """Yield a temporary path in the same folder; at the end it is synced and replaces `path`.

    Folders are made as needed. If the body raises, the temporary file is removed and `path` is unchanged. Only one
    process may write a path at a time.

    Raises:
        RunError: the file cannot be written. A full disk is reported as such whatever the library that wrote raises.
    """
    beside = path.with_name(f".{path.name}.tmp")
    with explain_os_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield beside
            with open(beside, "rb+") as file:
                os.fsync(file.fileno())
            os.replace(beside, path)
        except BaseException as error:
            full = not isinstance(error, OSError | SoundbenchError) and _is_full(path.parent)
            beside.unlink(missing_ok=True)
            if full and isinstance(error, Exception):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) from error
            raise
        _sync_folder(path.parent)


def open_regular(path: Path | str) -> BinaryIO:
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


def read_bytes(path: Path, limit: int) -> bytes:
    """The content of a regular file of at most `limit` bytes (one of `soundbench.limits`).

    Raises:
        OSError: it cannot be read, is no regular file, or is larger; `strerror` is then a phrase for a message.
    """
    with open_regular(path) as file:
        data = file.read(limit + 1)
    if len(data) > limit:
        raise OSError(errno.EFBIG, f"more than the {megabytes(limit)} that are read of such a file", str(path))
    return data


def room(folder: Path) -> int:
    """Free bytes on the disk of a folder, which need not exist."""
    there = next(place for place in (folder.absolute(), *folder.absolute().parents) if place.exists())
    return shutil.disk_usage(there).free


def refuse_full(path: Path, needed: int) -> None:
    """Raise an error if a file of `needed` bytes does not fit on the disk.

    Raises:
        RunError: fewer bytes are free than needed.
    """
    free = room(path.parent)
    if free < needed:
        raise RunError(f"{path}: the disk is full: {megabytes(needed)} needed, {megabytes(free)} free")


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file atomically."""
    with atomic(path) as beside:
        beside.write_bytes(data)


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically."""
    write_bytes(path, _encode(text))


def write_json(path: Path, value: Any) -> None:
    """Write an indented JSON file atomically, without escaping non-ASCII. NaN raises `ValueError`: JSON has none."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def write_rows(path: Path, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write a table atomically; `rows` can be a generator, and are not kept in memory."""
    with atomic(path) as beside, open(beside, "wb") as file:
        file.write(_line(columns))
        for row in rows:
            file.write(_line(row))


def read_json(path: Path) -> Any:
    """The content of a JSON file.

    Raises:
        RunError: it is missing or damaged.
    """
    data = _read(path)
    if data is None:
        raise RunError(f"{path}: missing")
    try:
        return json.loads(data)
    except ValueError as error:
        raise RunError(f"{path}: damaged: {error}") from None


def read_table(path: Path) -> tuple[list[str], Iterator[list[str]]]:
    """The columns and rows of a table, without an incomplete last row; a missing file is an empty table.

    Raises:
        RunError: it is damaged before its last row.
    """
    data = _read(path) or b""
    try:
        text = data[: _whole(data)].decode()
        reader = csv.reader(io.StringIO(text, newline=""), strict=True)
        columns = next(reader, [])
    except (UnicodeDecodeError, csv.Error) as error:
        raise RunError(f"{path}: damaged: {error}") from None
    return columns, _checked(path, reader, len(columns))


def read_rows(path: Path) -> list[dict[str, str]]:
    """The rows of a table as dicts of column to text, without an incomplete last row; none if the file is missing."""
    columns, rows = read_table(path)
    return [dict(zip(columns, row, strict=True)) for row in rows]


def append_row(path: Path, row: Mapping[str, object]) -> None:
    """Append a row to a table and sync it. A new column is added to the table; earlier rows are empty there.

    The whole table is read each time to find an incomplete row: use it for one row per epoch, not per step.
    """
    with explain_os_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        columns, rows = read_table(path)
        missing = [name for name in row if name not in columns]
        if columns and missing:
            padded = [[*cells, *("" for _ in missing)] for cells in rows]
            write_rows(path, [*columns, *missing], padded)
        head = b"" if columns else _line(list(row))
        line = _line([row.get(name) for name in [*columns, *missing]])
        _append(path, _whole(_read(path) or b""), head + line)


def append_line(path: Path, text: str) -> None:
    """Append text to a log as whole lines and sync it; an incomplete line before it is removed."""
    with explain_os_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        data = _read(path) or b""
        _append(path, data.rstrip(b"\0").rfind(b"\n") + 1, _encode(text.rstrip("\n") + "\n"))


def _append(path: Path, end: int, data: bytes) -> None:
    """Write `data` at `end` and truncate the file after it; if that fails, the file ends at `end`."""
    new = not path.exists()
    handle = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o666)
    try:
        os.ftruncate(handle, end)
        os.lseek(handle, end, os.SEEK_SET)
        try:
            while data:
                data = data[os.write(handle, data) :]
            os.fsync(handle)
        except OSError:
            with suppress(OSError):
                os.ftruncate(handle, end)
            raise
    finally:
        os.close(handle)
    if new:
        _sync_folder(path.parent)


def _whole(data: bytes) -> int:
    """The number of bytes in complete rows. Zeros at the end are blocks that a power failure left unwritten."""
    end = data.rfind(b"\n", 0, len(data.rstrip(b"\0"))) + 1
    while end and data.count(b'"', 0, end) % 2:
        end = data.rfind(b"\n", 0, end - 1) + 1
    return end


def _line(cells: Sequence[object]) -> bytes:
    r"""One row. The csv module quotes only the line breaks of its line terminator, so that is `\r\n` at first."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\r\n").writerow(cells)
    return _encode(text.getvalue()[:-2] + "\n")


def _checked(path: Path, reader: Iterator[list[str]], width: int) -> Iterator[list[str]]:
    """The rows; each must have as many cells as the header."""
    try:
        for number, row in enumerate(reader, start=2):
            if len(row) != width:
                raise RunError(f"{path}: damaged: row {number} has {len(row)} cells, its header has {width}")
            yield row
    except csv.Error as error:
        raise RunError(f"{path}: damaged: {error}") from None


def _encode(text: str) -> bytes:
    """The text as UTF-8; other characters are escaped."""
    return text.encode("utf-8", errors="backslashreplace")


def _read(path: Path) -> bytes | None:
    """The content of a file; None if it does not exist."""
    with explain_os_errors(path):
        try:
            return path.read_bytes()
        except FileNotFoundError:
            return None


def _not_regular(path: Path | str, mode: int) -> OSError:
    kinds = {stat.S_IFIFO: "a named pipe", stat.S_IFSOCK: "a socket", stat.S_IFDIR: "a folder"}
    what = kinds.get(stat.S_IFMT(mode), "a device")
    number = errno.EISDIR if stat.S_ISDIR(mode) else errno.EINVAL
    return OSError(number, f"this is {what}, not a file", str(path))


def _is_full(folder: Path) -> bool:
    return shutil.disk_usage(folder).free < _FULL


def _sync_folder(folder: Path) -> None:
    """Make a rename survive a power failure, where the system can."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
