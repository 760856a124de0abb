"""Manifest: your own sound files, listed in a file of any length, which is read once, row by row.

| file | content |
|---|---|
| a table: CSV, TSV | a header, and columns: `path`, `label` or `labels`, `start`, `stop`, `fold`, `group` |
| `*.jsonl` | one object per line with keys of these names |
| a table of Raven | `Begin File` or `Begin Path`, `Begin Time (s)`, `End Time (s)`, and one column for the label |
| any other | one line per sound file, without header: path, tab, class number, counted from 0 in the file `labels` |

`path` and one of `label`, `labels` are required, any other cell may be empty. `labels` are separated by `;`, or are a
JSON list; `label` is one label, taken literally with commas and quotes. `start` and `stop` are in seconds. A `fold` of
digits is a number. Other columns are kept with the clip, and may be its group (`group = "site"`); one that looks like a
misspelt column of these is refused. Cells are separated by commas, tabs, semicolons or bars, as the header shows. Text
is UTF-8, or UTF-16 with its mark. A missing sound file is noticed when it is read, or by `soundbench data check`.
"""

from __future__ import annotations

import difflib
import json
import math
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from soundbench.contracts import Clip
from soundbench.errors import DataError
from soundbench_plugins.layers.kept_clips import KeptClips
from soundbench_plugins.layers.label_list import classes_of, normal_label
from soundbench_plugins.layers.manifest_rows import COLUMNS, BadRow, Faults, Fields, Listed, is_half, rows_of, short

__all__ = ["Manifest"]

_JOINED = re.compile(r"\s*[,|/&+\t]\s*")  # what may stand between labels by mistake
_EMPTY: tuple[Any, ...] = (None, "", [])
_REPEATED = 1 << 12  # cells whose values are remembered, as many rows have the same


