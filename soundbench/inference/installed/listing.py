"""What a listing says of installed models: from `model.toml` and the model card, without torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

from soundbench import files, limits
from soundbench.errors import RecipeError, SoundbenchError
from soundbench.messages import megabytes, printable
from soundbench.model.named.names import NamedModel
from soundbench.model.stored.reading import TABLES, read_tables, refuse_damaged
from soundbench.recipe.composing import read_classes
from soundbench.report.card import front_matter

__all__ = ["Listed", "as_text", "listed"]

# A class list that is longer is cut in the text, not in JSON.
_SHOWN = 12
_UNKNOWN = "not stated"
_CARD = "README.md"


@attrs.frozen
class Listed:
    """A model as a listing shows it.

    Attributes:
        name: the name that commands take.
        distribution: the distribution that brings it.
        version: the version of the distribution.
        classes: the names of its classes.
        folder: its model folder, with its card.
        bytes: the size of its folder.
        license: its licence, by its card; empty where that does not say.
        data_license: that of the data that it learnt from, likewise.
        figures: each metric's `value`, `low` and `high`, by its card; empty where it was not tested.
        summary: the figures in a line.
        protocol: how it was tested, in a line.
        note: why its card's figures are not shown, where somebody has changed them.
        error: why it cannot be used; empty if nothing is known against it.
    """

    name: str
    distribution: str
    version: str
    classes: tuple[str, ...] = ()
    folder: str = ""
    bytes: int = 0
    license: str = ""
    data_license: str = ""
    figures: Mapping[str, Any] = attrs.field(factory=dict)
    summary: str = ""
    protocol: str = ""
    note: str = ""
    error: str = ""


def listed(models: Sequence[NamedModel]) -> list[Listed]:
    """The models, each with what its folder says of it; one that cannot be read has an `error`."""
    names = [model.name for model in models]
    return [_listed(model, names.count(model.name) > 1) for model in models]


def as_text(models: Sequence[Listed]) -> str:
    """Several lines about each model."""
    return "\n\n".join("\n".join(map(printable, _lines(model))) for model in models)


def _lines(model: Listed) -> list[str]:
    head = f"{model.name}  ({f'{model.distribution} {model.version}'.strip()})"
    if model.error:
        return [head, f"  cannot be used: {model.error}"]
    names = ", ".join(model.classes[:_SHOWN]) + (", ..." if len(model.classes) > _SHOWN else "")
    licenses = f"{model.license or _UNKNOWN}; of the data: {model.data_license or _UNKNOWN}"
    rows = {
        "classes": f"{len(model.classes)}: {names}",
        "size": megabytes(model.bytes),
        "licence": licenses,
        "figures": model.summary or _UNKNOWN,
        "protocol": model.protocol or _UNKNOWN,
        "folder": model.folder,
    }
    if model.note:
        rows = {**rows, "figures": f"not shown: {model.note}"}
    return [head, *(f"  {key:<9} {value}" for key, value in rows.items())]


def _listed(model: NamedModel, twice: bool) -> Listed:
    row = Listed(model.name, model.distribution, model.version)
    try:
        folder = model.folder()
        classes = read_classes(read_tables(folder), str(folder / TABLES))
        refuse_damaged(folder)
        size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    except RecipeError as error:
        return attrs.evolve(row, error="; ".join(error.lines))
    except (SoundbenchError, OSError) as error:
        return attrs.evolve(row, error=str(error))
    row = attrs.evolve(row, classes=classes, folder=str(folder), bytes=size)
    if twice:
        row = attrs.evolve(row, error=f"two models have this name; uninstall one, or give this folder: {folder}")
    return _with_card(row, folder / _CARD)


def _with_card(row: Listed, path: Path) -> Listed:
    """The row with what the card says, if there is one that can be read."""
    try:
        text = files.read_bytes(path, limits.TEXT).decode()
    except (OSError, ValueError):
        return row
    facts = front_matter.facts_of(text)
    figures, license = facts.get("figures"), front_matter.scalar_of(text, "license")
    return attrs.evolve(
        row,
        license="" if license in ("unknown", "null", "~") else license,
        data_license=str(facts.get("data_license", "")),
        figures=figures if isinstance(figures, dict) else {},
        summary=str(facts.get("summary", "")),
        protocol=str(facts.get("protocol", "")),
        note=front_matter.unread(text),
    )
