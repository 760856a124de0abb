"""The sound files below a folder, in the same order on every machine.

Files with the suffix of a sound file at any depth; names that begin with a dot are left out, links are followed.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from soundbench.audio import SUFFIXES
from soundbench.errors import DataError, MissingDataError

__all__ = ["listed", "sounds_below", "sounds_of"]


def sounds_of(folder: Path, key: str) -> list[str]:
    """The sound files below a folder, sorted by name; those directly in a folder come before those of its subfolders.

    Args:
        folder: where to look.
        key: the option that names the folder, such as `noise.folder`, for messages.

    Raises:
        MissingDataError: the folder does not exist, or contains no sound file.
        DataError: a folder cannot be read.
    """
    if not folder.is_dir():
        raise MissingDataError(f"{folder}: no such folder; {key} must be a folder of sound files")
    found = list(sounds_below(str(folder)))
    if not found:
        raise MissingDataError(f"{folder}: no sound file in this folder; known: {', '.join(sorted(SUFFIXES))}")
    return found


def sounds_below(folder: str, above: frozenset[str] = frozenset()) -> Iterator[str]:
    """The sound files below a folder; `above` are the real paths of its parents, which links must not enter again."""
    real = os.path.realpath(folder)
    if real in above:
        return
    folders, sounds = listed(folder)
    yield from (os.path.join(folder, name) for name in sounds)
    for name in folders:
        yield from sounds_below(os.path.join(folder, name), above | {real})


def listed(folder: str) -> tuple[list[str], list[str]]:
    """The names of the folders and of the sound files in a folder, each sorted.

    Raises:
        DataError: the folder cannot be read.
    """
    folders, sounds = list[str](), list[str]()
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                if entry.is_dir():
                    folders.append(entry.name)
                elif os.path.splitext(entry.name)[1].lower() in SUFFIXES:
                    sounds.append(entry.name)
    except OSError as error:
        raise DataError(f"{folder}: cannot be read: {error.strerror}") from None
    return sorted(folders), sorted(sounds)
