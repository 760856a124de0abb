"""The clip table: every clip of a dataset, stored in columns, with each distinct text once."""

from __future__ import annotations

import hashlib
import re
from array import array
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from typing import Generic, TypeVar

import attrs
import numpy as np
import numpy.typing as npt

from soundbench import limits
from soundbench.contracts import Clip, Dataset
from soundbench.errors import DataError

__all__ = ["ClipTable", "Codes", "Column", "Fold", "fingerprint"]

Fold = int | str
Value = TypeVar("Value")
Codes = npt.NDArray[np.int32]


@attrs.frozen(eq=False)
class Column(Generic[Value]):
    """A column of a table: the distinct values in the order of first appearance, and an index for each row.

    It is a sequence of values: `column[row]`.

    Attributes:
        names: the distinct values.
        codes: `(N,)` int32 indices into `names`; -1 for no value.
    """

    names: Sequence[Value]
    codes: Codes

    def __len__(self) -> int:
        return len(self.codes)

    def __getitem__(self, row: int) -> Value | None:
        code = self.codes[row]
        return None if code < 0 else self.names[code]

    def __iter__(self) -> Iterator[Value | None]:
        return (self[row] for row in range(len(self)))


class _Writer(Generic[Value]):
    """Builds a column row by row."""

    def __init__(self) -> None:
        self.known: dict[Value, int] = {}
        self.codes = array("i")

    def add(self, value: Value | None) -> None:
        self.codes.append(-1 if value is None else self.known.setdefault(value, len(self.known)))

    def column(self) -> Column[Value]:
        return Column(tuple(self.known), np.array(self.codes, dtype=np.int32))


