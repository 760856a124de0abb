"""Manifest: your own sound files, listed in a file of any length, which is read row by row.

| file | content |
|---|---|
| `*.csv` | a header, and columns with these names: `path`, `label` or `labels`, `start`, `stop`, `fold`, `group` |
| `*.jsonl` | one object per line with keys of these names |
| any other | one line per sound file, without header: path, tab, class number, counted from 0 in the file `labels` |

`path` and one of `label`, `labels` are required, any other cell may be empty. `labels` are separated by `;`, or are a
JSON list; `label` is one label, taken literally with commas and quotes. `start` and `stop` are in seconds. A `fold` of
digits is a number. Text is UTF-8. Other columns are refused, so that a misspelt one is noticed.

A missing sound file is noticed when it is read, or by `soundbench data check`.
"""

from __future__ import annotations

import csv
import difflib
import json
import math
import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

import attrs

from soundbench.contracts import Clip
from soundbench.errors import DataError, MissingDataError

__all__ = ["Manifest"]

_COLUMNS = ("path", "label", "labels", "start", "stop", "fold", "group")
_BYTES = re.compile("[\ud800-\udfff]")  # the decoding of bytes that are not UTF-8
_MOST = 10  # bad rows that a message shows


class _BadRow(Exception):
    """What is wrong with a row."""


Fields = dict[str, Any]
Row = tuple[int, Fields | _BadRow]  # its line, and its cells by name or its error


class Manifest:
    """Your own sound files, listed in a CSV or JSONL file, or in `path<TAB>number` lists with a label list.

    Args:
        path: the manifest; a file that ends neither in `.csv` nor in `.jsonl` is a list of paths and class numbers.
        labels: a file with the class names, one per line, in the order of the network's outputs. By default the classes
            are the labels of the manifest, sorted. Lists of class numbers need it.
        test: another manifest of the same form. Its clips are in the fold `test`; clips of `path` without a fold are
            in the fold `train`.
        multilabel: whether a clip may have several labels.
        root: the folder of relative paths. By default the manifest's own folder; for a list of class numbers the
            working directory, if the first path's folder exists only there.
    """

    def __init__(
        self,
        *,
        path: Path,
        labels: Path | None = None,
        test: Path | None = None,
        multilabel: bool = False,
        root: Path | None = None,
    ) -> None:
        self.paths = [Path(path)] if test is None else [Path(path), Path(test)]
        self.labels, self.root, self.multilabel = labels and Path(labels), root and Path(root), multilabel
        numbered = next((file for file in self.paths if _rows_of(file) is _list_rows), None)
        if numbered and labels is None:
            raise ValueError(f"labels must be the file of class names, since {numbered.name} contains class numbers")
        self._classes: tuple[str, ...] | None = None

    @staticmethod
    def example(folder: Path) -> Mapping[str, Any]:
        """A manifest of two placeholder files."""
        for name in ("1.wav", "2.wav"):
            (folder / name).write_bytes(b"sound")
        path = folder / "sounds.csv"
        path.write_text("path,label,fold,group\n1.wav,dog,1,a\n2.wav,cat,2,b\n", encoding="utf-8")
        return {"path": path}

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes, in the order of the label list, or sorted if there is none."""
        if self._classes is None:
            if self.labels:
                self._classes = _names(self.labels)
            else:
                self._classes = tuple(sorted({label for clip in self._read(None) for label in clip.labels}))
        return self._classes

    def clips(self) -> Iterator[Clip]:
        """The clips, row after row; after them a `DataError`, if there are bad rows, that names each by its line."""
        yield from self._read(self.classes)

    def _read(self, classes: tuple[str, ...] | None) -> Iterator[Clip]:
        """The clips of all files; labels must be in `classes`, if given."""
        known = None if classes is None else frozenset(classes)
        for file, fold in zip(self.paths, ("train", "test"), strict=False):
            faults, base = _Faults(file), None
            for line, row in _rows_of(file)(file):
                try:
                    clip = self._clip(row, classes or (), known)
                except _BadRow as error:
                    faults.add(line, error)
                    continue
                base = self._base(file, clip.path) if base is None else base
                named = fold if len(self.paths) > 1 and (fold == "test" or clip.fold is None) else clip.fold
                yield attrs.evolve(clip, path=os.path.join(base, clip.path), fold=named)
            faults.check()
            if base is None:
                raise DataError(f"{file}: no rows; each row must name a sound file and its label")

    def _base(self, file: Path, first: str) -> str:
        """The folder of a manifest's relative paths."""
        if self.root is not None:
            return str(self.root)
        folder = os.path.dirname(first)
        if _rows_of(file) is _list_rows and not os.path.isdir(file.parent / folder) and os.path.isdir(folder):
            return str(Path.cwd())
        return str(file.parent)

    def _clip(self, row: Fields | _BadRow, classes: tuple[str, ...], known: frozenset[str] | None) -> Clip:
        """A row's clip, with the path as written."""
        if isinstance(row, _BadRow):
            raise row
        path, group = row.get("path"), row.get("group")
        if not isinstance(path, str) or not path or "\0" in path:
            raise _BadRow(f"path {path!r} is not a path" if path else "no path")
        labels = _labels(row, classes)
        for label in labels:
            if known is not None and label not in known:
                near = difflib.get_close_matches(label, classes, n=1)
                hint = f"; did you mean {near[0]!r}?" if near else ""
                raise _BadRow(f"label {label!r} is not among the {len(classes)} of the label list{hint}")
        if len(labels) > 1 and not self.multilabel:
            raise _BadRow(f"{len(labels)} labels, but multilabel is not set")
        start, stop = _seconds(row, "start"), _seconds(row, "stop")
        if stop is not None and stop <= (start or 0.0):
            raise _BadRow(f"stop {stop:g} is not after start {start or 0.0:g}")
        group = None if group in (None, "") else str(group)
        return Clip(path, labels, start or 0.0, stop, _fold(row.get("fold")), group)


