"""Whether two results may be compared: the same dataset, classes, split, audio and test clips; what differs, if not.

The seed of training and the best epoch are no part of it. Absolute paths in the dataset's table may differ: the same
data may lie in another folder; what is compared is then noted.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import attrs

from soundbench import files
from soundbench.errors import CallError
from soundbench.messages import join, printable, show
from soundbench.recipe.composing import WHERE_SOUND_IS_KEPT
from soundbench.recipe.registry import is_file
from soundbench.recipe.structuring import key_of
from soundbench.recipe.tables import Audio, Split
from soundbench.report.run_directory import RunDirectory
from soundbench.studies.comparing.results import ClipKey, Result

__all__ = ["moved", "refuse_disagreement"]

_NAMED = 3  # how many differences a message names
_MISSING = object()


def refuse_disagreement(first: Result, other: Result) -> None:
    """Refuse two results that were not measured on the same clips by the same protocol.

    Raises:
        CallError: one line with what differs first.
    """
    for found in (_tables(first, other), _classes(first, other), _clips(first, other), _data(first, other)):
        differing = list(found)
        if differing:
            more = len(differing) - _NAMED
            named = "; ".join(differing[:_NAMED]) + (f"; and {more} more" if more > 0 else "")
            raise CallError(printable(f"{first.path} and {other.path} cannot be compared: {named}"))


def moved(first: Result, other: Result) -> list[str]:
    """The keys of the dataset that are different absolute paths."""
    a, b = (_flat("dataset", one.protocol["dataset"]) for one in (first, other))
    return [key for key in a if key in b and a[key] != b[key] and _are_paths(a[key], b[key])]


def _tables(first: Result, other: Result) -> Iterator[str]:
    """What differs in the tables of dataset, split and audio."""
    a, b = (
        _flat("dataset", _dataset(one.protocol["dataset"]))
        | _flat("split", _split(one.protocol))
        | _flat("audio", _audio(one.protocol["audio"]))
        for one in (first, other)
    )
    for key in {**a, **b}:
        ours, theirs = a.get(key, _MISSING), b.get(key, _MISSING)
        if ours != theirs and not _are_paths(ours, theirs):
            yield f"{key} is {_shown(ours)} in the first and {_shown(theirs)} in the second"


def _dataset(table: Mapping[str, Any]) -> Mapping[str, Any]:
    """The table of the dataset; a class in a local file has other paths in a run and its evaluations."""
    use = table.get("use")
    if not isinstance(use, str) or not is_file(use):
        return table
    return {**table, "use": use.replace("\\", "/").split("/")[-1]}


def _audio(table: Mapping[str, Any]) -> dict[str, Any]:
    """The table of sound with every key, but those that say where it is kept: it is the same sound."""
    return {key: value for key, value in _filled(Audio, table).items() if key not in WHERE_SOUND_IS_KEPT}


def _split(protocol: Mapping[str, Any]) -> dict[str, Any]:
    """The table of the split with every key, its seed only where something is drawn; empty where clips are not split.

    In a report of an older version, `train.seed` drew the split.
    """
    given = protocol.get("split")
    if not isinstance(given, Mapping):
        return {}
    table = _filled(Split, {"seed": protocol.get("seed", 1), **given})
    if all(isinstance(table[side], list | str) or not table[side] for side in ("test", "validation")):
        del table["seed"]
    return table


def _filled(cls: type, table: Mapping[str, Any]) -> dict[str, Any]:
    """A table with the defaults of the keys that an older version did not have."""
    return {key_of(field): field.default for field in attrs.fields(cls)} | dict(table)


def _flat(key: str, value: Any) -> dict[str, Any]:
    """The values of nested tables by their dotted keys; lists are values."""
    if not isinstance(value, Mapping):
        return {key: value}
    return {
        place: found for name, inner in value.items() for place, found in _flat(join(key, str(name)), inner).items()
    }


def _are_paths(ours: Any, theirs: Any) -> bool:
    return all(isinstance(one, str) and os.path.isabs(one) for one in (ours, theirs))


def _shown(value: Any) -> str:
    return "not set" if value is _MISSING or value is None else show(value)


def _classes(first: Result, other: Result) -> Iterator[str]:
    """What differs in the classes, whose order is that of the scores."""
    a, b = first.classes, other.classes
    if a == b and (first.thresholds is None) == (other.thresholds is None):
        return
    if a == b:
        yield "one has a single label for each clip, the other several"
    for number, (one, another) in enumerate(zip(a, b, strict=False), start=1):
        if one != another:
            yield f"class {number} is {show(one)} in the first and {show(another)} in the second"
    if len(a) != len(b):
        yield f"the first has {len(a)} classes, the second {len(b)}"


def _clips(first: Result, other: Result) -> Iterator[str]:
    """What differs in the test clips."""
    if first.clips == other.clips:
        return
    a, b = (Counter(one.clips) for one in (first, other))
    only = [sorted((one - another).elements()) for one, another in ((a, b), (b, a))]
    places = [{(key.path, key.start, key.stop): key for key in keys} for keys in only]
    for place, one in places[0].items():
        if place in places[1]:
            yield f"{_named(one)}: {_of(one)} in the first, {_of(places[1][place])} in the second"
            return
    for which, keys in zip(("first", "second"), only, strict=True):
        if keys:
            count = f"{len(keys)} test clip{'s' * (len(keys) > 1)}"
            yield f"{count} of the {which} alone, such as {_named(keys[0])}"


def _named(key: ClipKey) -> str:
    section = "" if key.start == 0 and key.stop == float("inf") else f" from {key.start:g} s"
    return f"{show(key.path)}{section}"


def _of(key: ClipKey) -> str:
    return f"label {', '.join(map(show, key.labels)) or 'none'}, group {show(key.group)}"


def _data(first: Result, other: Result) -> Iterator[str]:
    """Whether the data differ outside of the test set: in the parts of the clips, or in the sound."""
    for number, (ours, theirs) in enumerate(zip(first.data, other.data, strict=False)):
        if ours != theirs:
            yield _part(*(_parts(one, number) for one in (first, other)))
            return


def _parts(result: Result, fold: int) -> dict[tuple[str, str, str], str]:
    """The part of each clip of a run, or of the fold of that number."""
    directory = RunDirectory(result.path)
    if directory.has_folds:
        directory = directory.fold(files.read_json(directory.path / "folds.json", "folds")["folds"][fold])
    rows = files.read_rows(directory.clips, "part", "path", "start", "stop")
    return {(_end(row["path"]), row["start"], row["stop"]): row["part"] for row in rows}


def _end(path: str) -> str:
    """The last two parts of a path, as the fingerprint of the data has it."""
    return "/".join(path.replace("\\", "/").split("/")[-2:])


def _part(ours: Mapping[tuple[str, str, str], str], theirs: Mapping[tuple[str, str, str], str]) -> str:
    """The first clip that is in another part, or what else the fingerprint says."""
    for place in sorted({**ours, **theirs}):
        a, b = ours.get(place, "not listed"), theirs.get(place, "not listed")
        if a != b:
            return f"clips.csv: {show(place[0])} is {a} in the first and {b} in the second"
    return "the data has changed between them: its clips are in another order, or the lengths of its sound differ"
