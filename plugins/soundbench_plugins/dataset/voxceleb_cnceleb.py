"""VoxCeleb and CN-Celeb: two languages, English and Chinese, each from a set of celebrities' speech.

Nagrani et al.: VoxCeleb: Large-scale speaker verification in the wild, Computer Speech & Language 2020; Fan et al.:
CN-Celeb: A Challenging Chinese Speaker Recognition Dataset, ICASSP 2020. A speaker's folder is named `id` and five
digits, at any depth; all sound files below it are of this speaker:

| set | example |
|---|---|
| VoxCeleb1 | `dev/wav/id10001/1zcIwhmdeo4/00001.wav`, `test/wav/id10270/...` |
| VoxCeleb2 | `dev/aac/id00012/21Uxsk56VDQ/00001.m4a` (needs the extra `av`) |
| CN-Celeb 1 and 2 | `data/id00000/singing-01-001.flac`; `eval/` has no folders of speakers and is left out |

The sets have no folds; a group is a speaker, with all of the speaker's videos. Both sets use the same ids for different
people, so the name of a group begins with its set.

What a result means: each language comes from only one set, so whatever distinguishes the sets, such as recording
channels, also distinguishes the languages. A result says nothing about speech from other sources. VoxCeleb is not only
English.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

from soundbench.contracts import Clip
from soundbench.errors import MissingDataError
from soundbench_plugins.layers.sound_files import listed, sounds_below

__all__ = ["VoxCelebCNCeleb"]

_SPEAKER = re.compile(r"id\d{5}")


class VoxCelebCNCeleb:
    """Chinese from CN-Celeb and English from VoxCeleb; a group is a speaker.

    Args:
        cnceleb: the folder of CN-Celeb 1, CN-Celeb 2, or both.
        voxceleb: the folder of VoxCeleb1, VoxCeleb2, or both.
    """

    multilabel = False
    classes: ClassVar[tuple[str, ...]] = ("chinese", "english")

    def __init__(self, *, cnceleb: Path = Path("data/CN-Celeb_flac"), voxceleb: Path = Path("data/VoxCeleb1")) -> None:
        self.roots = {"cnceleb": Path(cnceleb), "voxceleb": Path(voxceleb)}

    @staticmethod
    def example(folder: Path) -> Mapping[str, Any]:
        """Both layouts with placeholder files."""
        for name in ("cn/data/id00000/singing-01-001.flac", "vox/dev/wav/id10001/1zcIwhmdeo4/00001.wav"):
            path = folder / name
            path.parent.mkdir(parents=True)
            path.write_bytes(b"sound")
        return {"cnceleb": folder / "cn", "voxceleb": folder / "vox"}

    def clips(self) -> Iterator[Clip]:
        """The clips of one speaker after another, first those of CN-Celeb.

        Raises:
            MissingDataError: a root does not exist, or contains no speaker, or a speaker has no sound file.
        """
        for (key, root), label in zip(self.roots.items(), self.classes, strict=True):
            if not root.is_dir():
                raise MissingDataError(f"{root}: no such folder; dataset.{key} must be the folder of that set")
            speaker = None
            for speaker in _speakers(str(root)):
                sound = None
                for sound in sounds_below(speaker):
                    yield Clip(sound, (label,), group=f"{key}/{os.path.basename(speaker)}")
                if sound is None:
                    raise MissingDataError(f"{speaker}: no sound file of this speaker")
            if speaker is None:
                raise MissingDataError(f"{root}: no folder of a speaker in it, such as id00001; see dataset.{key}")


def _speakers(folder: str) -> Iterator[str]:
    """The folders of speakers below a folder, in order."""
    for name in listed(folder)[0]:
        path = os.path.join(folder, name)
        if _SPEAKER.fullmatch(name):
            yield path
        else:
            yield from _speakers(path)