class _Faults:
    """The bad rows of a file, the first few with their errors."""

    def __init__(self, file: Path) -> None:
        self.file, self.count, self.lines = file, 0, list[str]()

    def add(self, line: int, error: _BadRow) -> None:
        self.count += 1
        if len(self.lines) < _MOST:
            self.lines.append(f"{self.file}, line {line}: {error}")

    def check(self) -> None:
        rest = self.count - len(self.lines)
        if self.lines:
            raise DataError("\n".join(self.lines + [f"{self.file}: {rest} more bad rows"] * (rest > 0)))


def _labels(row: Fields, classes: tuple[str, ...]) -> tuple[str, ...]:
    """The labels of a row: at least one, none empty, each once."""
    if (number := row.get("number")) is not None:
        if not number.isdecimal() or int(number) >= len(classes):
            raise _BadRow(f"label {number!r} must be from 0 to {len(classes) - 1}, a line of the label list")
        return (classes[int(number)],)
    given = [name for name in ("label", "labels") if row.get(name) not in (None, "", [])]
    if len(given) != 1:
        raise _BadRow("both label and labels" if given else "no label")
    value: Any = row[given[0]]
    if given == ["label"]:
        value = [value]
    elif isinstance(value, str) and value.lstrip().startswith("["):
        try:
            value = json.loads(value)
        except ValueError:
            raise _BadRow(f"labels {value!r} begin like a JSON list, but are not valid JSON") from None
    elif isinstance(value, str):
        value = value.split(";")
    if not isinstance(value, list) or not all(isinstance(label, str) for label in value):
        raise _BadRow(f"{given[0]} must be text, is {row[given[0]]!r}")
    labels = tuple(dict.fromkeys(label.strip() for label in value))
    if not all(labels):
        raise _BadRow("an empty label")
    if any(map(_BYTES.search, labels)):
        raise _BadRow("a label that is not UTF-8; save the manifest as UTF-8")
    return labels


def _seconds(row: Fields, name: str) -> float | None:
    value = row.get(name)
    if value in (None, ""):
        return None
    try:
        seconds = float("nan") if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        seconds = float("nan")
    if not 0 <= seconds < math.inf:
        raise _BadRow(f"{name} must be seconds, at least 0, is {value!r}")
    return seconds


