"""3D-Speaker's dialects: Standard Mandarin and thirteen dialects of Chinese, recorded by many devices.

Zheng et al.: 3D-Speaker: A Large-Scale Multi-Device, Multi-Distance, and Multi-Dialect Corpus for Speech Representation
Disentanglement, 2023 (arXiv:2306.15354). The layout is that of the official archives: the folds `train/` and `test/`,
with one folder per speaker, and file names such as `3D_SPK_06154/3D_SPK_06154_001_Device03_Distance00_Dialect00.wav`.
Each utterance is recorded by several devices, and each speaker says many: a group is a speaker.

The authors' own lists for this task, `lid_train_wav.scp` and `lid_test_wav.scp`, name a part of the sound files; a line
is a key and a path relative to `root`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

from soundbench.contracts import Clip
from soundbench.errors import DataError, MissingDataError
from soundbench_plugins.layers.sound_files import sounds_below
from soundbench_plugins.layers.tables import opened

__all__ = ["Dialects3DSpeaker"]

_FOLDS = ("train", "test")


class Dialects3DSpeaker:
    """Fourteen dialects of Chinese (Zheng et al., 2023), folds `train` and `test`; a group is a speaker.

    Args:
        root: the folder that holds `train/` and `test/`.
        lists: the folder of the authors' `lid_train_wav.scp` and `lid_test_wav.scp`; by default every sound file in the
            two folders is used.
    """

    multilabel = False
    classes: ClassVar[tuple[str, ...]] = (
        *("standard-mandarin", "xiang", "wu", "southwestern-mandarin", "jianghuai-mandarin", "hakka"),
        *("central-plains-mandarin", "yue", "gan", "jin", "min", "liaojiao-mandarin", "jilu-mandarin"),
        "northern-mandarin",
    )

    def __init__(self, *, root: Path = Path("data/3dspeaker"), lists: Path | None = None) -> None:
        self.root, self.lists = Path(root), lists and Path(lists)

    @classmethod
    def example(cls, folder: Path) -> Mapping[str, Any]:
        """The layout with one placeholder file per dialect and fold."""
        for number in range(2 * len(cls.classes)):
            fold, speaker = _FOLDS[number % 2], f"3D_SPK_{number:05d}"
            path = folder / fold / speaker / f"{speaker}_001_Device01_Distance00_Dialect{number // 2:02d}.wav"
            path.parent.mkdir(parents=True)
            path.write_bytes(b"sound")
        return {"root": folder}

    def clips(self) -> Iterator[Clip]:
        """The clips of the training fold, then of the test fold, in the order of folders or lists.

        Raises:
            MissingDataError: the root, one of its folders, a list, or a sound file that it names does not exist.
            DataError: a file name without a valid dialect, or an invalid line in a list.
        """
        if not self.root.is_dir():
            raise MissingDataError(
                f"{self.root}: no such folder; dataset.root must be the folder of 3D-Speaker (train/, test/)"
            )
        for fold in _FOLDS:
            source = self.root / fold if self.lists is None else self.lists / f"lid_{fold}_wav.scp"
            path = None
            for path in self._below(source) if self.lists is None else self._listed(source):
                yield self._clip(path, fold)
            if path is None:
                raise MissingDataError(f"{source}: no sound files in it")

    def _below(self, folder: Path) -> Iterator[str]:
        """The sound files in a fold's folder."""
        if not folder.is_dir():
            raise MissingDataError(f"{self.root}: not 3D-Speaker: no {folder.name}/")
        return sounds_below(str(folder))

    def _listed(self, table: Path) -> Iterator[str]:
        """The sound files that one of the authors' lists names."""
        if not table.is_file():
            raise MissingDataError(f"{table}: no such file; dataset.lists must be the folder that contains it")
        with opened(table) as file:
            for number, line in enumerate(file, 1):
                _, _, name = line.strip().partition(" ")
                if not name:
                    raise DataError(f"{table}, line {number}: must be a key and a path")
                path = self.root / name.strip()
                if not path.is_file():
                    raise MissingDataError(f"{path}: no such file; {table.name} names it in line {number}")
                yield str(path)

    def _clip(self, path: str, fold: str) -> Clip:
        """The clip that a file name describes."""
        speaker = os.path.basename(os.path.dirname(path))
        found = re.fullmatch(rf"{re.escape(speaker)}_\w+_Dialect(\d\d)\.\w+", os.path.basename(path))
        if not found or int(found[1]) >= len(self.classes):
            example = "3D_SPK_00001/3D_SPK_00001_001_..._Dialect00.wav"
            raise DataError(f"{path}: not a file name of 3D-Speaker, such as {example}")
        return Clip(path, (self.classes[int(found[1])],), fold=fold, group=speaker)
