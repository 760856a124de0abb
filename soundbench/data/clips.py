"""The clip table: every clip of a dataset, stored in columns, with each distinct text once.

Names of classes and labels become one normal form here (NFC), and the spellings of a path one path, before they are
compared or counted.
"""

from __future__ import annotations

import csv
import hashlib
import os
import re
import stat
import unicodedata
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from itertools import chain
from typing import Any, Generic, TypeVar

import attrs
import numpy as np
import numpy.typing as npt

from soundbench import limits
from soundbench.contracts import Clip, Dataset
from soundbench.errors import DataError
from soundbench.messages import normal

__all__ = ["ClipTable", "Codes", "Column", "Fold", "class_names", "fingerprint", "normal", "similar_names"]

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

    def values(self, rows: npt.NDArray[np.int64]) -> list[Value | None]:
        """The value of each of `rows`."""
        return [None if code < 0 else self.names[code] for code in self.codes[rows].tolist()]


class _Writer(Generic[Value]):
    """Builds a column row by row."""

    def __init__(self, before: int = 0) -> None:
        self.known: dict[Value, int] = {}
        self.codes = array("i", [-1]) * before  # the rows that have no value

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
        extra: further columns of text, by their names.
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
    extra: Mapping[str, Column[str]] = attrs.field(factory=dict)

    @classmethod
    def of(cls, dataset: Dataset) -> ClipTable:
        """Build the table of a dataset, in one pass over its clips.

        Raises:
            DataError: no classes, a class named twice, no clips, a clip with invalid labels or times, or a file of the
                dataset that cannot be read.
        """
        classes, multilabel = class_names(dataset), bool(getattr(dataset, "multilabel", False))
        labels = _Labels(classes, multilabel)
        files = None if hasattr(dataset, "read") else _Files()
        paths, folds, groups, extra = _Writer[str](), _Writer[Fold](), _Writer[str](), dict[str, _Writer[str]]()
        starts, stops, ends, values = array("d"), array("d"), array("q", [0]), array("i")
        with _explained():
            for clip in dataset.clips():
                values.extend(labels.codes(clip))
                _check_times(clip)
                path = clip.path
                if files and path not in paths.known:
                    path = files.first_name(path)
                paths.add(path)
                folds.add(normal(clip.fold))
                groups.add(path if clip.group is None else normal(clip.group))
                if extra or clip.extra:
                    _add_extra(extra, clip.extra, len(starts))
                starts.append(clip.start)
                stops.append(float("nan") if clip.stop is None else clip.stop)
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
            {name: column.column() for name, column in extra.items()},
        )

    def __len__(self) -> int:
        return len(self.starts)

    @property
    def columns(self) -> Mapping[str, Column[Any]]:
        """The columns that clips can be told apart by: `fold`, `group`, and the further ones, by their names."""
        return {**self.extra, "fold": self.folds, "group": self.groups}

    def values_of(self, names: Iterable[str], rows: npt.NDArray[np.int64]) -> dict[str, list[Any]]:
        """The values of `rows` in some of the columns; None where a clip has none."""
        return {name: self.columns[name].values(rows) for name in names}

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
        target = np.zeros((len(rows), len(self.classes)), dtype=np.float32)
        target[self.labels_of(rows)] = 1.0
        return target

    def labels_of(self, rows: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.int64], Codes]:
        """All labels of `rows` `(n,)`: for each its place in `rows`, ascending, and its class, both `(L,)`."""
        counts = self.label_offsets[rows + 1] - self.label_offsets[rows]
        firsts = np.cumsum(counts) - counts
        places = np.arange(counts.sum()) - np.repeat(firsts - self.label_offsets[rows], counts)
        return np.repeat(np.arange(len(rows)), counts), self.label_values[places]

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
            extra={name: text for name, column in self.extra.items() if (text := column[row]) is not None},
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
    for text in chain(table.classes, ("/".join(path.replace("\\", "/").split("/")[-2:]) for path in table.paths.names)):
        digest.update(text.encode("utf-8", "surrogateescape") + b"\0")
    columns = (table.paths.codes, table.starts, table.stops, table.label_offsets, table.label_values, parts, lengths)
    for column in columns:
        digest.update(np.ascontiguousarray(column).tobytes())
    return digest.hexdigest()


@contextmanager
def _explained() -> Iterator[None]:
    """Report tables of a dataset that cannot be read, and are not what it expects, in one line."""
    try:
        yield
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        raise DataError(f"{where}cannot be read: {error.strerror or error}") from error
    except (UnicodeError, csv.Error) as error:
        raise DataError(f"a table of the dataset cannot be read: {error}") from error


# Names of classes -----------------------------------------------------------------------------------------------------


def class_names(dataset: Dataset) -> tuple[str, ...]:
    """The names of a dataset's classes in their normal form, in its order, each once.

    Raises:
        DataError: no classes, a class named twice, or a file of the dataset that cannot be read.
    """
    with _explained():
        given = tuple(dataset.classes)
    if len(set(given)) < len(given):
        twice = next(name for name in given if given.count(name) > 1)
        raise DataError(f"the dataset names the class {twice!r} twice")
    if not given:
        raise DataError("the dataset has no classes")
    _refuse_unwritable(given)
    return tuple(dict.fromkeys(map(normal, given)))


