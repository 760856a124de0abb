"""The cells of a sweep: a recipe for each combination of the values that it lists, each fold and each seed."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import attrs
import tomli_w

from soundbench import limits
from soundbench.data import digests
from soundbench.data.clips import ClipTable, Fold
from soundbench.errors import Problem, RecipeError, SoundbenchError
from soundbench.messages import show
from soundbench.recipe import Recipe, local_files, relocated
from soundbench.recipe.composing import resolve
from soundbench.recipe.reading import Draft
from soundbench.recipe.registry import Registry
from soundbench.studies.sweep_file import ALL, Sweep, short_digest

__all__ = ["Cell", "cells_of", "label"]

# What the result of a run does not depend on: how it is shown and watched, and how a machine computes it.
_OF_TABLES = ("name", "report", "observer")
_OF_TRAIN = ("device", "threads", "num_workers", "compile", "cudnn_benchmark", "keep", "checkpoint_steps")


@attrs.frozen
class Cell:
    """One run of a sweep.

    Attributes:
        name: of its run directory: the backbone, and the digest of what its result depends on.
        values: the swept values by their keys, without fold and seed.
        fold: the fold that it tests on; None for the recipe's own test set.
        seed: its `train.seed`.
        recipe: its recipe as TOML, every default filled in.
        identity: what its result depends on, as TOML: the recipe without what concerns only display and machine, and
            the digest of each local file (`code`).
    """

    name: str
    values: dict[str, Any]
    fold: Fold | None
    seed: int
    recipe: str
    identity: str

    @property
    def label(self) -> str:
        """What distinguishes it from the others, for messages."""
        return label(self.values, self.fold, self.seed)


def label(values: Mapping[str, Any], fold: Fold | None = None, seed: int | None = None) -> str:
    """Values as in a recipe, such as `backbone.use = "tdnn", fold 1, seed 2`."""
    parts = [f"{key} = {show(value)}" for key, value in values.items()]
    parts += [] if fold is None else [f"fold {fold}"]
    return ", ".join([*parts, *([] if seed is None else [f"seed {seed}"])])


# The cells ------------------------------------------------------------------------------------------------------------


def cells_of(sweep: Sweep, check: Callable[[Recipe], object]) -> list[Cell]:
    """Resolve the recipe of every cell; this imports the plugins that they name.

    Args:
        sweep: the sweep.
        check: raises an error for a recipe that cannot be run; called for each combination of values and fold.

    Raises:
        RecipeError: the mistakes of all cells, each with the values of the first cell that has it.
        SoundbenchError: an error that is the same in all cells.
    """
    mistakes, registry = _Mistakes(sweep), Registry()
    cells: dict[str, Cell] = {}
    for values in sweep.combinations():
        folds: Sequence[Fold | None] = [None]
        seeds: Sequence[int | None] = sweep.seeds or [None]
        with mistakes.of(label(values), leaf=False) as of_values:
            if sweep.folds is not None:
                folds = _tested(resolve(sweep.draft.varied(values, sweep.path.parent), registry), sweep.folds)
        for fold, seed in itertools.product(folds if of_values.right else [], seeds):
            with mistakes.of(label(values, fold, seed)):
                recipe = resolve(_varied(sweep, values, fold, seed), registry)
                if seed == seeds[0]:
                    check(recipe)
                cell = _cell(recipe, values, fold)
                if (same := cells.get(cell.name)) is not None:
                    text = f"is the same run as {same.label}: no result depends on what differs"
                    raise RecipeError(sweep.draft.source, [Problem("", text)])
                cells[cell.name] = cell
    mistakes.raise_all()
    return list(cells.values())


def _varied(sweep: Sweep, values: Mapping[str, Any], fold: Fold | None, seed: int | None) -> Draft:
    """The draft of a cell. A fold leaves no fold to validate on, so a fraction of the others does."""
    from soundbench.data.splits import VALIDATION_SHARE

    own = dict(values)
    if seed is not None:
        own["train.seed"] = seed
    if fold is not None:
        own["split.test"] = [fold]
        split = sweep.draft.varied(values, sweep.path.parent).tables.get("split")
        if not isinstance(split, Mapping) or split.get("validation", "auto") == "auto":
            own["split.validation"] = VALIDATION_SHARE
    return sweep.draft.varied(own, sweep.path.parent)


def _tested(recipe: Recipe, folds: Sequence[Fold] | str) -> Sequence[Fold]:
    """The folds to test on.

    Raises:
        RecipeError: the dataset has fewer than two, or a list of folds is to validate each of them.
    """
    if folds != ALL:
        return list(folds)
    from soundbench.model import assembly

    found, problems = ClipTable.of(assembly.make_dataset(recipe)).folds_in_order(), list[Problem]()
    if len(found) < 2:
        text = f'sweep.folds = "all" needs a dataset with folds; this one has {len(found)}'
        problems.append(Problem("dataset", text))
    if isinstance(recipe.split.validation, list):
        text = 'sweep.folds = "all" tests on every fold; give a share of the clips, such as 0.1'
        problems.append(Problem("split.validation", text))
    if problems:
        raise RecipeError(recipe.source, problems)
    return found


def _cell(recipe: Recipe, values: Mapping[str, Any], fold: Fold | None) -> Cell:
    code = {name: digests.of_file(path) for name, path in local_files(recipe).items()}
    tables = relocated(recipe, "./model/code").tables()  # as the run directory has it, wherever the file lies
    identity = {key: value for key, value in tables.items() if key not in _OF_TABLES}
    identity["train"] = {key: value for key, value in identity["train"].items() if key not in _OF_TRAIN}
    identity["code"] = code
    backbone = recipe.backbone.use.rpartition(":")[2].rpartition("/")[2]
    name = f"{re.sub(r'[^A-Za-z0-9_.-]+', '-', backbone)}-{short_digest(identity)}"
    own = recipe.with_tables(name=name).to_toml()
    return Cell(name, _plain(values), fold, recipe.train.seed, own, tomli_w.dumps(identity))


def _plain(value: Any) -> Any:
    """The value for JSON, which has no infinity and no dates."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    finite = not isinstance(value, float) or math.isfinite(value)
    return value if isinstance(value, str | int | float) and finite else str(value)


