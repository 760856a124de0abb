r"""Files that appear whole, tables that survive a kill, and one line for a disk that is full.

A file is written beside its place, synced and renamed into it: a reader sees the old one or the new one. A log or table
that grows is appended to instead; the line that a kill has torn is ignored by readers and cut before the next append.
All text is UTF-8 with `\n`; what has no UTF-8 (a file name in another encoding) is written as `\udcXX`.

Tables are CSV: cells with a comma, a quote or a line break are quoted, None is empty. A line break inside a quoted cell
ends no row, so a row is torn, too, where the quotes up to the end of the file do not pair up.
"""

from __future__ import annotations

import csv
import errno
import io
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from soundbench.errors import RunError, SoundbenchError
from soundbench.messages import megabytes

__all__ = [
    "append_line",
    "append_row",
    "atomic",
    "explain_os_errors",
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
_FULL = 1 << 16  # bytes: with less than this left, it was the disk that failed a library's own writer


@contextmanager
def explain_os_errors(path: Path) -> Iterator[None]:
    """Turn an `OSError` while working on `path` into a `RunError` of one line."""
    try:
        yield
    except OSError as error:
        reason = _REASONS.get(error.errno or 0, error.strerror or str(error))
        raise RunError(f"{path}: {reason}") from error


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """A path beside `path` to write to; what was written there takes the place of `path` at the end, whole and synced.

    Folders are made as needed. Where the body raises, nothing is left behind and `path` is what it was. One process
    writes a path at a time.

    Raises:
        RunError: it cannot be written; the disk being full is told so whichever library was writing.
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


def room(folder: Path) -> int:
    """Bytes that are free where a folder is, or would be."""
    there = next(place for place in (folder.absolute(), *folder.absolute().parents) if place.exists())
    return shutil.disk_usage(there).free


def refuse_full(path: Path, needed: int) -> None:
    """Refuse to begin a file that will not fit.

    Raises:
        RunError: fewer bytes are free than are needed.
    """
    free = room(path.parent)
    if free < needed:
        raise RunError(f"{path}: {megabytes(needed)} are needed and {megabytes(free)} are free: the disk is full")


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file, whole."""
    with atomic(path) as beside:
        beside.write_bytes(data)


def write_text(path: Path, text: str) -> None:
    """Write a text file, whole."""
    write_bytes(path, _encode(text))


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file, whole, for people too: indented, in any script. NaN is refused: JSON has none."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def write_rows(path: Path, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write a table, whole; rows may come from a generator, and are not kept."""
    with atomic(path) as beside, open(beside, "wb") as file:
        file.write(_line(columns))
        for row in rows:
            file.write(_line(row))


def read_json(path: Path) -> Any:
    """What a JSON file holds.

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
    """The columns and the rows of a table, without a torn last row; a missing one is empty.

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
    """The rows of a table as mappings from column to text, without a torn last row; a missing one has none."""
    columns, rows = read_table(path)
    return [dict(zip(columns, row, strict=True)) for row in rows]


def append_row(path: Path, row: Mapping[str, object]) -> None:
    """Append a row to a table, synced; its columns are the first row's, and grow where a later row has more.

    The whole table is read each time to find a torn row: this is for tables that grow by the epoch, not by the step.
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
    """Append text to a log, synced, as lines of its own; a torn line before it is cut."""
    with explain_os_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        data = _read(path) or b""
        _append(path, data.rstrip(b"\0").rfind(b"\n") + 1, _encode(text.rstrip("\n") + "\n"))


def _append(path: Path, end: int, data: bytes) -> None:
    """Write `data` at `end` and cut the file behind it; where that fails, the file ends at `end`."""
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
    """How many bytes of a table are whole rows. Zeros at the end are what a power cut leaves of unwritten blocks."""
    end = data.rfind(b"\n", 0, len(data.rstrip(b"\0"))) + 1
    while end and data.count(b'"', 0, end) % 2:
        end = data.rfind(b"\n", 0, end - 1) + 1
    return end


def _line(cells: Sequence[object]) -> bytes:
    r"""One row. The csv module quotes those line breaks only that its own line ending holds: at first it is `\r\n`."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\r\n").writerow(cells)
    return _encode(text.getvalue()[:-2] + "\n")


def _checked(path: Path, reader: Iterator[list[str]], width: int) -> Iterator[list[str]]:
    """The rows, each as wide as the header."""
    try:
        for number, row in enumerate(reader, start=2):
            if len(row) != width:
                raise RunError(f"{path}: damaged: row {number} has {len(row)} cells, its header has {width}")
            yield row
    except csv.Error as error:
        raise RunError(f"{path}: damaged: {error}") from None


def _encode(text: str) -> bytes:
    """UTF-8, whatever the text holds."""
    return text.encode("utf-8", errors="backslashreplace")


def _read(path: Path) -> bytes | None:
    """What a file holds; None if there is no such file."""
    with explain_os_errors(path):
        try:
            return path.read_bytes()
        except FileNotFoundError:
            return None


def _is_full(folder: Path) -> bool:
    return shutil.disk_usage(folder).free < _FULL


def _sync_folder(folder: Path) -> None:
    """Make a rename survive a power cut, where the system can."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
