"""Components in local Python files: which files a recipe uses, and the copies that a run keeps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs

from soundbench.contracts import KINDS
from soundbench.errors import Problem, RecipeError
from soundbench.files import read_bytes, write_bytes
from soundbench.limits import TEXT
from soundbench.recipe.composing import Recipe
from soundbench.recipe.resolving import ComponentSpec
from soundbench.recipe.source_code import imports_neighbours, runs_when_imported
from soundbench.recipe.tables import TABLES

__all__ = ["local_files", "relocated", "write_code"]


def local_files(recipe: Recipe) -> dict[str, Path]:
    """The local files that contain components of a recipe, by the names of their copies in a run.

    Raises:
        RecipeError: a component was given from Python and cannot be loaded from a file.
    """
    problems = [Problem(spec.kind, why) for spec in recipe.components() if (why := _not_loadable(spec))]
    if problems:
        raise RecipeError(recipe.source, problems)
    return {name: path for path, name in _targets(recipe).items()}


def relocated(recipe: Recipe, prefix: str) -> Recipe:
    """The recipe with its local files replaced by their copies.

    Args:
        recipe: the recipe.
        prefix: the folder of the copies as written in the recipe, such as `./model/code`.
    """
    targets = _targets(recipe)

    def move(spec: ComponentSpec) -> ComponentSpec:
        if spec.component.source is None:
            return spec
        name = spec.use.rpartition(":")[2]
        return attrs.evolve(spec, use=f"{prefix}/{targets[spec.component.source]}:{name}")

    moved: dict[str, Any] = {}
    for table in TABLES:
        value = getattr(recipe, table)
        if isinstance(value, tuple):
            moved[table] = tuple(move(spec) for spec in value)
        elif table in KINDS:
            moved[table] = move(value)
    return attrs.evolve(recipe, **moved)


def write_code(recipe: Recipe, folder: Path) -> None:
    """Copy the local files of a recipe into a folder, which is created if there are any."""
    for name, path in local_files(recipe).items():
        write_bytes(folder / name, read_bytes(path, TEXT))


def _targets(recipe: Recipe) -> dict[Path, str]:
    """The name of each file's copy in a run; files with the same name get different ones."""
    names: dict[Path, str] = {}
    for spec in recipe.components():
        path = spec.component.source
        if path is None or path in names:
            continue
        name, count = path.name, 1
        while name in names.values():
            count += 1
            name = f"{path.stem}_{count}{path.suffix}"
        names[path] = name
    return names


def _not_loadable(spec: ComponentSpec) -> str:
    """Why a component cannot be loaded from a copy of its file; empty if it can."""
    component = spec.component
    if component.distribution:
        return ""
    what = f"{getattr(component.obj, '__qualname__', spec.use)} cannot be saved with the run"
    if component.source is None:
        return "" if not spec.use.startswith("<python>") else f"{what}: it has no source file; define it in a file"
    if "<" in spec.use.rpartition(":")[2]:
        return f"{what}: it is defined inside a function; move it to the top level of {component.source}"
    source = read_bytes(component.source, TEXT).decode("utf-8", errors="replace")
    if imports_neighbours(source):
        return f"{what}: {component.source} uses relative imports; make it a plugin, or a self-contained file"
    if component.obj.__module__ == "__main__" and runs_when_imported(source):
        return f'{what}: importing {component.source} would run it again; put its work under if __name__ == "__main__":'
    return ""
