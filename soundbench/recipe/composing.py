"""`Recipe` and `Model`: everything that defines a run or a trained model; from a file, Python or `model.toml`."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import attrs
import tomli_w

from soundbench.errors import CallError, Problem, RecipeError
from soundbench.messages import show
from soundbench.recipe.reading import Draft, draft_of, find_recipe, read_draft
from soundbench.recipe.registry import Registry
from soundbench.recipe.resolving import ComponentSpec, Resolver
from soundbench.recipe.structuring import plain, structure
from soundbench.recipe.tables import (
    ANNOTATIONS_DATASET,
    FOLDER_DATASET,
    FORMAT,
    MANIFEST_DATASET,
    TABLES,
    Audio,
    Head,
    Init,
    Report,
    Split,
    Train,
)

__all__ = [
    "WHERE_SOUND_IS_KEPT",
    "Model",
    "Recipe",
    "annotations_spec",
    "compose",
    "dataset_of",
    "dataset_spec",
    "given",
    "model_tables",
    "read",
    "read_model",
    "resolve",
]

_OF_CLASSES = ("classes", "multilabel", "thresholds")
_SHOWN = ("dataset", "featurizer", "backbone", "pooling", "loss", "optimizer")
_MODEL = ("audio", "featurizer", "backbone", "pooling", "head", "loss")
_FITTED = ("calibration", "reject")
# Keys of [audio] that are about the sound of training alone; a model has no use for them.
WHERE_SOUND_IS_KEPT = ("store", "shards_in_memory")
# The framework's keys of [reject] that scoring needs.
_REJECTS_BY = ("clip_threshold", "window_threshold", "silence")


@attrs.frozen(init=False, repr=False)
class Recipe:
    """Everything that defines a run: every component found, every option checked, every default filled in.

        Recipe(dataset={"use": "folder", "root": "sounds"}, backbone=MyNet, train={"epochs": 3})

    Args:
        name: the name of the recipe; names of run directories start with it.
        source: the name of the recipe in messages.
        base: the folder that local files are relative to; None for the working directory.
        registry: where components are found; None for the installed ones.
        **tables: the tables of a recipe. A component is a mapping with `use`, a name, a class, or a `ComponentSpec`;
            the other tables are mappings or `Split`, `Audio`, `Head`, `Init`, `Train`, `Report`.

    Raises:
        RecipeError: with all mistakes.
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
    calibration: ComponentSpec
    reject: ComponentSpec
    report: Report
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

    def __repr__(self) -> str:
        names = [f"{table}={getattr(self, table).use!r}" for table in _SHOWN]
        names += [f"{len(self.augmentation)} augmentations"] * bool(self.augmentation)
        audio, train = self.audio, self.train
        settings = f"{train.epochs} epochs of batch size {train.batch_size}, {audio.rate} Hz, {audio.window:g} s"
        return f"Recipe({self.name!r}, {', '.join(names)}: {settings})"

    def with_tables(self, **changes: Any) -> Recipe:
        """The recipe with some tables replaced; they are not checked again."""
        return attrs.evolve(self, **changes)

    def with_dataset(self, dataset: ComponentSpec) -> Recipe:
        """The recipe with another dataset, of which no class is left out."""
        own = attrs.evolve(self.reject.own, leave_out=())
        return self.with_tables(dataset=dataset, reject=attrs.evolve(self.reject, own=own))

    def components(self) -> Iterator[ComponentSpec]:
        """Every component, in the order of the tables."""
        for table in TABLES:
            value = getattr(self, table)
            yield from (value,) if isinstance(value, ComponentSpec) else value if isinstance(value, tuple) else ()

    def tables(self) -> dict[str, Any]:
        """The recipe as plain TOML tables, with every default, `use` first; None is left out."""
        return {"name": self.name} | {table: _plain(getattr(self, table)) for table in TABLES}

    def to_toml(self) -> str:
        """The recipe as a TOML file, which gives the same recipe when read; comments name the origin of components."""
        try:
            own = f"soundbench {version('soundbench')}"
        except PackageNotFoundError:
            own = "soundbench"
        lines = [f"# Resolved by {own}, with every default filled in. Running this file repeats the run."]
        for spec in self.components():
            component = spec.component
            own_code = component.source.name if component.source else "Python"
            origin = f"{component.distribution} {component.version}".strip() or own_code
            lines.append(f"# {spec.kind} {spec.use}: {origin}")
        head = "\n".join(line.replace("\n", " ") for line in lines)
        return f"{head}\n\n" + tomli_w.dumps({"format": FORMAT} | self.tables())


