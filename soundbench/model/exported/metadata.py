"""What an exported file says of its model: the keys that scoring sound needs, checked. docs/design.md lists all."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import attrs

from soundbench.data.windowing.grid import Grid
from soundbench.errors import RunError
from soundbench.messages import show
from soundbench.model.rejecting.rule import Rule
from soundbench.recipe import tables

__all__ = ["FORMAT", "Metadata", "RejectRule"]

FORMAT = 1
"""The version of the metadata."""


@attrs.frozen
class RejectRule(Rule):
    """The thresholds of a model that rejects sound; see `Rule`."""

    clip: float | None
    window: float | None
    silence: bool


@attrs.frozen
class Metadata:
    """What an exported file says of its model.

    Attributes:
        values: all of it, as it is in the file.
        classes: the names of the classes, in the order of the scores.
        multilabel: whether a sound may have several labels.
        thresholds: the score from which each class is predicted, with one label only if it is the highest; None where
            the class with the highest score is predicted whatever it is.
        rate: the sample rate in Hz.
        grid: how a sound is cut into windows.
        window_limits: the shortest and the longest window, in samples.
        reject: what rejects sound; None where nothing does.
        components: the tables of `model.toml` that describe the network.
    """

    values: Mapping[str, Any]
    classes: tuple[str, ...]
    multilabel: bool
    thresholds: tuple[float, ...] | None
    rate: int
    grid: Grid
    window_limits: tuple[int, int]
    reject: RejectRule | None
    components: Mapping[str, Mapping[str, Any]]

    @classmethod
    def of(cls, values: Any, source: str) -> Metadata:
        """The metadata in the JSON of a file.

        Raises:
            RunError: they are of a newer format, or one that scoring needs is missing or no such value.
        """
        found = _Values(values, source)
        version = found("format", "a number", _whole)
        if version > FORMAT:
            maker = values.get("made_by")
            by = f", made by {show(maker)[1:-1]}" if isinstance(maker, str) else ""
            raise RunError(f"{source}: its format is {version}{by}; this version reads up to {FORMAT}: update it")
        classes = tuple(found("classes", "a list of distinct names", _names))
        count = len(classes)
        thresholds = found("thresholds", "null, or one per class", lambda v: v is None or _numbers(v, count))
        reject = found("reject", "null or a table", lambda v: v is None or isinstance(v, Mapping))
        trim = found("trim", 'a number or "off"', lambda v: v == "off" or _number(v))
        grid = Grid(found("window", "samples", _whole), found("hop", "samples", _whole), trim)
        return cls(
            values,
            classes,
            found("multilabel", "true or false", lambda v: isinstance(v, bool)),
            None if thresholds is None else tuple(map(float, thresholds)),
            found("rate", "Hz", _whole),
            grid,
            (found("shortest_window", "samples", _whole), found("longest_window", "samples", _whole)),
            None if reject is None else _rule(_Values(reject, source)),
            found("components", "tables", _tables),
        )

    @property
    def tables(self) -> dict[str, Any]:
        """The tables of a `model.toml` that describe the same model."""
        audio: dict[str, Any] = {
            "rate": self.rate,
            "window": self.grid.window / self.rate,
            "hop": self.grid.hop / self.rate,
        }
        audio |= {"trim": self.grid.trim, "level": self.values.get("level", "off")}
        own = {"format": tables.FORMAT, "classes": list(self.classes), "multilabel": self.multilabel, "audio": audio}
        return own | ({"thresholds": list(self.thresholds)} if self.thresholds else {}) | dict(self.components)


class _Values:
    """Values that are checked when they are taken."""

    def __init__(self, values: Any, source: str) -> None:
        self.values, self.source = values, source

    def __call__(self, key: str, wanted: str, fits: Callable[[Any], bool]) -> Any:
        if not isinstance(self.values, Mapping) or key not in self.values:
            raise RunError(f"{self.source}: damaged: its metadata have no {key}")
        if not fits(self.values[key]):
            raise RunError(f"{self.source}: damaged: {key} in its metadata is {show(self.values[key])}, not {wanted}")
        return self.values[key]


def _rule(found: _Values) -> RejectRule:
    clip, window = (found(f"{per}_threshold", "a number or null", _or_null) for per in ("clip", "window"))
    return RejectRule(clip, window, found("silence", "true or false", lambda v: isinstance(v, bool)))


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value < 1 << 40


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _or_null(value: Any) -> bool:
    return value is None or _number(value)


def _numbers(value: Any, count: int) -> bool:
    return isinstance(value, list) and len(value) == count and all(map(_number, value))


def _tables(value: Any) -> bool:
    return isinstance(value, Mapping) and all(isinstance(table, Mapping) for table in value.values())


def _names(value: Any) -> bool:
    named = isinstance(value, list) and value and all(isinstance(name, str) and "\0" not in name for name in value)
    return bool(named) and len(set(value)) == len(value)
