"""Find sound files by paths, folders and globs, and write a manifest of class folders."""

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
    """Find the sound files for `paths`: files, folders and globs; each file once, in order.

    Folders are searched recursively and through links, except for names that start with a dot. A path that does not
    exist stays in the list, so that opening it reports the error without losing the others. `-` stands for paths on
    standard input, one per line.

    Raises:
        MissingDataError: a folder without sound files, no paths on standard input, or what is no path.
        DataError: a folder that cannot be read.
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
    """The paths; `-` is replaced by those on standard input."""
    for text in paths:
        if text != "-":
            yield _without_nul(text)
            continue
        lines = [os.fsdecode(line.rstrip(b"\r\n")) for line in sys.stdin.buffer]
        if not any(lines):
            raise MissingDataError("-: no paths on standard input; give one path per line")
        yield from (_without_nul(line) for line in lines if line)


def _without_nul(path: str) -> str:
    if "\0" in path:
        raise MissingDataError(f"{path[:80]}: no path has a NUL character; give one path per line, as find -print does")
    return path


def _below(folder: Path, above: frozenset[str]) -> Iterator[Path]:
    """The sound files below a folder; `above` are the real paths of its parents, to stop at loops of links."""
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

    The label is the name of the class folder. A folder inside it is the group of the files in it; the group of a file
    directly in the class folder is empty, so that the file is its own group.

    Args:
        folder: the folder with one folder per class.
        base: the folder that the paths in the manifest are relative to.

    Raises:
        MissingDataError: no such folder, or no sound files in it.
        DataError: sound files outside of class folders, or a folder that cannot be read.
    """
    if not folder.is_dir():
        raise MissingDataError(f"{folder}: no such folder; expected a folder with one folder per class")
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["path", "label", "group"])
    for sound in find_sounds([str(folder)]):
        *above, _ = sound.relative_to(folder).parts
        if not above:
            raise DataError(f"{sound}: is not in a class folder; move it into the folder of its class")
        group = "/".join(above) if len(above) > 1 else ""
        table.writerow([Path(os.path.relpath(sound, base)).as_posix(), above[0], group])
    return text.getvalue()