def _refuse_unwritable(classes: Sequence[str]) -> None:
    """Raise an error for class names that `model.toml` cannot hold, as from folders whose names are not UTF-8."""
    for name in classes:
        if any(letter == "\0" or "\ud800" <= letter <= "\udfff" for letter in name):
            raise DataError(f"the class {name!r} is not UTF-8 text without NUL; rename it, or its folder")


def similar_names(names: Iterable[str]) -> list[tuple[str, ...]]:
    """The names that differ in case or spaces alone, together, such as `("Dog", "dog")`."""
    alike: dict[str, list[str]] = {}
    for name in names:
        alike.setdefault(" ".join(unicodedata.normalize("NFKC", name).casefold().split()), []).append(name)
    return [tuple(own) for own in alike.values() if len(own) > 1]


class _Labels:
    """Checks the labels of clips, and turns them into codes."""

    def __init__(self, classes: Sequence[str], multilabel: bool) -> None:
        self.count, self.multilabel = len(classes), multilabel
        self.places = {name: code for code, name in enumerate(classes)}

    def codes(self, clip: Clip) -> Sequence[int]:
        """The codes of a clip's labels, each once.

        Raises:
            DataError: a label that is not a class, no label, or several where a clip has one.
        """
        if len(clip.labels) == 1:
            return (self._code(clip.path, *clip.labels),)
        found = tuple(dict.fromkeys(self._code(clip.path, label) for label in clip.labels))
        if not found:
            raise DataError(f"{clip.path}: no label")
        if len(found) > 1 and not self.multilabel:
            raise DataError(f"{clip.path}: {len(clip.labels)} labels, but the dataset is not multilabel")
        return found

    def _code(self, path: str, label: str) -> int:
        code = self.places.get(label)
        if code is None:
            code = self.places.get(normal(label))
            if code is None:
                raise DataError(f"{path}: label {label!r} is not one of the {self.count} classes of the dataset")
            self.places[label] = code
        return code


def _check_times(clip: Clip) -> None:
    """Raise an error for a clip with invalid times."""
    if not 0 <= clip.start < (float("inf") if clip.stop is None else clip.stop):
        end = "the end" if clip.stop is None else f"{clip.stop:g} s"
        raise DataError(f"{clip.path}: invalid clip from {clip.start:g} s to {end}")


def _add_extra(columns: dict[str, _Writer[str]], extra: Mapping[str, str], row: int) -> None:
    """Add the further values of a row; a name that appears first here is empty in the rows before."""
    for name in extra:
        if name not in columns:
            columns[name] = _Writer(before=row)
    for name, column in columns.items():
        column.add(extra.get(name))


# Spellings of paths ---------------------------------------------------------------------------------------------------


class _Files:
    """Makes the names of a file one: the first one, of `a/../a/x.wav`, `./a/x.wav` and links to it."""

    def __init__(self) -> None:
        self.named: dict[str, str] = {}  # the first name of each file
        self.folder = lru_cache(maxsize=4096)(os.path.realpath)

    def first_name(self, path: str) -> str:
        """The name under which the file of a path was first seen.

        Raises:
            DataError: no file can have this path.
        """
        if not isinstance(path, str) or not path or "\0" in path:
            raise DataError(f"{path!r} is not the path of a file")
        try:
            path = path if path.isascii() else _as_stored(path)
        except UnicodeEncodeError:
            raise DataError(f"{path!r} is not the path of a file: the file system has no such characters") from None
        file = self._file(path)
        return self.named.setdefault(path if file == path else file, path)

    def _file(self, path: str) -> str:
        """What is the same for all names of a file: its real path, or its number if it has several of those.

        The real paths of folders are kept, as most files are in few.
        """
        folder, name = os.path.split(path)
        special = name in ("", os.curdir, os.pardir)
        real = os.path.realpath(path) if special else os.path.join(self.folder(folder), name)
        try:
            found = os.lstat(real)
            if stat.S_ISLNK(found.st_mode):
                real = os.path.realpath(real)
                found = os.lstat(real)
        except OSError:
            return os.path.normcase(real)
        return f"\0{found.st_dev} {found.st_ino}" if found.st_nlink > 1 else os.path.normcase(real)


def _as_stored(path: str) -> str:
    """A path in the Unicode form of the file system's names, where it exists only in another one."""
    os.fsencode(path)
    if os.path.lexists(path):
        return path
    drive, rest = os.path.splitdrive(path)
    found = drive + os.sep if rest.startswith(os.sep) else drive
    for name in filter(None, rest.split(os.sep)):
        forms = (name, unicodedata.normalize("NFC", name), unicodedata.normalize("NFD", name))
        there = next((form for form in forms if os.path.lexists(os.path.join(found, form))), None)
        if there is None:
            return path
        found = os.path.join(found, there)
    return found


def _natural(fold: Fold) -> tuple[bool, int, list[tuple[bool, int, str]]]:
    """A sorting key: numbers before strings; numbers inside a string are compared by value."""
    if isinstance(fold, int):
        return False, fold, []
    pieces = re.split(rf"(\d{{1,{limits.DIGITS}}})", fold)
    return True, 0, [(not piece.isdecimal(), int(piece) if piece.isdecimal() else 0, piece) for piece in pieces]
