"""VoxCeleb and CN-Celeb: two languages, English and Chinese, each from a set of celebrities' speech.

Nagrani et al.: VoxCeleb: Large-scale speaker verification in the wild, Computer Speech & Language 2020; Fan et al.:
CN-Celeb: A Challenging Chinese Speaker Recognition Dataset, ICASSP 2020. A speaker's folder is called `id` and five
digits, in any depth; all sounds below it are his or hers:

| set | such as |
|---|---|
| VoxCeleb1 | `dev/wav/id10001/1zcIwhmdeo4/00001.wav`, `test/wav/id10270/...` |
| VoxCeleb2 | `dev/aac/id00012/21Uxsk56VDQ/00001.m4a` (needs the extra `av`) |
| CN-Celeb 1 and 2 | `data/id00000/singing-01-001.flac`; `eval/` has no folders of speakers and is left out |

The sets have no folds; a group is a speaker, all videos of whom stay together. Ids recur from set to set, for different
people, so a group bears its set's name.

What a score means: each language comes from one set alone, so that whatever tells the sets apart, such as their
channels, will do to tell the languages, and nothing is said of speech from elsewhere. VoxCeleb is not English alone.
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
    """Chinese of CN-Celeb and English of VoxCeleb; a group is a speaker.

    Args:
        cnceleb: the folder that CN-Celeb lies in, of the first or second part, or of both.
        voxceleb: the folder that VoxCeleb lies in, likewise.
    """

    multilabel = False
    classes: ClassVar[tuple[str, ...]] = ("chinese", "english")

    def __init__(self, *, cnceleb: Path = Path("data/CN-Celeb_flac"), voxceleb: Path = Path("data/VoxCeleb1")) -> None:
        self.roots = {"cnceleb": Path(cnceleb), "voxceleb": Path(voxceleb)}

    @staticmethod
    def example(folder: Path) -> Mapping[str, Any]:
        """Both layouts, their sounds as good as empty."""
        for name in ("cn/data/id00000/singing-01-001.flac", "vox/dev/wav/id10001/1zcIwhmdeo4/00001.wav"):
            path = folder / name
            path.parent.mkdir(parents=True)
            path.write_bytes(b"sound")
        return {"cnceleb": folder / "cn", "voxceleb": folder / "vox"}

    def clips(self) -> Iterator[Clip]:
        """The sounds of one speaker after another, first the Chinese.

        Raises:
            MissingDataError: a root, any speaker in it, or any sound of a speaker's is not there.
        """
        for (key, root), label in zip(self.roots.items(), self.classes, strict=True):
            if not root.is_dir():
                raise MissingDataError(f"{root}: no such folder; dataset.{key} must be where that set lies")
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
