"""The clips that are evaluated: a run's own test set, that of a recipe, or all of a table or a folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import attrs
import numpy as np
from numpy.typing import NDArray

from soundbench import recipe as recipes
from soundbench.contracts import Clip, Dataset
from soundbench.data.clips import ClipTable
from soundbench.data.likeness.groups import grouped
from soundbench.data.splits import settled, split
from soundbench.errors import CallError, RunError
from soundbench.inference.classifier import Classifier
from soundbench.model import assembly
from soundbench.model.plan import refuse_unknown_columns
from soundbench.recipe import ComponentSpec, Recipe
from soundbench.training.log import Say

__all__ = [
    "ALL_CLIPS",
    "Chosen",
    "EvaluatedClips",
    "dataset_spec",
    "other_sound",
    "own_test_set",
    "recipe_of",
    "test_set",
]

Rows = NDArray[np.int64]

ALL_CLIPS = "all clips of the dataset"
"""What the protocol says was evaluated where no split chose the clips."""


class Chosen:
    """Some clips of a table, as a dataset with a model's classes.

    Raises:
        CallError: labels that are not among the model's classes, or a multi-label dataset for a single-label model.
    """

    def __init__(self, classifier: Classifier, table: ClipTable, rows: Rows) -> None:
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
    recipe: Recipe, table: ClipTable, dataset: Dataset, cache: Path | str | bool, say: Say
) -> tuple[Recipe, ClipTable, Rows]:
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


@attrs.frozen
class EvaluatedClips:
    """The clips to evaluate.

    Attributes:
        name: the name of the evaluation.
        evaluated: which clips these are, for the protocol.
        recipe: the recipe whose dataset, split and `audio.on_error` apply.
        dataset: the dataset.
        table: its clips, with the model's classes.
        rows: the rows of the clips to evaluate.
        part: the part of each clip, `(N,)`, if this is the run's own data.
    """

    name: str
    evaluated: str
    recipe: Recipe
    dataset: Dataset
    table: ClipTable
    rows: Rows
    part: NDArray[np.int8] | None = None


def own_test_set(recipe: Recipe, classifier: Classifier, cache: Path | str | bool, say: Say) -> EvaluatedClips:
    """The run's own test set."""
    if recipe.split.test == 0:
        raise CallError(f"{recipe.source}: the run has no test set; give labelled sound with --dataset")
    dataset = assembly.make_dataset(recipe)
    table = ClipTable.of(dataset)
    if table.classes != classifier.classes:
        raise RunError(f"{recipe.source}: the classes of the data have changed since the run began")
    if recipe.split.near_duplicates == "group":
        table = grouped(table, dataset, cache, say)
    cut = split(table, recipe.split, recipe.source)
    return EvaluatedClips("own-test-set", "the run's own test set", recipe, dataset, table, cut.rows("test"), cut.part)


def other_sound(
    given: str | Path | Recipe, own: Recipe, classifier: Classifier, cache: Path | str | bool, say: Say
) -> EvaluatedClips:
    """The test set of a recipe, or all clips of a manifest or folder, with the model's classes."""
    named, path = recipe_of(given), Path(str(given))
    recipe = named or own.with_dataset(dataset_spec(path, classifier)).with_tables(source=str(path))
    dataset = assembly.make_dataset(recipe)
    table = ClipTable.of(dataset)
    name, evaluated, rows = path.stem, ALL_CLIPS, np.arange(len(table))
    if named:
        name, evaluated = recipe.name, "the test set of the recipe's split"
        recipe, table, rows = test_set(recipe, table, dataset, cache, say)
    chosen = ClipTable.of(Chosen(classifier, table, rows))
    return EvaluatedClips(name, evaluated, recipe, dataset, chosen, np.arange(len(chosen)))


def dataset_spec(path: Path, classifier: Classifier) -> ComponentSpec:
    """The dataset of a manifest or a folder."""
    if not path.exists():
        raise CallError(f"{path}: there is no such recipe, manifest or folder")
    return recipes.dataset_spec(path, classifier.multilabel)