class Manifest:
    """Your own sound files, listed in a table (CSV, TSV, JSONL, Raven), or in `path<TAB>number` lists with class names.

    Args:
        path: the manifest.
        labels: a file with the class names, one per line, in the order of the network's outputs. By default the classes
            are the labels of the manifest, sorted. Lists of class numbers need it.
        test: another manifest of the same form. Its clips are in the fold `test`; clips of `path` without a fold are
            in the fold `train`.
        multilabel: whether a clip may have several labels.
        root: the folder of relative paths. By default the manifest's own folder; for a list of class numbers the
            working directory, if the first path's folder exists only there.
        group: the column that holds the group of each clip, such as "site". By default `group`, if there is one.
    """

    def __init__(
        self,
        *,
        path: Path,
        labels: Path | None = None,
        test: Path | None = None,
        multilabel: bool = False,
        root: Path | None = None,
        group: str | None = None,
    ) -> None:
        self.paths = [Path(path)] if test is None else [Path(path), Path(test)]
        self.labels, self.root, self.multilabel = labels and Path(labels), root and Path(root), multilabel
        self.group = group
        self._classes: tuple[str, ...] | None = None
        self._kept: KeptClips | None = None  # what was read to find the classes

    @staticmethod
    def example(folder: Path) -> Mapping[str, Any]:
        """A manifest of two placeholder files."""
        for name in ("1.wav", "2.wav"):
            (folder / name).write_bytes(b"sound")
        path = folder / "sounds.csv"
        path.write_text("path,label,fold,group,site\n1.wav,dog,1,a,north\n2.wav,cat,2,b,\n", encoding="utf-8")
        return {"path": path}

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes, in the order of the label list, or sorted if there is none."""
        if self._classes is None:
            self._classes = classes_of(self.labels) if self.labels else self._found()
        return self._classes

    def clips(self) -> Iterator[Clip]:
        """The clips, row after row; after them a `DataError`, if there are bad rows, that names each by its line."""
        known = {name: code for code, name in enumerate(self.classes)}
        given: Iterable[Clip] = self._kept or (clip for _, _, _, clip in self._read(known))
        yield from given

    def _found(self) -> tuple[str, ...]:
        """The labels of the manifest, sorted; its clips are kept."""
        names, joined, seen, kept = set[str](), dict[str, str](), set[tuple[str, ...]](), KeptClips()
        for file, line, row, clip in self._read(None):
            kept.add(clip)
            if clip.labels in seen:
                continue
            seen.add(clip.labels)
            new = [label for label in clip.labels if label not in names]
            names.update(new)
            if new and "labels" in row and not _is_list(row["labels"]):
                joined.update({label: f"{file}, line {line}" for label in new if _JOINED.search(label)})
        for label, place in joined.items():
            if _are_joined(label, names):
                raise DataError(
                    f"{place}: labels {short(label)!r} are joined; separate labels with ; or write a JSON list"
                )
        self._kept = kept
        return tuple(sorted(names))

    def _read(self, known: Mapping[str, int] | None) -> Iterator[tuple[Path, int, Fields, Clip]]:
        """The file, line, fields and clip of every good row of all files; labels must be in `known`, if given."""
        for file, fold in zip(self.paths, ("train", "test"), strict=False):
            faults, base, grouped = Faults(file), None, False
            for line, row in rows_of(file, numbers=self.labels is not None):
                try:
                    clip = self._clip(row, known, faults.shown)
                except BadRow as error:
                    faults.add(line, error)
                    continue
                assert isinstance(row, dict)
                grouped = grouped or self.group is None or self.group in row
                base = self._base(file, clip.path, isinstance(row, Listed)) if base is None else base
                named = fold if len(self.paths) > 1 and (fold == "test" or clip.fold is None) else clip.fold
                path = _placed(base, clip.path)
                yield file, line, row, Clip(path, clip.labels, clip.start, clip.stop, named, clip.group, clip.extra)
            faults.check()
            if base is None:
                raise DataError(f"{file}: no rows; each row must name a sound file and its label")
            if not grouped:
                raise DataError(f"{file}: no column {self.group!r}, which dataset.group names")

    def _base(self, file: Path, first: str, listed: bool) -> str:
        """The folder of a manifest's relative paths."""
        if self.root is not None:
            return str(self.root)
        folder = os.path.dirname(first if os.sep in first else first.replace("\\", os.sep))
        if listed and not os.path.isdir(file.parent / folder) and os.path.isdir(folder):
            return str(Path.cwd())
        return str(file.parent)

    def _clip(self, row: Fields | BadRow, known: Mapping[str, int] | None, hint: bool) -> Clip:
        """A row's clip, with the path as written; `hint` at the nearest class of an unknown label."""
        if isinstance(row, BadRow):
            raise row
        path = row.get("path")
        if not isinstance(path, str) or not path.strip() or "\0" in path or is_half(path):
            raise BadRow(f"path {path!r} is not a path" if path else "no path")
        labels = _labels(row, known or {})
        if known is not None:
            for label in labels:
                if label not in known:
                    raise BadRow(
                        f"label {label!r} is not among the {len(known)} of the label list{_near(label, known, hint)}"
                    )
        if len(labels) > 1 and not self.multilabel:
            raise BadRow(f"{len(labels)} labels, but multilabel is not set")
        start, stop = _seconds(row, "start"), _seconds(row, "stop")
        if stop is not None and stop <= (start or 0.0):
            raise BadRow(f"stop {stop:g} is not after start {start or 0.0:g}")
        extra = {name: text for name, value in row.items() if name not in COLUMNS and (text := _text(value))}
        group = _text(row.get(self.group or "group")) or None
        if self.group not in (None, "group") and (text := _text(row.get("group"))):
            extra["group"] = text
        return Clip(path, labels, start or 0.0, stop, _fold(row.get("fold")), group, extra)


