"""Find files by paths, addresses and patterns; and what changes whenever a file does."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Container, Sequence
from functools import partial
from pathlib import Path

from soundbench.errors import DataError, MissingDataError
from soundbench.sources.remote import HERE, about, is_remote, named, patiently, place

__all__ = ["find_files", "shard_of", "state_of"]

# What file systems of fsspec say of a file that changes with it.
_STATES = (
    *("size", "mtime", "created", "modified", "updated", "LastModified", "last_modified", "Last-Modified"),
    *("modify", "modifiedTime", "modificationTime", "last_write_time"),
    *("etag", "ETag", "md5Hash", "md5Checksum", "Content-MD5", "Digest", "blob_id", "sha"),
)
_MAGIC = re.compile(r"[*?]")
_BRACES = re.compile(r"\{(?:(\d{1,6})\.\.(\d{1,6})|([^{}]*,[^{}]*))\}")


def find_files(root: Path, patterns: Sequence[str]) -> list[str]:
    """The files that patterns name, each once: absolute paths, and addresses.

    Args:
        root: the folder of relative paths.
        patterns: paths and addresses, with `{000..127}`, `{a,b}`, `*`, `?` and `**`; those that `*`, `?` and `**` find
            are sorted.

    Raises:
        MissingDataError: no file is of a pattern.
        DataError: a place elsewhere cannot be read.
    """
    found: list[str] = []
    for pattern in (one for given in patterns for one in _expanded(given)):
        if not _MAGIC.search(pattern.partition("?")[0] if pattern.startswith("http") else pattern):  # ? begins a query
            own = [pattern if is_remote(pattern) else os.path.abspath(root / pattern)]
        elif is_remote(pattern):
            own = sorted(patiently(pattern, partial(_listed, pattern)))
        else:
            whole = os.path.join(glob.escape(str(root)), _plain_brackets(pattern))
            own = sorted(os.path.abspath(path) for path in glob.glob(whole, recursive=True))
        if not own:
            raise MissingDataError(f"{pattern if is_remote(pattern) else root / pattern}: there are no such files")
        found += own
    return list(dict.fromkeys(found))


def state_of(name: str) -> str:
    """What changes whenever a file does: its size and times, or what a server says in their place.

    Raises:
        MissingDataError: it does not exist.
        DataError: it cannot be looked at, or nothing is known of it that would change.
    """
    if is_remote(name):
        found = patiently(name, partial(about, name))
        said = " ".join(f"{key}={found[key]}" for key in _STATES if found.get(key) is not None)
        if not said:
            raise DataError(f"{name}: its server says neither its size nor when it changed; {HERE}")
        return said
    with named(name):
        state = os.stat(name)
    return f"size={state.st_size} mtime={state.st_mtime_ns}"


def _listed(pattern: str) -> list[str]:
    """The addresses that a pattern is of."""
    filesystem, path = place(pattern)
    return [str(filesystem.unstrip_protocol(one)) for one in filesystem.glob(_plain_brackets(path))]


def _plain_brackets(pattern: str) -> str:
    """A pattern for `glob` in which brackets are those of names."""
    return pattern.replace("[", "[[]")


def _expanded(pattern: str) -> list[str]:
    """The patterns that one with `{000..127}` or `{a,b}` stands for, in order."""
    found = _BRACES.search(pattern)
    if not found:
        return [pattern]
    first, last, names = found.groups()
    if names is not None:
        inside = names.split(",")
    else:
        numbers = range(int(first), int(last) + 1) if int(first) <= int(last) else range(int(first), int(last) - 1, -1)
        width = len(first) if first.startswith("0") else 0
        inside = [f"{number:0{width}d}" for number in numbers]
    return [whole for one in inside for whole in _expanded(pattern[: found.start()] + one + pattern[found.end() :])]


def shard_of(path: str, shards: Container[str]) -> str | None:
    """The shard that the path of a clip is in; None if it is in none."""
    end = path.rfind("/")
    while end > 0:
        if path[:end] in shards:
            return path[:end]
        end = path.rfind("/", 0, end)
    return None
