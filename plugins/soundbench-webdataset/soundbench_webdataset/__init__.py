"""Sound in tar shards, as the library webdataset writes them, read where it lies: nothing is unpacked.

    train-000.tar
        dog/1.flac    a sound
        dog/1.json    {"label": "dog", "group": "recording 7", "fold": 3, "site": "north"}
        ...

A shard is read twice: once for the labels (only headers and JSON are looked at, where the place allows it), and once
for the sound, from its beginning to its end.
"""

from __future__ import annotations

import io
import tarfile
import wave
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from soundbench import audio
from soundbench.contracts import Clip
from soundbench.errors import DataError, SoundError
from soundbench.sources import find_files, open_source, shard_of, state_of
from soundbench_webdataset.listing import Labels, Listing, Member, listing

__all__ = ["WebDataset"]

Sound = tuple[np.ndarray, int]

_AT_ONCE = 8  # shards that are looked through at once: those elsewhere are waited for


class WebDataset:
    """Sounds and JSON in tar shards (WebDataset), in a folder or at addresses that fsspec knows (http, s3, ...).

    Args:
        shards: the shards: paths, addresses and patterns, such as "train-{000..127}.tar" or "https://host/a.tar"; by
            default all "*.tar" of `root`.
        root: the folder of relative paths.
        label: the key of a clip's label in its JSON, or of the list of its labels.
        multilabel: whether a clip may have several labels.
        group: the key of a clip's group. By default "group", where there is one.
    """

    threads = True
    fingerprint = "tar 1"

    def __init__(
        self,
        *,
        shards: list[str] | None = None,
        root: Path = Path(),
        label: str = "label",
        multilabel: bool = False,
        group: str | None = None,
    ) -> None:
        if shards is not None and not all(shards):
            raise ValueError("shards must be paths, addresses or patterns, none empty")
        if shards is not None and not shards:
            raise ValueError("shards must name at least one shard, or be left out for all *.tar of root")
        if not label:
            raise ValueError("label must be the key of the labels, is empty")
        self.patterns, self.root = shards or ["*.tar"], Path(root)
        self.keys, self.multilabel = Labels(label, multilabel, group), multilabel
        self._listed: dict[str, Listing] | None = None

    @staticmethod
    def example(folder: Path) -> Mapping[str, Any]:
        """Two shards of two short sounds each."""
        for number, name in enumerate(("a.tar", "b.tar")):
            with tarfile.open(folder / name, "w") as tar:
                for label in ("cat", "dog"):
                    _add(tar, f"{label}{number}.wav", _tone(100 * (number + len(label))))
                    _add(tar, f"{label}{number}.json", f'{{"label": "{label}", "fold": {number}}}'.encode())
        return {"root": folder}

    @property
    def classes(self) -> tuple[str, ...]:
        """The labels of all clips, sorted."""
        return tuple(sorted({label for member in self._members() for label in member.labels}))

    def clips(self) -> Iterator[Clip]:
        """The clips of one shard after another, in the order of their sounds.

        Raises:
            MissingDataError: a shard does not exist.
            DataError: a shard cannot be read, or what it holds is wrong.
        """
        for shard in self._listings().values():
            for member in shard.members.values():
                path = f"{shard.name}/{member.name}"
                yield Clip(path, member.labels, fold=member.fold, group=member.group, extra=member.extra)

    def shards(self) -> Mapping[str, str]:
        """The shards and their states, as they were when they were looked through."""
        return {shard.name: shard.state for shard in self._listings().values()}

    def read(self, clip: Clip) -> Sound:
        """The sound of one clip."""
        for sound in self._read([clip], seeks=True):
            if isinstance(sound, SoundError):
                raise sound
            return sound
        raise SoundError(clip.path, "it is in none of the shards")

    def read_many(self, clips: Sequence[Clip]) -> Iterator[Sound | SoundError]:
        """The sounds of clips of one shard."""
        return self._read(clips, seeks=False)

    def _read(self, clips: Sequence[Clip], seeks: bool) -> Iterator[Sound | SoundError]:
        shard = self._shard(clips[0].path)
        if state_of(shard.name) != shard.state:
            raise DataError(f"{shard.name}: it has changed since it was looked through; start again")
        with open_source(shard.name, seeks) as file:
            for clip in clips:
                member = shard.members.get(clip.path[len(shard.name) + 1 :])
                if member is None:
                    yield SoundError(clip.path, "it is not in its shard")
                else:
                    yield _decoded(clip, file, member)

    def _shard(self, path: str) -> Listing:
        """The shard of a clip's path."""
        listings = self._listings()
        name = shard_of(path, listings)
        if name is None:
            raise SoundError(path, "it is in none of the shards")
        return listings[name]

    def _listings(self) -> dict[str, Listing]:
        """What the shards hold; they are looked through once."""
        if self._listed is None:
            names = find_files(self.root, self.patterns)
            with ThreadPoolExecutor(_AT_ONCE) as threads:
                found = list(threads.map(lambda name: listing(name, self.keys), names))
            self._listed = {shard.name: shard for shard in found}
        return self._listed

    def _members(self) -> Iterator[Member]:
        for shard in self._listings().values():
            yield from shard.members.values()


def _decoded(clip: Clip, file: BinaryIO, member: Member) -> Sound | SoundError:
    """The sound of a clip in an open shard."""
    file.seek(member.offset)
    try:
        return audio.decode_bytes(file.read(member.size), clip.path, clip.start, clip.stop)
    except SoundError as error:
        return error


def _tone(hertz: int) -> bytes:
    """A WAV file of a twentieth of a second."""
    times = np.arange(400) / 8000
    made = io.BytesIO()
    with wave.open(made, "wb") as file:
        file.setparams((1, 2, 8000, 0, "NONE", ""))
        file.writeframes((8000 * np.sin(2 * np.pi * hertz * times)).astype("<i2").tobytes())
    return made.getvalue()


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    """Add a member to a tar file."""
    about = tarfile.TarInfo(name)
    about.size = len(data)
    tar.addfile(about, io.BytesIO(data))
