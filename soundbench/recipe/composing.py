"""`Recipe` and `Model`: what a run, and what judging, is made of; from a file, from Python, from `model.toml`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import attrs
import tomli_w

from soundbench.messages import show
from soundbench.recipe.reading import Draft, draft_of, find_recipe, read_draft
from soundbench.recipe.registry import Registry
from soundbench.recipe.resolving import ComponentSpec, Resolver
from soundbench.recipe.structuring import plain, structure
from soundbench.recipe.tables import FOLDER_DATASET, FORMAT, MANIFEST_DATASET, TABLES, Audio, Head, Init, Split, Train

__all__ = ["Model", "Recipe", "compose", "dataset_spec", "model_tables", "read", "read_model"]

_OF_CLASSES = ("classes", "multilabel", "thresholds")
_MODEL = ("audio", "featurizer", "backbone", "pooling", "head", "loss")


@attrs.frozen(init=False)
class Recipe:
    """What a run is made of: every component found, every option checked, every default written out.

        Recipe(dataset={"use": "folder", "root": "sounds"}, backbone=MyNet, train={"epochs": 3})

    Args:
        name: the recipe's name, which run directories are called after.
        source: how messages call the recipe.
        base: the folder that local files are relative to; None for the working directory.
        registry: where components are found; None for what is installed.
        **tables: the tables of a recipe. A component is a mapping with `use`, a name, a class, or a `ComponentSpec`;
            the core's own are mappings or `Split`, `Audio`, `Head`, `Init`, `Train`.

    Raises:
        RecipeError: all mistakes at once.
    """

    dataset: ComponentSpec
    split: Split
    audio: Audio
    augmentation: tuple[ComponentSpec, ...]
    featurizer: ComponentSpec
    backbone: ComponentSpec
    pooling: ComponentSpec
    head: Head
    init: Init
    loss: ComponentSpec
    optimizer: ComponentSpec
    scheduler: ComponentSpec
    train: Train
    observer: tuple[ComponentSpec, ...]
    name: str = attrs.field(default="recipe", eq=False)
    source: str = attrs.field(default="<python>", eq=False)

    def __init__(
        self,
        *,
        name: str = "recipe",
        source: str = "<python>",
        base: Path | None = None,
        registry: Registry | None = None,
        **tables: Any,
    ) -> None:
        draft = draft_of(tables, name, source, base)
        self.__attrs_init__(**_resolve(draft, registry, True))

    def with_tables(self, **changes: Any) -> Recipe:
        """The recipe with some of its tables changed, for tables that are made and checked already."""
        return attrs.evolve(self, **changes)

    def components(self) -> Iterator[ComponentSpec]:
        """Every component, in the order of the tables."""
        for table in TABLES:
            value = getattr(self, table)
            yield from (value,) if isinstance(value, ComponentSpec) else value if isinstance(value, tuple) else ()

    def tables(self) -> dict[str, Any]:
        """The recipe as plain TOML tables, every default written out, `use` first; what is None is left out."""
        return {"name": self.name} | {table: _plain(getattr(self, table)) for table in TABLES}

    def to_toml(self) -> str:
        """The recipe as a file that, read again, is the same recipe; it opens with where each component came from."""
        try:
            own = f"soundbench {version('soundbench')}"
        except PackageNotFoundError:
            own = "soundbench"
        lines = [f"# Resolved by {own}, every default written out: running it again is running the same."]
        for spec in self.components():
            component = spec.component
            own_code = component.source.name if component.source else "Python"
            origin = f"{component.distribution} {component.version}".strip() or own_code
            lines.append(f"# {spec.kind} {spec.use}: {origin}")
        head = "\n".join(line.replace("\n", " ") for line in lines)
        return f"{head}\n\n" + tomli_w.dumps({"format": FORMAT} | self.tables())


@attrs.frozen
class Model:
    """What judging needs of a recipe, and the classes: the content of `model.toml`.

    Of a multilabel model, `thresholds` are the scores from which on a sound is said to carry each class; none is 0.5.
    """

    classes: tuple[str, ...]
    multilabel: bool
    thresholds: tuple[float, ...]
    audio: Audio
    featurizer: ComponentSpec
    backbone: ComponentSpec
    pooling: ComponentSpec
    head: Head
    loss: ComponentSpec


def compose(
    tables: Mapping[str, Any], name: str = "recipe", base: Path | None = None, registry: Registry | None = None
) -> Recipe:
    """A recipe from tables; see `Recipe`."""
    return Recipe(**{"name": name, **tables}, base=base, registry=registry)


def read(
    path: str | Path, sets: Sequence[str] = (), registry: Registry | None = None, trust_code: bool = True
) -> Recipe:
    """A recipe from its file.

    Args:
        path: the file, or the name of one that ships with soundbench.
        sets: what the command line sets, `KEY=VALUE` each.
        registry: where components are found; None for what is installed.
        trust_code: whether components in local files may be executed; False for the recipe of somebody's run.

    Raises:
        RecipeError: all mistakes at once.
    """
    draft = read_draft(find_recipe(path), sets)
    recipe = Recipe.__new__(Recipe)
    recipe.__attrs_init__(**_resolve(draft, registry, trust_code))
    return recipe


def dataset_spec(path: Path, multilabel: bool = False, registry: Registry | None = None) -> ComponentSpec:
    """The dataset that sounds without a recipe make: those of a folder of class folders, or those that a table lists.

    Args:
        path: the folder or the table.
        multilabel: whether a sound of the table may have several labels.
        registry: where components are found; None for what is installed.
    """
    listed = {"use": MANIFEST_DATASET, "path": str(path), "multilabel": multilabel}
    table = {"use": FOLDER_DATASET, "root": str(path)} if path.is_dir() else listed
    draft = draft_of({"dataset": table}, path.stem, str(path), None)
    spec: ComponentSpec = Resolver(draft, registry, False).resolve(("dataset",), ("dataset",))["dataset"]
    return spec


def model_tables(
    recipe: Recipe | Model, classes: Sequence[str], multilabel: bool = False, thresholds: Sequence[float] = ()
) -> dict[str, Any]:
    """What `model.toml` holds."""
    head = {"format": FORMAT, "classes": list(classes), "multilabel": multilabel}
    head |= {"thresholds": list(thresholds)} if thresholds else {}
    return head | {table: _plain(getattr(recipe, table)) for table in _MODEL}


def read_model(
    tables: Mapping[str, Any],
    base: Path | None = None,
    registry: Registry | None = None,
    trust_code: bool = False,
    source: str = "model.toml",
) -> Model:
    """The model that the tables of a `model.toml` describe.

    Args:
        tables: what the file holds.
        base: the model's folder.
        registry: where components are found; None for what is installed.
        trust_code: whether code that came with the model may be executed.
        source: how messages call the file.

    Raises:
        RecipeError: all mistakes at once.
    """
    own = {key: tables[key] for key in tables if key not in _OF_CLASSES}
    resolver = Resolver(draft_of(own, "model", source, base), registry, trust_code)
    head, problems = structure(_ModelHead, {key: tables[key] for key in tables if key not in own}, "")
    resolver.draft.problems += problems
    made = resolver.resolve(_MODEL, _MODEL)
    assert head is not None
    return Model(tuple(head.classes), head.multilabel, tuple(head.thresholds), **made)


def _distinct(_: Any, attribute: attrs.Attribute[Any], value: list[str]) -> None:
    if not value or len(set(value)) != len(value):
        raise ValueError(f"{attribute.name} must be different names, at least one, is {show(value)}")


@attrs.frozen
class _ModelHead:
    classes: list[str] = attrs.field(validator=_distinct)
    multilabel: bool = False
    thresholds: list[float] = attrs.field(factory=list)

    def __attrs_post_init__(self) -> None:
        if self.thresholds and len(self.thresholds) != len(self.classes):
            raise ValueError(f"thresholds must be {len(self.classes)}, one a class, are {len(self.thresholds)}")


@attrs.frozen
class _Name:
    name: str = attrs.field()

    @name.validator
    def _check(self, attribute: attrs.Attribute[Any], value: str) -> None:
        if not value.strip() or "/" in value or "\0" in value or value.startswith("."):
            raise ValueError(f"{attribute.name} must be fit for a folder's name, is {show(value)}")


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [spec.table() for spec in value]
    return value.table() if isinstance(value, ComponentSpec) else plain(value)


def _resolve(draft: Draft, registry: Registry | None, trust_code: bool) -> dict[str, Any]:
    """The fields of a recipe."""
    draft.problems += structure(_Name, {"name": draft.name}, "")[1]
    made = Resolver(draft, registry, trust_code).resolve(TABLES, ("dataset", "backbone"))
    return {**made, "name": draft.name, "source": draft.source}
