"""Whether the weights of `[init]` have learnt from clips that the run tests on."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path, PurePath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from soundbench import files, limits
from soundbench.contracts import Dataset
from soundbench.data.clips import ClipTable
from soundbench.errors import SoundbenchError
from soundbench.model.stored.reading import TABLES
from soundbench.model.weights import place_of
from soundbench.recipe import Recipe
from soundbench.recipe.toml import parse
from soundbench.report.card.text import recipe_in
from soundbench.report.run_directory import RunDirectory

__all__ = ["learnt_before"]

_CARD = "README.md"
_UNKNOWN = (
    "whether the weights of init.from have learnt from the test clips is not known: the model has no card with a recipe"
)


def learnt_before(recipe: Recipe, dataset: Dataset, table: ClipTable, test: NDArray[np.int64]) -> str:
    """A line about test clips that the weights of `init.from` have learnt from; empty if there are none.

    If they are of a run that began with the weights of another one, that counts too, as long as its folder is there. Of
    a model without its run, an installed one too, its card tells which dataset it learnt from; nothing is known of
    weights in other files. Without files, paths are compared within the same dataset only.

    Args:
        recipe: the recipe.
        dataset: its dataset.
        table: the clips.
        test: the rows of the test set.

    Raises:
        RunError: the `clips.csv` of a run is damaged.
    """
    start = recipe.init.from_
    if start is None or not len(test):
        return ""
    runs, known, source = list[RunDirectory](), set[str](), _found(start)
    while source is not None and (run := _run_of(source)) is not None and run not in runs:
        runs.append(run)
        tables = _tables_of(run.recipe)
        if not hasattr(dataset, "read") or _dataset_of(tables) == _dataset_of(recipe.tables()):
            rows = files.read_rows(run.clips, "part", "path")
            known.update(row["path"] for row in rows if row["part"] in ("train", "validation"))
        before = _table(tables, "init").get("from")
        source = _found(before) if isinstance(before, str) else None
    count = sum(table.paths[row] in known for row in test.tolist())
    if count:
        return (
            f"{count} of {len(test)} test clips come from files that the weights of init.from were trained or "
            "validated on: expect worse figures for other sound"
        )
    return _by_card(source, recipe, dataset) if source is not None and _run_of(source) is None else ""


def _found(start: Path | str) -> Path | None:
    """The place of the weights; None if there is none any more."""
    with suppress(SoundbenchError):
        return place_of(Path(start) if Path(start).is_absolute() else start)
    return None


def _run_of(source: Path) -> RunDirectory | None:
    """The run directory that weights are of, or in; None if they are in none."""
    runs = map(RunDirectory, (source, *source.parents[:2]))
    return next((run for run in runs if run.recipe.is_file() and run.clips.is_file()), None)


def _by_card(source: Path, recipe: Recipe, dataset: Dataset) -> str:
    """The line about a model that is in no run, by the recipe of its card."""
    folder = source if source.is_dir() else source.parent
    if not (folder / TABLES).is_file():
        return ""
    learnt = _table(_recipe_of_card(folder / _CARD), "dataset")
    if not learnt:
        return _UNKNOWN
    if not _same_data(learnt, _table(recipe.tables(), "dataset"), hasattr(dataset, "title")):
        return ""
    return (
        "the model of init.from is of the same dataset, so its weights may have learnt from the test clips: "
        "expect worse figures for other sound"
    )


def _same_data(one: Mapping[str, Any], other: Mapping[str, Any], published: bool) -> bool:
    """Whether two tables are of the same dataset; a card has no paths, so folders and files have the same names."""
    if published:  # wherever it lies, and whichever part of it
        return one.get("use") == other.get("use")
    return _by_names(one) == _by_names(other)


def _by_names(table: Mapping[str, Any]) -> dict[str, Any]:
    return {key: PurePath(value).name if isinstance(value, str) else value for key, value in table.items()}


def _recipe_of_card(path: Path) -> dict[str, Any]:
    """The recipe that a card shows; empty where it shows none."""
    with suppress(OSError, ValueError):
        return parse(recipe_in(files.read_bytes(path, limits.TEXT).decode()).encode())
    return {}


def _tables_of(path: Path) -> dict[str, Any]:
    """The tables of a recipe; none if it cannot be read."""
    with suppress(OSError, ValueError):
        return parse(files.read_bytes(path, limits.TEXT))
    return {}


def _table(tables: Mapping[str, Any], name: str) -> dict[str, Any]:
    found = tables.get(name)
    return found if isinstance(found, dict) else {}


def _dataset_of(tables: Mapping[str, Any]) -> dict[str, Any]:
    """The table of the dataset, without the folder of own code, of which a run has a copy."""
    table = _table(tables, "dataset")
    return {**table, "use": str(table.get("use")).rpartition("/")[2]}
