"""Speech Commands v2: 105,829 utterances of at most one second, of 35 English words, by 2,618 speakers.

Warden: Speech Commands: A Dataset for Limited-Vocabulary Speech Recognition, 2018 (arXiv:1804.03209). The layout is
that of the official archive: one folder per word, `validation_list.txt`, `testing_list.txt`, and `_background_noise_`,
which is left out. The lists are the folds: `test`, `validation`, and `train` for files in neither. They were drawn by a
hash of the speaker, the part of a file's name before `_nohash_`, so that no speaker is in two of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

from soundbench.contracts import Clip
from soundbench.errors import DataError, MissingDataError
from soundbench_plugins.layers.tables import opened

__all__ = ["SpeechCommands"]

_LISTS = {"validation": "validation_list.txt", "test": "testing_list.txt"}


class SpeechCommands:
    """Thirty-five spoken words (Warden, 2018), folds `train`, `validation` and `test`; a group is a speaker.

    Args:
        root: the folder that contains the folders of the words and the two lists.
    """

    multilabel = False
    title = "Speech Commands"
    license = "CC-BY-4.0"
    classes: ClassVar[tuple[str, ...]] = (
        *("backward", "bed", "bird", "cat", "dog", "down", "eight", "five", "follow", "forward", "four", "go"),
        *("happy", "house", "learn", "left", "marvin", "nine", "no", "off", "on", "one", "right", "seven", "sheila"),
        *("six", "stop", "three", "tree", "two", "up", "visual", "wow", "yes", "zero"),
    )

    def __init__(self, *, root: Path = Path("data/speech_commands_v0.02")) -> None:
        self.root = Path(root)

    @classmethod
    def example(cls, folder: Path) -> Mapping[str, Any]:
        """The layout with one placeholder file per word and fold."""
        for word in cls.classes:
            (folder / word).mkdir()
            for speaker in ("0a000000", "0b000000", "0c000000"):
                (folder / word / f"{speaker}_nohash_0.wav").write_bytes(b"sound")
        for name, speaker in (("validation_list.txt", "0b000000"), ("testing_list.txt", "0c000000")):
            lines = [f"{word}/{speaker}_nohash_0.wav\n" for word in cls.classes]
            (folder / name).write_text("".join(lines), encoding="utf-8")
        return {"root": folder}

    def clips(self) -> Iterator[Clip]:
        """The clips of one word after another, those of each word sorted by name.

        Raises:
            MissingDataError: a list, the folder of a word, or a sound file that a list names does not exist.
            DataError: a sound file is on both lists.
        """
        folds = self._folds()
        for word in self.classes:
            folder = self.root / word
            names = sorted(path.name for path in folder.iterdir() if path.suffix == ".wav") if folder.is_dir() else []
            if not names:
                raise MissingDataError(f"{folder}: no sound files of this word; Speech Commands v2 has 35 words")
            for name in names:
                fold = folds.pop(f"{word}/{name}", "train")
                yield Clip(str(folder / name), (word,), fold=fold, group=name.partition("_nohash_")[0])
        if folds:
            first, fold = next(iter(folds.items()))
            raise MissingDataError(f"{self.root / first}: no such file; missing files of the lists: {len(folds)}")

    def _folds(self) -> dict[str, str]:
        """The fold of every sound file that a list names."""
        if not self.root.is_dir():
            raise MissingDataError(
                f"{self.root}: no such folder; dataset.root must be the folder of Speech Commands (bed/, bird/, ...)"
            )
        folds = dict[str, str]()
        for fold, name in _LISTS.items():
            path = self.root / name
            if not path.is_file():
                raise MissingDataError(f"{self.root}: not Speech Commands: no {name}")
            with opened(path) as text:
                lines = text.read().split()
            for line in lines:
                if folds.setdefault(line, fold) != fold:
                    raise DataError(f"{path}: {line} is also in {_LISTS[folds[line]]}")
        return folds
