"""Digests: whether a file is still as soundbench wrote it, bit for bit.

A digest is BLAKE2b's, 16 bytes in hexadecimal. A table of digests is a JSON file that names files of its folder, each
with the digests that it may have: one, or while it is being replaced, also that of its successor. A sealed archive is a
zip file whose comment holds the digest of all bytes before it; any program can read it.
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
from collections.abc import Iterable, Mapping
from pathlib import Path

from soundbench import files, limits
from soundbench.errors import RunError

__all__ = [
    "Table",
    "changed",
    "is_sealed",
    "of_bytes",
    "of_file",
    "read_table",
    "refuse_changed",
    "seal_archive",
    "table_of",
    "write_table",
]

Table = dict[str, list[str]]

_SIZE = 16
# Bytes read and digested at a time, so many because between two pieces a thread waits for Python's other threads.
_PIECE = 1 << 26
_MARK = b"soundbench BLAKE2b "
_COMMENT = len(_MARK) + 2 * _SIZE
_END = 22  # bytes of a zip file's last record, without the comment; the last two are the comment's length


def of_bytes(data: bytes) -> str:
    """The digest of bytes."""
    return hashlib.blake2b(data, digest_size=_SIZE).hexdigest()


def of_file(path: Path) -> str:
    """The digest of a file.

    Raises:
        OSError: it cannot be read.
    """
    return _of_first(path, None)


def table_of(folder: Path, names: Iterable[str]) -> Table:
    """The digests of files in a folder; those that do not exist are left out."""
    with files.explain_os_errors(folder):
        return {name: [of_file(folder / name)] for name in names if (folder / name).is_file()}


def changed(folder: Path, table: Mapping[str, Iterable[str]]) -> list[str]:
    """The names in a table whose files are missing or no longer have their digest."""
    return [name for name, known in table.items() if _of_any(folder / name) not in list(known)]


def refuse_changed(folder: Path, names: Iterable[str], remedy: str = "") -> None:
    """Refuse files that have changed; how a user accepts them is part of the message.

    Args:
        folder: the folder of the files.
        names: those that have changed, or that are missing, which is said.
        remedy: what else helps, to be continued by "or accept ...".

    Raises:
        RunError: there is one; one message names all.
    """
    names = list(names)
    if names:
        places = ", ".join(str(folder / name) for name in names)
        were, it = ("was", "it") if len(names) == 1 else ("were", "them")
        gone = [name for name in names if not os.path.lexists(folder / name)]
        what = "changed" if not gone else "removed" if gone == names else "changed or removed"
        raise RunError(
            f"{places}: {were} {what} since soundbench wrote {it}, by damage or by hand; "
            f"{remedy or f'put {it} back'}, or accept {it} with --accept-changes (accept_changes=True)"
        )


def read_table(path: Path) -> Table | None:
    """A table of digests; None if there is no such file.

    Raises:
        RunError: it cannot be read, or is damaged.
    """
    try:
        table = json.loads(files.read_bytes(path, limits.TEXT))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise RunError(f"{path}: {error.strerror or error}") from None
    except (ValueError, RecursionError):
        table = None
    if not isinstance(table, dict) or not all(isinstance(known, list) for known in table.values()):
        raise RunError(f"{path}: damaged")
    return table


def write_table(path: Path, table: Mapping[str, Iterable[str]]) -> None:
    """Write a table of digests."""
    files.write_json(path, {name: list(known) for name, known in table.items()})


def seal_archive(path: Path) -> None:
    """Write the digest of a zip file without a comment into its comment.

    Raises:
        OSError: it cannot be written.
    """
    with open(path, "rb+") as file:
        file.seek(-_END, os.SEEK_END)
        assert file.read(_END).startswith(b"PK\5\6"), "not a zip file, or one with a comment"
        file.seek(-2, os.SEEK_END)
        file.write(struct.pack("<H", _COMMENT))
    digest = of_file(path)
    with open(path, "ab") as file:
        file.write(_MARK + digest.encode())


def is_sealed(path: Path) -> bool | None:
    """Whether an archive is still as it was sealed; None if it bears no seal.

    Raises:
        OSError: it cannot be read.
    """
    with files.open_regular(path) as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - _COMMENT))
        comment = file.read()
    if not comment.startswith(_MARK):
        return None
    return _of_first(path, size - _COMMENT) == comment[len(_MARK) :].decode("ascii", "replace")


def _of_any(path: Path) -> str | None:
    try:
        return of_file(path)
    except OSError:
        return None


def _of_first(path: Path, size: int | None) -> str:
    """The digest of a file's first `size` bytes; None for all."""
    digest = hashlib.blake2b(digest_size=_SIZE)
    left = float("inf") if size is None else size
    with files.open_regular(path) as file:
        while data := file.read(int(min(_PIECE, left))):
            digest.update(data)
            left -= len(data)
    return digest.hexdigest()
