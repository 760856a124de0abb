"""A sweep file: a recipe, or one that extends another, with a table `[sweep]` of lists; read, but not resolved."""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

from soundbench import files, limits
from soundbench.data import digests
from soundbench.data.clips import Fold
from soundbench.errors import Problem, RecipeError, SoundbenchError
from soundbench.messages import join, show
from soundbench.recipe import find_recipe
from soundbench.recipe.reading import Draft, read_draft
from soundbench.recipe.registry import is_file

__all__ = ["ALL", "Range", "Sweep", "read_sweep", "short_digest"]

ALL = "all"
"""The value of `folds` that stands for those of the dataset."""


@attrs.frozen
class Range:
    """The numbers that a search draws from; integers if both ends are."""

    low: float
    high: float
    log: bool = False


@attrs.frozen
class Sweep:
    """A sweep file, read but not resolved.

    Attributes:
        path: the file.
        draft: the recipe that is varied.
        axes: the listed values of each key.
        folds: the folds to test on in turn: "all", a list, or None for the recipe's own test set.
        seeds: each `train.seed`; None for the recipe's own.
        ranges: the ranges that are searched; none for a sweep over lists alone.
        trials: how many runs a search has.
        stop_early: whether a search stops runs that do worse than others.
    """

    path: Path
    draft: Draft
    axes: Mapping[str, Sequence[Any]]
    folds: Sequence[Fold] | str | None
    seeds: Sequence[int] | None
    ranges: Mapping[str, Range] = attrs.field(factory=dict)
    trials: int = 0
    stop_early: bool = False

    def combinations(self) -> Iterator[dict[str, Any]]:
        """The combinations of values, in the order of the file."""
        yield from (dict(zip(self.axes, values, strict=True)) for values in itertools.product(*self.axes.values()))

    def digest(self) -> str:
        """A digest of all that the cells are made of: the merged file, local code, and the working directory."""
        content = [self.draft.tables, self.axes, self.folds, self.seeds, str(self.path.parent), os.getcwd()]
        content += [{key: attrs.asdict(one) for key, one in self.ranges.items()}] * bool(self.ranges)
        code = {use: _code_digest(use, self.path.parent) for use in sorted(set(_local(content)))}
        return short_digest([*content, code])


def read_sweep(path: str | Path) -> Sweep:
    """Read a sweep file: a recipe, or one that `extends` another, with a table `[sweep]`.

    Raises:
        RecipeError: all mistakes of that table.
    """
    found = find_recipe(path)
    draft = read_draft(found)
    table = draft.tables.pop("sweep", None)
    if not isinstance(table, Mapping):
        text = 'must be a table of lists, such as "optimizer.lr" = [1e-3, 3e-3]'
        raise RecipeError(draft.source, [Problem("sweep", text if table is not None else f"is missing; it {text}")])
    table, problems = dict(table), list[Problem]()
    seeds = _seeds(table.pop("seeds", None), problems)
    folds = _folds(table.pop("folds", None), problems)
    search = {key: table.pop(key) for key in ("trials", "stop_early") if key in table}
    axes, ranges = dict[str, list[Any]](), dict[str, Range]()
    for key, values in _flat(table):
        taken = {"train.seed": "seeds"} | ({"split.test": "folds"} if folds is not None else {})
        if key in taken:
            problems.append(Problem(f"sweep.{key}", f"is what sweep.{taken[key]} sets; use one of them"))
        elif key in axes:
            problems.append(Problem(f"sweep.{key}", "is given twice"))
        elif isinstance(values, Mapping):
            ranges |= _range(key, values, problems)
        elif _is_list(values, f"sweep.{key}", problems):
            axes[key] = values
    count = math.prod(len(one) for one in (*axes.values(), seeds or [1]))
    if count > limits.CELLS:
        problems.append(Problem("sweep", f"has {count:,} cells; at most {limits.CELLS:,} are possible"))
    if not (axes or seeds or folds or ranges) and not problems:
        problems.append(Problem("sweep", "lists nothing; give values of a key, seeds or folds"))
    problems += _of_search(search, bool(ranges), seeds is not None or folds is not None)
    if problems:
        raise RecipeError(draft.source, problems)
    return Sweep(found, draft, axes, folds, seeds, ranges, **search)


