"""Sound files: those that paths, folders and globs name, and a manifest of those in class folders."""

from __future__ import annotations

import csv
import glob
import io
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from soundbench.audio import SUFFIXES
from soundbench.errors import DataError, MissingDataError

__all__ = ["find_sounds", "manifest_of"]


def find_sounds(paths: Sequence[str]) -> list[Path]:
    """The files that `paths` name: a file itself, the sounds below a folder, what a glob matches; each once, in order.

    Folders are searched in any depth and through links, but for what begins with a dot. A path that is not there stays
    in the list, for whoever opens it to say so without losing the others. `-` stands for a list on standard input, a
    path of any of these kinds a line.

    Raises:
        MissingDataError: a folder without a sound, or a list without a path.
        DataError: a folder that may not be read.
    """
    found: dict[Path, None] = {}
    for text in _listed(paths):
        path = Path(text)
        if path.is_dir():
            matches = sorted(_below(path, frozenset()))
            if not matches:
                raise MissingDataError(f"{text}: no sound file in this folder; known: {', '.join(sorted(SUFFIXES))}")
        elif path.exists():
            matches = [path]
        else:
            matches = sorted(Path(match) for match in glob.glob(text, recursive=True) if Path(match).is_file())
            matches = matches or [path]
        found.update(dict.fromkeys(matches))
    return list(found)


def _listed(paths: Sequence[str]) -> Iterator[str]:
    """The paths, and in the place of `-` those on standard input."""
    for text in paths:
        if text != "-":
            yield text
            continue
        lines = [os.fsdecode(line.rstrip(b"\r\n")) for line in sys.stdin.buffer]
        if not any(lines):
            raise MissingDataError("-: no path on standard input; it is a list of files, a line each")
        yield from filter(None, lines)


def _below(folder: Path, above: frozenset[str]) -> Iterator[Path]:
    """The sounds below a folder; `above` are the real paths it was reached by, so that a link into one ends there."""
    real = os.path.realpath(folder)
    if real in above:
        return
    try:
        names = os.listdir(folder)
    except OSError as error:
        raise DataError(f"{folder}: cannot be read: {error.strerror}") from None
    for name in names:
        path = folder / name
        if name.startswith("."):
            continue
        if path.is_dir():
            yield from _below(path, above | {real})
        elif path.suffix.lower() in SUFFIXES:
            yield path


def manifest_of(folder: Path, base: Path) -> str:
    """A manifest as CSV: path, label, group.

    The label is the folder's name below `folder`. A folder inside it becomes the group of what it holds; a sound that
    lies in the class folder itself has none, which makes it a group of its own.

    Args:
        folder: the folder of class folders.
        base: the folder that the paths in the manifest begin at.

    Raises:
        MissingDataError: no such folder, or no sound in it.
        DataError: sounds that lie in no class folder, or a folder that may not be read.
    """
    if not folder.is_dir():
        raise MissingDataError(f"{folder}: no such folder; a folder of class folders is looked for there")
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["path", "label", "group"])
    for sound in find_sounds([str(folder)]):
        *above, _ = sound.relative_to(folder).parts
        if not above:
            raise DataError(f"{sound}: lies in no class folder; put it into the folder of its class")
        group = "/".join(above) if len(above) > 1 else ""
        table.writerow([Path(os.path.relpath(sound, base)).as_posix(), above[0], group])
    return text.getvalue()