# Mistakes -------------------------------------------------------------------------------------------------------------


class _Mistakes:
    """The mistakes of all cells: each is named once, with the first cell that has it unless all have it."""

    def __init__(self, sweep: Sweep) -> None:
        self.source = sweep.draft.source
        self.attempts = 0
        self.found: dict[Problem, list[str]] = {}
        self.errors: list[SoundbenchError] = []

    def of(self, label: str, leaf: bool = True) -> _Attempt:
        """A context that collects the error of one cell; not a leaf where several cells follow unless it fails."""
        return _Attempt(self, label, leaf)

    def raise_all(self) -> None:
        """Raise one error for all, if there are any."""
        if not self.errors:
            return
        if len(self.found) == 1 and len(self.errors) == self.attempts and not isinstance(self.errors[0], RecipeError):
            raise self.errors[0]
        problems = [self._named(*item) for item in list(self.found.items())[: limits.MISTAKES]]
        if (more := len(self.found) - len(problems)) > 0:
            problems.append(Problem("", f"and {more:,} more mistakes"))
        raise RecipeError(self.source, problems)

    def _named(self, problem: Problem, labels: Sequence[str]) -> Problem:
        if len(labels) == self.attempts or not labels[0]:
            return problem
        more = f" (and {len(labels) - 1:,} more)" if len(labels) > 1 else ""
        return Problem("", f"{labels[0]}{more}: {problem}", problem.plugin)


@attrs.define(eq=False)
class _Attempt:
    """The resolving of one cell, as a context that collects its error."""

    mistakes: _Mistakes
    label: str
    leaf: bool
    right: bool = True

    def __enter__(self) -> _Attempt:
        return self

    def __exit__(self, _: Any, error: BaseException | None, __: Any) -> bool:
        self.right = error is None
        self.mistakes.attempts += self.leaf or not self.right
        if not isinstance(error, SoundbenchError):
            return False
        problems = error.problems if isinstance(error, RecipeError) else (Problem("", str(error)),)
        for problem in problems:
            self.mistakes.found.setdefault(problem, []).append(self.label)
        self.mistakes.errors.append(error)
        return True
