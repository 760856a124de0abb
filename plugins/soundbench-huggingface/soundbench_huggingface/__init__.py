"""Sound in the files of Hugging Face datasets, read where it lies, without the library datasets.

Parquet files as on the Hub, and the folders of Arrow files that `datasets.save_to_disk` writes: one row a clip, with a
column of sound that is not decoded, a struct of `bytes` (of a WAV, FLAC, MP3, ... file) and `path`. It is decoded here.
"""

from __future__ import annotations

import io
import json
import os
import re
import wave
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from soundbench import audio, limits
from soundbench.contracts import Clip
from soundbench.errors import DataError, MissingDataError, SoundError
from soundbench.sources import find_files, in_threads, shard_of, state_of
from soundbench_huggingface.tables import About, about, plain, rows_of

__all__ = ["HuggingFace"]

Sound = tuple[np.ndarray, int]

_AT_ONCE = 8  # shards that are looked at at once: those elsewhere are waited for
_OWN = frozenset({"path", "start", "stop", "fold", "group"})  # columns that clips have for something of their own
_SPLIT = re.compile(r"(.+?)-\d{5}-of-\d{5}(-[0-9a-f]+)?\.(parquet|arrow)")


@attrs.frozen
class _Shard:
    """A file.

    Attributes:
        name: its path or address.
        state: what changes whenever it does.
        about: its columns.
        sound: the column of sound.
    """

    name: str
    state: str
    about: About
    sound: str

    @property
    def split(self) -> str | None:
        """The split that its name, or that of its folder, says it is of."""
        folder, name = os.path.split(plain(self.name))
        found = _SPLIT.fullmatch(name)
        if not found or found[1] != "data":
            return found and found[1]
        above = os.path.join(os.path.dirname(folder), "dataset_dict.json")
        return os.path.basename(folder) if os.path.exists(above) else None