def _fold(value: Any) -> int | str | None:
    if value in (None, ""):
        return None
    if isinstance(value, bool) or not isinstance(value, (int, str)):
        raise _BadRow(f"fold must be a whole number or text, is {value!r}")
    return int(value) if isinstance(value, str) and value.isdecimal() else value


def _csv_rows(file: Path) -> Iterator[Row]:
    with _opened(file, "a manifest") as text:
        reader = csv.reader(text, strict=True)
        header, line = list[str](), 0
        try:
            for cells in reader:
                line, first = reader.line_num, line + 1
                if cells and not header:
                    header = [cell.strip() for cell in cells]
                    _check_header(f"{file}, line {first}", header)
                elif cells and len(cells) != len(header):
                    hint = "; quote a text that holds a comma" if len(cells) > len(header) else ""
                    yield first, _BadRow(f"{len(cells)} cells under {len(header)} columns{hint}")
                elif cells:
                    yield first, dict(zip(header, cells, strict=True))
        except csv.Error as error:
            raise DataError(f"{file}, line {line + 1}: {error}") from None


def _check_header(place: str, header: list[str]) -> None:
    if "path" not in header or not {"label", "labels"} & set(header):
        raise DataError(f"{place}: must have the columns path and label (or labels), has {', '.join(header)}")
    for name in header:
        if reason := _unknown(name) or ("appears twice" if header.count(name) > 1 else ""):
            raise DataError(f"{place}: column {name!r} {reason}")


def _unknown(name: str) -> str:
    """The message for a column or key that manifests do not have; empty for others."""
    if name in _COLUMNS:
        return ""
    near = difflib.get_close_matches(name.lower(), _COLUMNS, n=1)
    return f"is unknown; did you mean {near[0]!r}?" if near else f"is unknown; known: {', '.join(_COLUMNS)}"


def _jsonl_rows(file: Path) -> Iterator[Row]:
    with _opened(file, "a manifest") as text:
        for line, row in enumerate(text, start=1):
            if not row.strip():
                continue
            try:
                fields = json.loads(row)
            except ValueError as error:
                yield line, _BadRow(f"not JSON: {error}")
                continue
            if not isinstance(fields, dict):
                yield line, _BadRow("not a JSON object")
            elif other := next((name for name in fields if name not in _COLUMNS), None):
                yield line, _BadRow(f"key {other!r} {_unknown(other)}")
            else:
                yield line, fields


def _list_rows(file: Path) -> Iterator[Row]:
    with _opened(file, "a list of sound files") as text:
        for line, row in enumerate(text, start=1):
            path, tab, number = row.rstrip("\r\n").rpartition("\t")
            if tab:
                yield line, {"path": path, "number": number.strip()}
            elif row.strip():
                yield line, _BadRow("no tab; a line must be a path, a tab and a class number")


def _rows_of(file: Path) -> Callable[[Path], Iterator[Row]]:
    return {".csv": _csv_rows, ".jsonl": _jsonl_rows}.get(file.suffix.lower(), _list_rows)


@contextmanager
def _opened(file: Path, what: str) -> Iterator[TextIO]:
    """A text file. Bytes that are not UTF-8 are decoded as Python decodes them in file names."""
    try:
        text = file.open(encoding="utf-8-sig", errors="surrogateescape", newline="")
    except (FileNotFoundError, IsADirectoryError):
        raise MissingDataError(f"{file}: no such file; it must be {what}") from None
    except OSError as error:
        raise DataError(f"{file}: cannot be read: {error.strerror}") from None
    with text:
        yield text


def _names(file: Path) -> tuple[str, ...]:
    """The classes of a label list, one per line."""
    with _opened(file, "a label list") as text:
        names = [line.strip() for line in text.read().rstrip().splitlines()]
    for line, name in enumerate(names, start=1):
        if not name or _BYTES.search(name):
            raise DataError(f"{file}, line {line}: {'not UTF-8' if name else 'an empty class name'}")
        if name in names[: line - 1]:
            raise DataError(f"{file}, line {line}: class {name!r} appears twice")
    if not names:
        raise DataError(f"{file}: no class names in it")
    return tuple(names)
