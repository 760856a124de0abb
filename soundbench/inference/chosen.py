"""The clips that are evaluated: of the test set of a recipe, as a dataset with the model's classes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from soundbench import recipe as recipes
from soundbench.contracts import Clip, Dataset
from soundbench.data.clips import ClipTable
from soundbench.data.likeness.groups import grouped
from soundbench.data.splits import settled, split
from soundbench.errors import CallError
from soundbench.inference.classifier import Classifier
from soundbench.model.plan import refuse_unknown_columns
from soundbench.recipe import Recipe

__all__ = ["Chosen", "recipe_of", "test_set"]


class Chosen:
    """Some clips of a table, as a dataset with a model's classes.

    Raises:
        CallError: labels that are not among the model's classes, or a multi-label dataset for a single-label model.
    """

    def __init__(self, classifier: Classifier, table: ClipTable, rows: NDArray[np.int64]) -> None:
        self.classes, self.multilabel = classifier.classes, classifier.multilabel
        self.table, self.rows = table, rows
        if table.multilabel and not self.multilabel:
            raise CallError("the dataset is multi-label, but the model predicts a single class per sound")
        counts = zip(table.classes, table.class_counts(rows).tolist(), strict=True)
        unknown = [f"{name!r} ({count})" for name, count in counts if count and name not in self.classes]
        if unknown:
            raise CallError(
                f"labels that are not among the model's classes, with their number of clips: {', '.join(unknown)}; "
                f"its classes: {', '.join(self.classes)}"
            )

    def clips(self) -> Iterator[Clip]:
        """The clips."""
        return (self.table.clip(int(row)) for row in self.rows)


def recipe_of(given: str | Path | Recipe) -> Recipe | None:
    """The recipe that is given; None for a table or a folder."""
    if isinstance(given, Recipe):
        return given
    return recipes.read(given) if Path(given).suffix == ".toml" else None


def test_set(
    recipe: Recipe, table: ClipTable, dataset: Dataset, cache: Path | str | bool, say: Callable[[str], None]
) -> tuple[Recipe, ClipTable, NDArray[np.int64]]:
    """The rows of a recipe's test set, with the recipe and the table as they are once it is split.

    Raises:
        RecipeError: the split does not fit the data.
    """
    refuse_unknown_columns(recipe, table)
    how, folds = settled(table, recipe.split)
    recipe = recipe.with_tables(split=how)
    if how.near_duplicates == "group":
        table = grouped(table, dataset, cache, say)
    rows = split(table, how, recipe.source).rows("test")
    if folds:
        say(folds)
    return recipe, table, rows