class HuggingFace:
    """Sound in Parquet files as on the Hugging Face Hub, or in folders of `datasets.save_to_disk`.

    Args:
        shards: the files: paths, addresses and patterns, such as "data/train-*.parquet" or
            "hf://datasets/NAME/data/*.parquet"; by default all "*.parquet" and "*.arrow" in `root` and its folders.
        root: the folder of relative paths.
        label: the column of a clip's label, or of the list of its labels.
        multilabel: whether a clip may have several labels.
        group: the column of a clip's group. By default "group", if there is one.
        sound: the column of sound. By default the only one there is.
    """

    threads = True
    fingerprint = "arrow 1"

    def __init__(
        self,
        *,
        shards: list[str] | None = None,
        root: Path = Path(),
        label: str = "label",
        multilabel: bool = False,
        group: str | None = None,
        sound: str | None = None,
    ) -> None:
        if shards is not None and not (shards and all(shards)):
            raise ValueError("shards must name at least one file, or be left out for all in root; none may be empty")
        if not label:
            raise ValueError("label must be the column of the labels, is empty")
        self.patterns, self.root, self.multilabel = shards, Path(root), multilabel
        self.label, self.group, self.sound = label, group, sound

    @staticmethod
    def example(folder: Path) -> Mapping[str, Any]:
        """Two Parquet files of two short sounds each."""
        feature = {"label": {"_type": "ClassLabel", "names": ["dog", "cat"]}}
        about = {"huggingface": json.dumps({"info": {"features": feature}})}
        for number, split in enumerate(("train", "test")):
            sounds = [{"bytes": _tone(100 * (2 + number + label)), "path": f"{label}.wav"} for label in (0, 1)]
            table = pa.table({"audio": sounds, "label": [0, 1]}).replace_schema_metadata(about)
            pq.write_table(table, folder / f"{split}-00000-of-00001.parquet")
        return {"root": folder}

    @cached_property
    def classes(self) -> tuple[str, ...]:
        """The names that the files give the numbers of classes, in their order; or else all labels, sorted."""
        shards = list(self._shards.values())
        known = {shard.about.classes.get(self.label, ()): shard.name for shard in shards}
        if len(known) > 1:
            one, other = list(known.values())[:2]
            raise DataError(f"{other}: its column {self.label!r} has other classes than that of {one}")
        return next(iter(known)) or tuple(
            sorted({label for shard in shards for row, *_, labels in self._rows(shard, ()) for label in labels})
        )

    def clips(self) -> Iterator[Clip]:
        """The clips of one file after another, row by row; their fold is the split that the file is of.

        Raises:
            MissingDataError: a file does not exist.
            DataError: a file cannot be read, or a column or a label is missing.
        """
        for shard in self._shards.values():
            columns = shard.about.columns
            group = self.group or "group"
            more = [
                name for name, kind in columns.items() if _is_plain(kind) and name not in _OWN | {self.label, group}
            ]
            asked = [name for name in ("fold", group) if name in columns]
            for row, values, labels in self._rows(shard, (*asked, *more)):
                texts = {name: str(value) for name, value in values.items() if value is not None and str(value)}
                fold = texts.pop("fold", shard.split)
                yield Clip(
                    f"{shard.name}/{row}",
                    labels,
                    fold=int(fold) if fold and fold.isdecimal() and len(fold) <= limits.DIGITS else fold,
                    group=texts.pop(group, None),
                    extra=texts,
                )

    def shards(self) -> Mapping[str, str]:
        """The files, and their states as they were when they were looked at, with the column of sound."""
        return {shard.name: f"{shard.state} sound={shard.sound}" for shard in self._shards.values()}

    def read(self, clip: Clip) -> Sound:
        """The sound of one clip."""
        for sound in self.read_many([clip]):
            if isinstance(sound, SoundError):
                raise sound
            return sound
        raise SoundError(clip.path, "it is in none of the files")

    def read_many(self, clips: Sequence[Clip]) -> Iterator[Sound | SoundError]:
        """The sounds of clips of one file."""
        name = shard_of(clips[0].path, self._shards)
        if name is None:
            raise SoundError(clips[0].path, "it is in none of the files")
        shard = self._shards[name]
        if state_of(name) != shard.state:
            raise DataError(f"{name}: it has changed since it was looked at; start again")
        rows = [_row_of(clip.path[len(name) + 1 :]) for clip in clips]
        found: dict[int, Any] = {}
        stream = rows_of(name, [shard.sound], sorted(set(rows)))
        for clip, row in zip(clips, rows, strict=True):
            while row not in found and (following := next(stream, None)):
                found[following[0]] = following[1][0]
            yield _decoded(clip, found.pop(row)) if row in found else SoundError(clip.path, "it is not in its file")

    @cached_property
    def _shards(self) -> dict[str, _Shard]:
        """The files; they are looked at once."""
        names = find_files(self.root, self.patterns) if self.patterns else self._all()
        return {shard.name: shard for shard in in_threads(self._look, names, _AT_ONCE)}

    def _all(self) -> list[str]:
        """All files in the root, but those that the library datasets keeps of what it has computed."""
        found: list[str] = []
        for pattern in ("**/*.parquet", "**/*.arrow"):
            try:
                found += find_files(self.root, [pattern])
            except MissingDataError:
                continue
        names = [name for name in found if not os.path.basename(name).startswith("cache-")]
        if not names:
            raise MissingDataError(f"{self.root}: there are no *.parquet or *.arrow files in it")
        return names

    def _look(self, name: str) -> _Shard:
        state, found = state_of(name), about(name)
        columns = ", ".join(f"{column} ({kind})" for column, kind in found.columns.items())
        for option, column in (("label", self.label), ("group", self.group), ("sound", self.sound)):
            if column is not None and column not in found.columns:
                raise DataError(f"{name}: has no column {column!r}, which dataset.{option} names; it has {columns}")
        sounds = found.sounds if self.sound is None else [one for one in found.sounds if one == self.sound]
        if len(sounds) > 1:
            raise DataError(f"{name}: has several columns of sound, {', '.join(sounds)}; choose one by dataset.sound")
        if not sounds:
            raise DataError(f"{name}: has no column of sound, which is a struct of bytes and path; it has {columns}")
        return _Shard(name, state, found, sounds[0])

    def _rows(self, shard: _Shard, columns: Sequence[str]) -> Iterator[tuple[int, dict[str, Any], tuple[str, ...]]]:
        """Each row of a file: its number, its values in some columns, and its labels."""
        names = shard.about.classes.get(self.label, ())
        for row, (given, *values) in rows_of(shard.name, [self.label, *columns]):
            labels = given if self.multilabel and isinstance(given, list) else [given]
            try:
                found = tuple(_label(label, names) for label in labels)
            except ValueError as error:
                advice = "" if self.multilabel or not isinstance(given, list) else "; set dataset.multilabel = true"
                raise DataError(f"{shard.name}, row {row}: its {self.label!r} {error}{advice}") from None
            yield row, dict(zip(columns, values, strict=True)), found


def _label(value: Any, names: Sequence[str]) -> str:
    """The label that a value of a column is."""
    if isinstance(value, bool) or not isinstance(value, int | str) or value == "":
        raise ValueError(f"must be a text or the number of a class, is {str(value)[:40]!r}")
    if not names or isinstance(value, str):
        return str(value)
    if not 0 <= value < len(names):
        raise ValueError(f"is {value}, but classes have the numbers 0 to {len(names) - 1}")
    return names[value]


def _is_plain(kind: pa.DataType) -> bool:
    types = pa.types
    return any(one(kind) for one in (types.is_string, types.is_large_string, types.is_integer, types.is_floating))


def _row_of(text: str) -> int:
    """The number of a row; -1 for none."""
    return int(text) if text.isdecimal() and len(text) < 18 else -1


def _decoded(clip: Clip, given: Any) -> Sound | SoundError:
    """The sound of a value of the column of sound."""
    data = given and given.get("bytes")
    if not data:
        place = given and given.get("path")
        why = f"the file that it names, {place!r}, is not in it" if place else "it is empty"
        return SoundError(clip.path, f"its row has no sound: {why}; save the dataset with its sound embedded")
    try:
        return audio.decode_bytes(data, clip.path, clip.start, clip.stop)
    except SoundError as error:
        return error


def _tone(hertz: int) -> bytes:
    """A WAV file of a twentieth of a second."""
    made = io.BytesIO()
    with wave.open(made, "wb") as file:
        file.setparams((1, 2, 8000, 0, "NONE", ""))
        file.writeframes((8000 * np.sin(2 * np.pi * hertz * np.arange(400) / 8000)).astype("<i2").tobytes())
    return made.getvalue()
