"""Paths, folders and globs become the sound files they mean."""

from __future__ import annotations

import glob
from collections.abc import Sequence
from pathlib import Path

from soundbench.audio import SUFFIXES
from soundbench.errors import MissingDataError

__all__ = ["find_sounds"]


def find_sounds(paths: Sequence[str]) -> list[Path]:
    """The files that `paths` name: a file itself, the sounds below a folder, what a glob matches; each once, in order.

    A path that is not there stays in the list, for whoever opens it to say so without losing the others.

    Raises:
        MissingDataError: a folder without a sound.
    """
    found: dict[Path, None] = {}
    for text in paths:
        path = Path(text)
        if path.is_dir():
            matches = sorted(file for file in path.rglob("*") if _is_sound(file))
            if not matches:
                raise MissingDataError(f"{text}: no sound file in this folder; known: {', '.join(sorted(SUFFIXES))}")
        elif path.exists():
            matches = [path]
        else:
            matches = sorted(Path(match) for match in glob.glob(text, recursive=True) if Path(match).is_file())
            matches = matches or [path]
        found.update(dict.fromkeys(matches))
    return list(found)


def _is_sound(file: Path) -> bool:
    return file.suffix.lower() in SUFFIXES and not file.name.startswith(".") and file.is_file()