def _range(key: str, given: Mapping[str, Any], problems: list[Problem]) -> dict[str, Range]:
    """The range of a key; nothing, and a problem, if it is none."""
    low: Any
    high: Any
    low, high, log = given.get("low"), given.get("high"), given.get("log", False)
    numbers = all(isinstance(one, int | float) and not isinstance(one, bool) for one in (low, high))
    if numbers and low < high and math.isfinite(high - low) and isinstance(log, bool) and (low > 0 or not log):
        return {key: Range(low, high, log)}
    example = "such as {low = 1e-4, high = 1e-2, log = true}; with log above 0"
    problems.append(Problem(f"sweep.{key}", f"must be a list, or a range {example}; is {show(given)}"))
    return {}


def _of_search(search: Mapping[str, Any], ranges: bool, several: bool) -> list[Problem]:
    """The problems with the keys that only a search has."""
    problems = [Problem(f"sweep.{key}", "is for ranges, and there are none") for key in search if not ranges]
    if ranges:
        trials = search.get("trials")
        if not isinstance(trials, int) or isinstance(trials, bool) or not 1 <= trials <= limits.CELLS:
            text = f"must be how many values to try, from 1 to {limits.CELLS:,}, is {show(trials)}"
            problems.append(Problem("sweep.trials", text if trials is not None else "is missing; ranges need it"))
        if not isinstance(search.get("stop_early", False), bool):
            problems.append(Problem("sweep.stop_early", f"must be true or false, is {show(search['stop_early'])}"))
        if several:
            text = "ranges are searched with one run a trial; leave out seeds and folds, and sweep them afterwards"
            problems.append(Problem("sweep", text))
    return problems


def _flat(table: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    """Keys and their lists or ranges; `backbone.use = [...]` without quotes is a table in a table."""
    for name, value in table.items():
        key = join(above, name) if above else name
        if isinstance(value, Mapping) and not value.keys() & {"low", "high"}:
            yield from _flat(value, key)
        else:
            yield key, value


def _is_list(values: Any, key: str, problems: list[Problem]) -> bool:
    """Whether values are a list of distinct ones; else a problem is added."""
    texts = [json.dumps(value, default=str, sort_keys=True) for value in values] if isinstance(values, list) else []
    twice = [value for number, value in enumerate(values) if texts[number] in texts[:number]] if texts else []
    if not texts:
        problems.append(Problem(key, f"must be a list of at least one value, is {show(values)}"))
    if twice:
        problems.append(Problem(key, f"has {show(twice[0])} twice"))
    return bool(texts) and not twice


def _seeds(given: Any, problems: list[Problem]) -> list[int] | None:
    found: list[int] | None = given if isinstance(given, list) else None
    if isinstance(given, int) and not isinstance(given, bool) and 1 <= given <= limits.CELLS:
        return list(range(1, given + 1))
    whole = isinstance(given, list) and all(isinstance(one, int) and not isinstance(one, bool) for one in given)
    if given is None or (whole and _is_list(given, "sweep.seeds", problems)):
        return found
    if not whole:
        problems.append(Problem("sweep.seeds", f"must be how many, or a list of integers, is {show(given)}"))
    return None


def _folds(given: Any, problems: list[Problem]) -> list[Fold] | str | None:
    named = isinstance(given, list) and all(isinstance(one, int | str) and not isinstance(one, bool) for one in given)
    found: list[Fold] | str | None = given if isinstance(given, list | str) else None
    if given is None or given == ALL or (named and _is_list(given, "sweep.folds", problems)):
        return found
    if not named:
        problems.append(Problem("sweep.folds", f'must be "all" or a list of folds, is {show(given)}'))
    return None


# What the cells are made of -------------------------------------------------------------------------------------------


def short_digest(content: Any) -> str:
    """A digest of plain values, 12 hexadecimal digits."""
    text = json.dumps(content, sort_keys=True, default=str, ensure_ascii=True)
    return hashlib.blake2b(text.encode(), digest_size=6).hexdigest()


def _local(value: Any) -> Iterator[str]:
    """The texts inside a value that may name a component in a local file."""
    if isinstance(value, str):
        yield from [value] if is_file(value) else []
    elif isinstance(value, Mapping | list | tuple):
        for item in value.values() if isinstance(value, Mapping) else value:
            yield from _local(item)


def _code_digest(use: str, base: Path) -> str:
    path = base / os.path.expanduser(use.rpartition(":")[0] or use)
    try:
        return digests.of_bytes(files.read_bytes(path, limits.TEXT))
    except (OSError, ValueError, SoundbenchError):
        return ""
