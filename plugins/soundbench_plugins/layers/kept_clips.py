"""Clips kept in columns, so that a table that has been read for its classes need not be read again for its clips."""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterator
from typing import Any

from soundbench.contracts import Clip

__all__ = ["KeptClips"]


class KeptClips:
    """Clips in their order, in a few bytes each: a path for each, and of all else each distinct value once."""

    def __init__(self) -> None:
        self._paths: list[str] = []
        self._starts, self._stops = array("d"), array("d")  # a stop of NaN is the end of the file
        self._labels, self._folds, self._groups = _Values(), _Values(), _Values()
        self._extra: dict[str, _Values] = {}

    def add(self, clip: Clip) -> None:
        """Keep one more clip."""
        for name in clip.extra:
            if name not in self._extra:
                self._extra[name] = _Values(len(self._paths))
        for name, values in self._extra.items():
            values.add(clip.extra.get(name))
        self._paths.append(clip.path)
        self._starts.append(clip.start)
        self._stops.append(float("nan") if clip.stop is None else clip.stop)
        self._labels.add(clip.labels)
        self._folds.add(clip.fold)
        self._groups.add(clip.group)

    def __iter__(self) -> Iterator[Clip]:
        columns = (self._paths, self._labels, self._starts, self._stops, self._folds, self._groups)
        extra = {name: iter(values) for name, values in self._extra.items()}
        for path, labels, start, stop, fold, group in zip(*columns, strict=True):
            more = {name: text for name, texts in extra.items() if (text := next(texts)) is not None}
            yield Clip(path, labels, start, None if math.isnan(stop) else stop, fold, group, more)


class _Values:
    """A column: its distinct values, and the number of one for each row; -1 for None."""

    def __init__(self, before: int = 0) -> None:
        self.known: dict[Any, int] = {}
        self.codes = array("i", [-1]) * before  # the rows that have no value

    def add(self, value: Any) -> None:
        self.codes.append(-1 if value is None else self.known.setdefault(value, len(self.known)))

    def __iter__(self) -> Iterator[Any]:
        names = [*self.known, None]  # the last one is that of -1
        return map(names.__getitem__, self.codes)