@attrs.frozen(eq=False)
class ClipTable:
    """Every clip of a dataset, in the dataset's order, in columns.

    Attributes:
        classes: the class names, in the order of the network's outputs.
        multilabel: whether a clip can have any number of labels.
        paths: `paths[row]` is the path of a clip; each path is stored once.
        starts: `(N,)` float64 seconds.
        stops: `(N,)` float64 seconds, NaN for the end of the file.
        folds: `folds[row]` is the fold of a clip, or None.
        groups: `groups[row]` is the group of a clip; its path if the dataset gives none.
        label_offsets: `(N + 1,)` int64; the start of each row's labels in `label_values`, and the end of the last.
        label_values: int32 indices into `classes`, row by row.
    """

    classes: tuple[str, ...]
    multilabel: bool
    paths: Column[str]
    starts: npt.NDArray[np.float64]
    stops: npt.NDArray[np.float64]
    folds: Column[Fold]
    groups: Column[str]
    label_offsets: npt.NDArray[np.int64]
    label_values: Codes

    @classmethod
    def of(cls, dataset: Dataset) -> ClipTable:
        """Build the table of a dataset, in one pass over its clips.

        Raises:
            DataError: no classes, a class named twice, no clips, or a clip with invalid labels or times.
        """
        classes, multilabel = tuple(dataset.classes), bool(getattr(dataset, "multilabel", False))
        places = {name: code for code, name in enumerate(classes)}
        if not classes or len(places) < len(classes):
            twice = next((name for name in classes if classes.count(name) > 1), None)
            raise DataError(f"the dataset names the class {twice!r} twice" if twice else "the dataset has no classes")
        _refuse_unwritable(classes)
        paths, folds, groups = _Writer[str](), _Writer[Fold](), _Writer[str]()
        starts, stops, ends, values = array("d"), array("d"), array("q", [0]), array("i")
        for clip in dataset.clips():
            _check(clip, places, multilabel)
            paths.add(clip.path)
            folds.add(clip.fold)
            groups.add(clip.path if clip.group is None else clip.group)
            starts.append(clip.start)
            stops.append(float("nan") if clip.stop is None else clip.stop)
            values.extend(places[label] for label in dict.fromkeys(clip.labels))
            ends.append(len(values))
        if not starts:
            raise DataError("the dataset has no clips")
        return cls(
            classes,
            multilabel,
            paths.column(),
            np.array(starts),
            np.array(stops),
            folds.column(),
            groups.column(),
            np.array(ends, dtype=np.int64),
            np.array(values, dtype=np.int32),
        )

    def __len__(self) -> int:
        return len(self.starts)

    @property
    def group_codes(self) -> Codes:
        """The group of each row, `(N,)` int32."""
        return self.groups.codes

    @property
    def label_codes(self) -> Codes:
        """The first label of each row, `(N,)` int32."""
        return self.label_values[self.label_offsets[:-1]]

    def labels(self, row: int) -> tuple[str, ...]:
        """The labels of a row."""
        codes = self.label_values[self.label_offsets[row] : self.label_offsets[row + 1]]
        return tuple(self.classes[code] for code in codes)

    def targets(self, rows: npt.ArrayLike) -> npt.NDArray[np.float32]:
        """The targets of `rows` `(n,)`: 0 or 1, `(n, K)` float32."""
        rows = np.asarray(rows, dtype=np.int64)
        counts = self.label_offsets[rows + 1] - self.label_offsets[rows]
        firsts = np.cumsum(counts) - counts
        places = np.arange(counts.sum()) - np.repeat(firsts - self.label_offsets[rows], counts)
        target = np.zeros((len(rows), len(self.classes)), dtype=np.float32)
        target[np.repeat(np.arange(len(rows)), counts), self.label_values[places]] = 1.0
        return target

    def class_counts(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """The number of `rows` (without duplicates) with each class, `(K,)`; does not need the `(n, K)` targets."""
        chosen = np.zeros(len(self), dtype=np.bool_)
        chosen[rows] = True
        own = np.repeat(chosen, np.diff(self.label_offsets))
        return np.bincount(self.label_values[own], minlength=len(self.classes))

    def clip(self, row: int) -> Clip:
        """The clip of a row, as the dataset gave it, but with a group that is never None."""
        stop = float(self.stops[row])
        return Clip(
            path=self.paths.names[self.paths.codes[row]],
            labels=self.labels(row),
            start=float(self.starts[row]),
            stop=None if np.isnan(stop) else stop,
            fold=self.folds[row],
            group=self.groups[row],
        )

    def folds_in_order(self) -> list[Fold]:
        """The distinct folds: numbers first, then strings, `fold2` before `fold10`."""
        return sorted(self.folds.names, key=_natural)


def fingerprint(table: ClipTable, parts: npt.NDArray[np.int8], lengths: npt.NDArray[np.int64]) -> str:
    """A digest of the data of a run: the path, times, labels, part and length in samples of every clip.

    Args:
        table: the clips.
        parts: the part of each clip, `(N,)`.
        lengths: the length of each clip in samples, `(N,)`; 0 if it cannot be read.
    """
    digest = hashlib.blake2b(digest_size=16)
    for text in chain(table.classes, ("/".join(path.split("/")[-2:]) for path in table.paths.names)):
        digest.update(text.encode("utf-8", "surrogateescape") + b"\0")
    columns = (table.paths.codes, table.starts, table.stops, table.label_offsets, table.label_values, parts, lengths)
    for column in columns:
        digest.update(np.ascontiguousarray(column).tobytes())
    return digest.hexdigest()


def _refuse_unwritable(classes: Sequence[str]) -> None:
    """Raise an error for class names that `model.toml` cannot hold, as from folders whose names are not UTF-8."""
    for name in classes:
        if any(letter == "\0" or "\ud800" <= letter <= "\udfff" for letter in name):
            raise DataError(f"the class {name!r} is not UTF-8 text without NUL; rename it, or its folder")


def _check(clip: Clip, places: Mapping[str, int], multilabel: bool) -> None:
    """Raise an error for a clip with invalid labels or times."""
    unknown = [label for label in clip.labels if label not in places]
    if unknown:
        raise DataError(f"{clip.path}: label {unknown[0]!r} is not one of the {len(places)} classes of the dataset")
    if not clip.labels:
        raise DataError(f"{clip.path}: no label")
    if len(set(clip.labels)) > 1 and not multilabel:
        raise DataError(f"{clip.path}: {len(clip.labels)} labels, but the dataset is not multilabel")
    if not 0 <= clip.start < (float("inf") if clip.stop is None else clip.stop):
        end = "the end" if clip.stop is None else f"{clip.stop:g} s"
        raise DataError(f"{clip.path}: invalid clip from {clip.start:g} s to {end}")


def _natural(fold: Fold) -> tuple[bool, int, list[tuple[bool, int, str]]]:
    """A sorting key: numbers before strings; numbers inside a string are compared by value."""
    if isinstance(fold, int):
        return False, fold, []
    pieces = re.split(rf"(\d{{1,{limits.DIGITS}}})", fold)
    return True, 0, [(not piece.isdecimal(), int(piece) if piece.isdecimal() else 0, piece) for piece in pieces]
