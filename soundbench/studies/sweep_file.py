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

__all__ = ["ALL", "Sweep", "read_sweep", "short_digest"]

ALL = "all"
"""The value of `folds` that stands for those of the dataset."""


@attrs.frozen
class Sweep:
    """A sweep file, read but not resolved.

    Attributes:
        path: the file.
        draft: the recipe that is varied.
        axes: the listed values of each key.
        folds: the folds to test on in turn: "all", a list, or None for the recipe's own test set.
        seeds: each `train.seed`; None for the recipe's own.
    """

    path: Path
    draft: Draft
    axes: Mapping[str, Sequence[Any]]
    folds: Sequence[Fold] | str | None
    seeds: Sequence[int] | None

    def combinations(self) -> Iterator[dict[str, Any]]:
        """The combinations of values, in the order of the file."""
        yield from (dict(zip(self.axes, values, strict=True)) for values in itertools.product(*self.axes.values()))

    def digest(self) -> str:
        """A digest of all that the cells are made of: the merged file, local code, and the working directory."""
        content = [self.draft.tables, self.axes, self.folds, self.seeds, str(self.path.parent), os.getcwd()]
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
    axes: dict[str, list[Any]] = {}
    for key, values in _flat(table):
        taken = {"train.seed": "seeds"} | ({"split.test": "folds"} if folds is not None else {})
        if key in taken:
            problems.append(Problem(f"sweep.{key}", f"is what sweep.{taken[key]} sets; use one of them"))
        elif key in axes:
            problems.append(Problem(f"sweep.{key}", "is given twice"))
        elif _is_list(values, f"sweep.{key}", problems):
            axes[key] = values
    count = math.prod(len(one) for one in (*axes.values(), seeds or [1]))
    if count > limits.CELLS:
        problems.append(Problem("sweep", f"has {count:,} cells; at most {limits.CELLS:,} are possible"))
    if not (axes or seeds or folds) and not problems:
        problems.append(Problem("sweep", "lists nothing; give values of a key, seeds or folds"))
    if problems:
        raise RecipeError(draft.source, problems)
    return Sweep(found, draft, axes, folds, seeds)


def _flat(table: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    """Keys and their lists; `backbone.use = [...]` without quotes is a table in a table."""
    for name, value in table.items():
        key = join(above, name) if above else name
        if isinstance(value, Mapping):
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
    if isinstance(given, int) and not isinstance(given, bool) and 1 <= given <= limits.CELLS:
        return list(range(1, given + 1))
    whole = isinstance(given, list) and all(isinstance(one, int) and not isinstance(one, bool) for one in given)
    if given is None or (whole and _is_list(given, "sweep.seeds", problems)):
        return given
    if not whole:
        problems.append(Problem("sweep.seeds", f"must be how many, or a list of integers, is {show(given)}"))
    return None


def _folds(given: Any, problems: list[Problem]) -> list[Fold] | str | None:
    named = isinstance(given, list) and all(isinstance(one, int | str) and not isinstance(one, bool) for one in given)
    if given is None or given == ALL or (named and _is_list(given, "sweep.folds", problems)):
        return given
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
