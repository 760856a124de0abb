"""Writing a manifest from a folder of class folders: a start for what only its owner knows, the groups."""

from __future__ import annotations

import csv
import io
import os
from pathlib import Path

from soundbench.errors import DataError, MissingDataError
from soundbench.data.sound_files import find_sounds

__all__ = ["manifest_of"]


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