def _placed(base: str, path: str) -> str:
    """Where a path is: without blanks around it, and with slashes for backslashes, if no file is there as written."""
    plain = os.path.join(base, path.strip())
    if plain.isascii() and "\\" not in path and path == path.strip():
        return plain
    others = [os.path.join(base, path), os.path.join(base, path.strip().replace("\\", "/"))]
    return next((one for one in (plain, *others) if os.path.lexists(one)), plain)


# Values of a row ------------------------------------------------------------------------------------------------------


def _labels(row: Fields, known: Mapping[str, int]) -> tuple[str, ...]:
    """The labels of a row: at least one, none empty, each once, in their normal form."""
    if isinstance(row, Listed):
        if not re.fullmatch("[0-9]{1,9}", row.number) or int(row.number) >= len(known):
            raise BadRow(f"label {row.number!r} must be from 0 to {len(known) - 1}, a line of the label list")
        return (list(known)[int(row.number)],)
    given = [name for name in ("label", "labels") if row.get(name) not in _EMPTY]
    if len(given) != 1:
        raise BadRow("both label and labels" if given else "no label")
    value: Any = row[given[0]]
    if isinstance(value, str):
        return _split(value, given[0] == "labels")
    if given == ["label"]:
        raise BadRow(f"label must be text, is {value!r}")
    return _normal(value, value)


@lru_cache(_REPEATED)
def _split(text: str, several: bool) -> tuple[str, ...]:
    """The labels of a cell, in their normal form."""
    value: Any = [text]
    if several and _is_list(text):
        try:
            value = json.loads(text)
        except (ValueError, RecursionError):
            raise BadRow(f"labels {text!r} begin like a JSON list, but are not valid JSON") from None
    elif several:
        value = text.split(";")
    return _normal(value, text)


def _normal(labels: Any, given: Any) -> tuple[str, ...]:
    """Labels in their normal form, each once; `given` is what the row has."""
    if not isinstance(labels, list) or not all(isinstance(label, str) for label in labels):
        raise BadRow(f"labels must be text, is {given!r}")
    return tuple(dict.fromkeys(map(normal_label, labels)))


def _is_list(value: Any) -> bool:
    return isinstance(value, list) or (isinstance(value, str) and value.lstrip().startswith("["))


def _are_joined(label: str, names: Mapping[str, int] | set[str]) -> bool:
    """Whether a label is others with commas or the like between them."""
    pieces = _JOINED.split(label)
    return len(pieces) > 1 and all(piece in names for piece in pieces)


def _near(label: str, known: Mapping[str, int], hint: bool) -> str:
    if not hint:
        return ""
    if _are_joined(label, known):
        return "; separate labels with ; or write a JSON list"
    near = difflib.get_close_matches(label, known, n=1)
    return f"; did you mean {near[0]!r}?" if near else ""


def _seconds(row: Fields, name: str) -> float | None:
    value = row.get(name)
    if value in (None, ""):
        return None
    try:
        seconds = float("nan") if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        seconds = float("nan")
    if not 0 <= seconds < math.inf:
        raise BadRow(f"{name} must be seconds, at least 0, is {value!r}")
    return seconds


def _fold(value: Any) -> int | str | None:
    if value in (None, ""):
        return None
    return _named_fold(value) if isinstance(value, str) else _checked_fold(value)


def _checked_fold(value: Any) -> int | str:
    if isinstance(value, bool) or not isinstance(value, (int, str)) or len(str(value)) > 100:
        raise BadRow(f"fold must be a whole number or a name, is {str(value)[:40]!r}")
    if is_half(str(value)):
        raise BadRow(f"fold {value!r} has half of a character")
    return int(value) if isinstance(value, str) and value.isdecimal() else value


_named_fold = lru_cache(_REPEATED)(_checked_fold)


def _text(value: Any) -> str:
    """Any other value as text; empty if there is none."""
    if value is None or value == "":
        return ""
    if isinstance(value, str) and value.isascii() and "\0" not in value:
        return value.strip()
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    if "\0" in text or is_half(text):
        raise BadRow(f"{text[:40]!r} is no text")
    return text.strip()
