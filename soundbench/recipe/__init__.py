"""Recipes: TOML to typed, checked tables and back, and the registry that finds components by name.

Names are imported on first use, so that `list-plugins` does not import what reads recipes.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from soundbench.recipe.composing import (
        Model,
        Recipe,
        annotations_spec,
        compose,
        dataset_of,
        dataset_spec,
        given,
        model_tables,
        read,
        read_model,
    )
    from soundbench.recipe.own_code import local_files, relocated, write_code
    from soundbench.recipe.reading import find_recipe
    from soundbench.recipe.resolving import ComponentSpec
    from soundbench.recipe.tables import DEFAULTS, MULTILABEL_LOSS, TABLES, Audio, Head, Init, Report, Split, Train

__all__ = [
    "DEFAULTS",
    "MULTILABEL_LOSS",
    "TABLES",
    "Audio",
    "Head",
    "Init",
    "Model",
    "ComponentSpec",
    "Recipe",
    "Report",
    "Split",
    "Train",
    "annotations_spec",
    "compose",
    "dataset_of",
    "dataset_spec",
    "find_recipe",
    "given",
    "local_files",
    "model_tables",
    "read",
    "read_model",
    "relocated",
    "write_code",
]

_FILES = {
    "composing": (
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
    ),
    "own_code": ("local_files", "relocated", "write_code"),
    "reading": ("find_recipe",),
    "resolving": ("ComponentSpec",),
    "tables": ("DEFAULTS", "MULTILABEL_LOSS", "TABLES", "Audio", "Head", "Init", "Report", "Split", "Train"),
}
_PLACES = {name: file for file, names in _FILES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module 'soundbench.recipe' has no attribute {name!r}")
    return getattr(import_module(f"soundbench.recipe.{_PLACES[name]}"), name)
