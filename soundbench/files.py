r"""Read and write files: atomic writes, logs and CSV tables that survive a kill, and `OSError` as one-line messages.

A file is written under a temporary name, synced and renamed: a reader sees the old file or the new one. Logs and tables
that grow are appended to; readers ignore an incomplete last line left by a kill, and the next append removes it.
Nothing is written through a link, and only regular files are read (`opening.py`).
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
from typing import Any

from soundbench import limits
from soundbench.errors import RunError, RunPlaceError, SoundbenchError
from soundbench.messages import megabytes
from soundbench.opening import (
    LINK,
    NO_LINK,
    create,
    lock,
    open_regular,
    open_text,
    open_to_append,
    other_than_files,
    read_bytes,
    refuse_compressed,
)

__all__ = [
    "LINK",
    "append_line",
    "append_row",
    "atomic",
    "explain_os_errors",
    "lock",
    "open_to_append",
    "open_regular",
    "open_text",
    "parse_json",
    "read_bytes",
    "read_json",
    "read_rows",
    "read_table",
    "refuse_compressed",
    "refuse_full",
    "refuse_links",
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
    errno.EFBIG: "the limit on the size of files (ulimit -f) is reached",
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
    """Yield the path of a new, empty file in the same folder; at the end it is synced and replaces `path`.

    Folders are made as needed. If the body raises, the temporary file is removed and `path` is unchanged. Only one
    process may write a path at a time. The body may replace the temporary file by another one of the same name, as some
    libraries do; the file has the permissions that the user's umask leaves, whatever the library chose.

    Raises:
        RunError: the file cannot be written. A full disk is reported as such whatever the library that wrote raises.
    """
    beside = path.with_name(f".{path.name}.tmp")
    with explain_os_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        mode = create(beside)
        try:
            yield beside
            handle = os.open(beside, os.O_RDWR | NO_LINK)
            try:
                if stat.S_IMODE(os.fstat(handle).st_mode) != mode:
                    os.chmod(beside, mode)
                os.fsync(handle)
            finally:
                os.close(handle)
            os.replace(beside, path)
        except BaseException as error:
            number = 0 if isinstance(error, OSError | SoundbenchError) else _exhausted(beside)
            beside.unlink(missing_ok=True)
            if number and isinstance(error, Exception):
                raise OSError(number, os.strerror(number)) from error
            raise
        _sync_folder(path.parent)


def refuse_links(folder: Path) -> None:
    """Refuse to work in a folder that holds a link, a pipe or a device at any depth; it may be a link itself.

    Raises:
        RunPlaceError: it does; the message names the first.
    """
    with explain_os_errors(folder):
        for path, what in other_than_files(folder) if folder.is_dir() else ():
            raise RunPlaceError(f"{path}: {what}")


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
        file.writelines(_lines(rows))


def read_json(path: Path, *needed: str) -> Any:
    """The content of a JSON file.

    Args:
        path: the file.
        needed: keys of the object that it must be.

    Raises:
        RunError: it is missing or damaged.
    """
    data = _read(path)
    if data is None:
        raise RunError(f"{path}: missing")
    try:
        value = parse_json(data)
    except ValueError as error:
        raise RunError(f"{path}: damaged: {error}") from None
    lacking = [key for key in needed if not isinstance(value, dict) or key not in value]
    if lacking:
        raise RunError(f"{path}: damaged: it has no {', '.join(lacking)}")
    return value


def parse_json(data: bytes | str) -> Any:
    """The value of JSON text.

    Raises:
        ValueError: it is not JSON, or nested too deeply to be read.
    """
    try:
        return json.loads(data)
    except RecursionError:
        raise ValueError("nested too deeply") from None


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


def read_rows(path: Path, *needed: str) -> list[dict[str, str]]:
    """The rows of a table as dicts of column to text, without an incomplete last row; none if the file is missing.

    Args:
        path: the file.
        needed: columns that it must have, unless it is empty.

    Raises:
        RunError: it is damaged before its last row.
    """
    columns, rows = read_table(path)
    lacking = [name for name in needed if columns and name not in columns]
    if lacking:
        raise RunError(f"{path}: damaged: it has no column {', '.join(lacking)}")
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
    with open_to_append(path) as file:
        os.ftruncate(file.fileno(), end)
        try:
            while data:
                data = data[os.write(file.fileno(), data) :]
            os.fsync(file.fileno())
        except OSError:
            with suppress(OSError):
                os.ftruncate(file.fileno(), end)
            raise
    if new:
        _sync_folder(path.parent)


def _whole(data: bytes) -> int:
    """The number of bytes in complete rows. Zeros at the end are blocks that a power failure left unwritten."""
    end = data.rfind(b"\n", 0, len(data.rstrip(b"\0"))) + 1
    while end and data.count(b'"', 0, end) % 2:
        end = data.rfind(b"\n", 0, end - 1) + 1
    return end


def _line(cells: Sequence[object]) -> bytes:
    """One row."""
    return next(_lines([cells]))


def _lines(rows: Iterable[Sequence[object]]) -> Iterator[bytes]:
    r"""Each row. The csv module quotes only the line breaks of its line terminator, so that is `\r\n` at first."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\r\n")
    for cells in rows:
        writer.writerow(cells)
        yield _encode(text.getvalue()[:-2] + "\n")
        text.seek(0)
        text.truncate()


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
            return read_bytes(path, limits.TABLE)
        except FileNotFoundError:
            return None


def _exhausted(path: Path) -> int:
    """The error number of what stops a library from writing a file: a full disk, or the limit on a file's size."""
    if shutil.disk_usage(path.parent).free < _FULL:
        return errno.ENOSPC
    with suppress(OSError):
        if path.lstat().st_size + _FULL > limits.of_process("FSIZE"):
            return errno.EFBIG
    return 0


def _sync_folder(folder: Path) -> None:
    """Make a rename survive a power failure, where the system can."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
