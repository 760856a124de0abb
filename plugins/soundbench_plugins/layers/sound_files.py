"""The sound files below a folder, in an order that is the same on every machine.

Files in any depth that end as sound files do; what begins with a dot is left out, links are followed.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from soundbench.audio import SUFFIXES
from soundbench.errors import DataError, MissingDataError

__all__ = ["listed", "sounds_below", "sounds_of"]


def sounds_of(folder: Path, key: str) -> list[str]:
    """The sounds below a folder, each folder's sorted by name, its own before those below it.

    Args:
        folder: where to look.
        key: which option names it, such as `noise.folder`, for messages.

    Raises:
        MissingDataError: there is no such folder, or no sound in it.
        DataError: a folder that may not be read.
    """
    if not folder.is_dir():
        raise MissingDataError(f"{folder}: no such folder; {key} must be a folder of sound files")
    found = list(sounds_below(str(folder)))
    if not found:
        raise MissingDataError(f"{folder}: no sound file in this folder; known: {', '.join(sorted(SUFFIXES))}")
    return found


def sounds_below(folder: str, above: frozenset[str] = frozenset()) -> Iterator[str]:
    """The sounds below a folder; `above` are the real paths it was reached by, so that a link into one ends there."""
    real = os.path.realpath(folder)
    if real in above:
        return
    folders, sounds = listed(folder)
    yield from (os.path.join(folder, name) for name in sounds)
    for name in folders:
        yield from sounds_below(os.path.join(folder, name), above | {real})


def listed(folder: str) -> tuple[list[str], list[str]]:
    """The names of the folders and of the sounds in a folder, each sorted.

    Raises:
        DataError: it may not be read.
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
