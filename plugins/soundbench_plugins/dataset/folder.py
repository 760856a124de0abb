"""Folder: your own sound files, one folder per class.

The classes are the folders in `root`, sorted by character codes in one Unicode form (NFC), independent of the machine's
language and of the form in which its file system keeps names. The clips of a
class are the files with the suffix of a sound file at any depth below its folder; names that begin with a dot are left
out, links are followed. Each file is its own group: if several files were cut from one recording, use a manifest.
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from soundbench.audio import SUFFIXES
from soundbench.contracts import Clip
from soundbench.errors import DataError, MissingDataError
from soundbench_plugins.layers.sound_files import listed, sounds_below

__all__ = ["Folder"]

_PARTS = frozenset(("train", "training", "val", "valid", "validation", "dev", "test", "testing", "eval", "evaluation"))


class Folder:
    """Your own sound files: one folder per class, sorted by name; each file is its own group.

    Args:
        root: the folder that holds the class folders.
    """

    multilabel = False

    def __init__(self, *, root: Path) -> None:
        self.root = Path(root)

    @staticmethod
    def example(folder: Path) -> Mapping[str, Any]:
        """Two classes of placeholder files, one of them in two folders."""
        for name in ("cat/1.wav", "dog/a/1.wav", "dog/b/2.flac"):
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"sound")
        return {"root": folder}

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the folders in the root, sorted.

        Raises:
            MissingDataError: the root does not exist, or contains no folder.
            DataError: there are sound files beside the folders, or the folders are folds.
        """
        if not self.root.is_dir():
            raise MissingDataError(f"{self.root}: no such folder; dataset.root must be a folder of class folders")
        folders, sounds = listed(str(self.root))
        if sounds:
            raise DataError(
                f"{self.root}: {len(sounds)} sound files directly in it belong to no class, such as {sounds[0]}; "
                "put each into the folder of its class"
            )
        if not folders:
            raise MissingDataError(f"{self.root}: no class folders in it; it must contain one folder per class")
        if all(re.fullmatch(r"fold[-_ ]?\d+", name, re.IGNORECASE) for name in folders):
            raise DataError(
                f"{self.root}: the folders in it ({', '.join(folders[:3])}, ...) are folds, not classes; "
                "use the dataset's own plugin, such as urbansound8k, or a manifest"
            )
        if all(name.casefold() in _PARTS for name in folders):
            raise DataError(
                f"{self.root}: the folders in it ({', '.join(folders)}) are parts of a split, not classes; list the "
                "files in a manifest with the columns path, label and fold"
            )
        return tuple(sorted(folders, key=lambda name: unicodedata.normalize("NFC", name)))

    def clips(self) -> Iterator[Clip]:
        """The clips of one class after another, those of each folder sorted by name.

        Raises:
            DataError: a class folder contains no sound file, or a folder cannot be read.
        """
        empty = []
        for label in self.classes:
            count = 0
            for path in sounds_below(os.path.join(self.root, label)):
                count += 1
                yield Clip(path, (label,))
            if not count:
                empty.append(label)
        if empty:
            raise DataError(
                f"{self.root}: no sound file in {len(empty)} of {len(self.classes)} class folders: "
                f"{', '.join(empty[:5])}{', ...' if len(empty) > 5 else ''}; known: {', '.join(sorted(SUFFIXES))}"
            )
