"""TOML to typed tables and back: read, `extends`, `--set`, defaults, check keys and types, explain, write.

tables.py      the core's own tables; default names
reading.py     files, `extends`, `--set`: one draft of plain tables
composing.py   the draft checked and resolved: `Recipe`, `Model`
writing.py     the resolved recipe, and the local files that go with it
"""

from __future__ import annotations

from soundbench.recipe.composing import Model, Recipe, compose, dataset_of, model_tables, read, read_model
from soundbench.recipe.reading import find_recipe
from soundbench.recipe.resolving import Part
from soundbench.recipe.tables import DEFAULTS, MULTILABEL_LOSS, TABLES, Audio, Head, Init, Split, Train
from soundbench.recipe.writing import local_files, relocated, write_code

__all__ = [
    "DEFAULTS",
    "MULTILABEL_LOSS",
    "TABLES",
    "Audio",
    "Head",
    "Init",
    "Model",
    "Part",
    "Recipe",
    "Split",
    "Train",
    "compose",
    "dataset_of",
    "find_recipe",
    "local_files",
    "model_tables",
    "read",
    "read_model",
    "relocated",
    "write_code",
]