@attrs.frozen
class Model:
    """The parts of a recipe that prediction needs, and the classes: the content of `model.toml`.

    A multi-label model predicts the classes that score at least their value in `thresholds`; if empty, 0.5 each. Where
    `calibration` is None, scores are not calibrated; where `reject` is None, nothing is rejected.
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
    calibration: ComponentSpec | None = None
    reject: ComponentSpec | None = None


def compose(
    tables: Mapping[str, Any], name: str = "recipe", base: Path | None = None, registry: Registry | None = None
) -> Recipe:
    """A recipe from tables; see `Recipe`."""
    return Recipe(**{"name": name, **tables}, base=base, registry=registry)


def read(
    path: str | Path, sets: Sequence[str] = (), registry: Registry | None = None, trust_code: bool = True
) -> Recipe:
    """Read a recipe from a file.

    Args:
        path: the file, or the name of one that ships with soundbench.
        sets: the values of `--set`, each `KEY=VALUE`.
        registry: where components are found; None for the installed ones.
        trust_code: whether components in local files may be executed; False for the recipe of a run.

    Raises:
        RecipeError: with all mistakes.
    """
    return resolve(read_draft(find_recipe(path), sets), registry, trust_code)


def resolve(draft: Draft, registry: Registry | None = None, trust_code: bool = True) -> Recipe:
    """The recipe of a draft; the arguments are those of `read`.

    Raises:
        RecipeError: with all mistakes.
    """
    recipe = Recipe.__new__(Recipe)
    recipe.__attrs_init__(**_resolve(draft, registry, trust_code))
    return recipe


def given(recipe: Recipe | str | Path) -> Recipe:
    """The recipe that a caller gives: one that is made already, or the path of one, which is read.

    Raises:
        CallError: it is neither.
        RecipeError: mistakes in the recipe.
    """
    if isinstance(recipe, Recipe):
        return recipe
    if isinstance(recipe, str | os.PathLike):
        return read(recipe)
    kind = type(recipe).__name__
    raise CallError(f"recipe must be a soundbench.Recipe or the path of a recipe, is of the type {kind}")


def dataset_spec(path: Path, multilabel: bool = False, registry: Registry | None = None) -> ComponentSpec:
    """The dataset for sound files without a recipe: a folder with one folder per class, or a table of files.

    Args:
        path: the folder or the table.
        multilabel: whether a file in the table can have several labels.
        registry: where components are found; None for the installed ones.
    """
    listed = {"use": MANIFEST_DATASET, "path": str(path), "multilabel": multilabel}
    table = {"use": FOLDER_DATASET, "root": str(path)} if path.is_dir() else listed
    return dataset_of(table, str(path), registry=registry)


def annotations_spec(tables: Path, sounds: Path | None = None, registry: Registry | None = None) -> ComponentSpec:
    """The dataset for annotated recordings without a recipe.

    Args:
        tables: a table of annotations, or a folder of them.
        sounds: the folder of the recordings; None for that of the tables.
        registry: where components are found; None for the installed ones.
    """
    table = {"use": ANNOTATIONS_DATASET, "tables": str(tables), **({"sounds": str(sounds)} if sounds else {})}
    return dataset_of(table, str(tables), registry=registry)


def dataset_of(
    table: Mapping[str, Any],
    source: str,
    base: Path | None = None,
    registry: Registry | None = None,
    trust_code: bool = False,
) -> ComponentSpec:
    """The dataset that the table `[dataset]` of a recipe or of a report describes; nothing else is imported.

    Args:
        table: the table.
        source: what messages call it.
        base: the folder that local files are relative to; None for the working directory.
        registry: where components are found; None for the installed ones.
        trust_code: whether a dataset in a local file may be executed.

    Raises:
        RecipeError: with all mistakes.
    """
    draft = draft_of({"dataset": table}, Path(source).stem, source, base)
    spec: ComponentSpec = Resolver(draft, registry, trust_code).resolve(("dataset",), ("dataset",))["dataset"]
    return spec


def model_tables(
    recipe: Recipe | Model,
    classes: Sequence[str],
    multilabel: bool = False,
    thresholds: Sequence[float] = (),
    calibration: ComponentSpec | None = None,
    reject: ComponentSpec | None = None,
) -> dict[str, Any]:
    """The content of `model.toml`; `calibration` and `reject` are the fitted ones, if there are any."""
    head = {"format": FORMAT, "classes": list(classes), "multilabel": multilabel}
    head |= {"thresholds": list(thresholds)} if thresholds else {}
    fitted = {} if calibration is None else {"calibration": {"use": calibration.use, **plain(calibration.options)}}
    if reject is not None:
        own = plain({name: getattr(reject.own, name) for name in _REJECTS_BY})
        fitted["reject"] = {"use": reject.use, **own, **plain(reject.options)}
    tables = {table: _plain(getattr(recipe, table)) for table in _MODEL}
    tables["audio"] = {key: value for key, value in tables["audio"].items() if key not in WHERE_SOUND_IS_KEPT}
    return head | tables | fitted


def read_model(
    tables: Mapping[str, Any],
    base: Path | None = None,
    registry: Registry | None = None,
    trust_code: bool = False,
    source: str = "model.toml",
) -> Model:
    """Make a model from the tables of a `model.toml`.

    Args:
        tables: the content of the file.
        base: the model's folder.
        registry: where components are found; None for the installed ones.
        trust_code: whether Python files in the model folder may be executed.
        source: the name of the file in messages.

    Raises:
        RecipeError: with all mistakes.
    """
    own = {key: tables[key] for key in tables if key not in _OF_CLASSES}
    resolver = Resolver(draft_of(own, "model", source, base), registry, trust_code)
    head, problems = _head(tables)
    resolver.draft.problems += problems
    made = resolver.resolve([*_MODEL, *(table for table in _FITTED if table in own)], _MODEL)
    assert head is not None
    return Model(_named(head), head.multilabel, tuple(head.thresholds), **made)


def read_classes(tables: Mapping[str, Any], source: str) -> tuple[str, ...]:
    """The names of the classes in the tables of a `model.toml`, whose components are not looked for.

    Raises:
        RecipeError: what is said of the classes is wrong.
    """
    head, problems = _head(tables)
    if head is None:
        raise RecipeError(source, problems)
    return _named(head)


def _head(tables: Mapping[str, Any]) -> tuple[_ModelHead | None, list[Problem]]:
    """What a `model.toml` says of the classes, and the mistakes in it."""
    return structure(_ModelHead, {key: tables[key] for key in _OF_CLASSES if key in tables}, "")


def _named(head: _ModelHead) -> tuple[str, ...]:
    """The names of the classes, as in a table of clips."""
    return tuple(unicodedata.normalize("NFC", name) for name in head.classes)


def _distinct(_: Any, attribute: attrs.Attribute[Any], value: list[str]) -> None:
    if not value or len(set(value)) != len(value):
        raise ValueError(f"{attribute.name} must be distinct names, at least one, is {show(value)}")
    if any("\0" in name for name in value):
        raise ValueError(f"{attribute.name} must be names without NUL, is {show(value)}")


@attrs.frozen
class _ModelHead:
    classes: list[str] = attrs.field(validator=_distinct)
    multilabel: bool = False
    thresholds: list[float] = attrs.field(factory=list)

    def __attrs_post_init__(self) -> None:
        if self.thresholds and len(self.thresholds) != len(self.classes):
            wanted, given = len(self.classes), len(self.thresholds)
            raise ValueError(f"thresholds must have {wanted} values, one per class, has {given}")


@attrs.frozen
class _Name:
    name: str = attrs.field()

    @name.validator
    def _check(self, attribute: attrs.Attribute[Any], value: str) -> None:
        if not value.strip() or "/" in value or "\0" in value or value.startswith("."):
            raise ValueError(f"{attribute.name} must be usable as a folder name, is {show(value)}")


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [spec.table() for spec in value]
    return value.table() if isinstance(value, ComponentSpec) else plain(value)


def _resolve(draft: Draft, registry: Registry | None, trust_code: bool) -> dict[str, Any]:
    """The fields of a recipe."""
    draft.problems += structure(_Name, {"name": draft.name}, "")[1]
    made = Resolver(draft, registry, trust_code).resolve(TABLES, ("dataset", "backbone"))
    return {**made, "name": draft.name, "source": draft.source}
