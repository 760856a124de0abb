"""The folder of a sweep: the recipes of its cells, a run directory for each, and what stands in them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

import attrs

from soundbench import files, limits
from soundbench.data import digests
from soundbench.errors import RunError, RunPlaceError
from soundbench.messages import join, show
from soundbench.recipe import toml
from soundbench.report import lock, run_directory
from soundbench.report.run_directory import RunDirectory
from soundbench.studies.cells import Cell
from soundbench.studies.sweep_file import Sweep

__all__ = ["JOURNAL", "State", "SweepFolder"]

State = Literal["new", "stopped", "finished"]

_CELLS, JOURNAL = "sweep.json", "study.log"
# What a sweep leaves that was killed before it wrote its list of cells.
_FIRST = {JOURNAL, lock.LOCK, lock.NOTE, f".{_CELLS}.tmp", f".{lock.NOTE}.tmp"}


@attrs.frozen
class SweepFolder:
    """The folder of a sweep.

    Attributes:
        path: the folder.
    """

    path: Path = attrs.field(converter=Path)

    @classmethod
    def create(cls, path: Path) -> SweepFolder:
        """Create the folder, or open that of a sweep.

        Raises:
            RunError: it is a file, holds something else or a link, or cannot be written to.
        """
        with files.explain_os_errors(path):
            path.mkdir(parents=True, exist_ok=True)
            others = sorted(one.name for one in path.iterdir() if one.name not in _FIRST)
        if others and _CELLS not in others:
            raise RunPlaceError(f"{path}: holds something else than a sweep ({others[0]}); give another --out")
        files.refuse_links(path)
        return cls(path)

    def run(self, cell: Cell) -> RunDirectory:
        """The run directory of a cell; it need not exist."""
        return RunDirectory(self.path / cell.name)

    def recipe(self, cell: Cell) -> Path:
        """The recipe of a cell."""
        return self.path / "recipes" / f"{cell.name}.toml"

    def known(self, sweep: Sweep) -> list[Cell] | None:
        """The cells of a sweep as they were written; None if they were not, or if something has changed since."""
        try:
            found = files.read_json(self.path / _CELLS, "of", "soundbench", "cells")
            if found["of"] == sweep.digest() and found["soundbench"] == _version():
                return [Cell(**one) for one in found["cells"]]
        except (RunError, TypeError):  # missing or damaged: made anew
            pass
        return None

    def write(self, sweep: Sweep, cells: Sequence[Cell]) -> None:
        """Write the cells and their recipes."""
        for cell in cells:
            files.write_text(self.recipe(cell), cell.recipe)
        found = {"of": sweep.digest(), "soundbench": _version(), "cells": [attrs.asdict(cell) for cell in cells]}
        files.write_json(self.path / _CELLS, found)

    def state(self, cell: Cell) -> State:
        """Whether a cell has not begun, was stopped, or is finished and still as it was.

        Raises:
            RunError: its run directory holds the run of another recipe.
        """
        run = self.run(cell)
        if not run.recipe.exists():
            return "stopped" if run.checkpoints.exists() else "new"
        try:
            found: dict[str, Any] = toml.parse(files.read_bytes(run.recipe, limits.TEXT))
        except (OSError, ValueError):
            return "stopped"  # `--resume` makes it anew from a checkpoint, or says why not
        found["code"] = {path.name: digests.of_file(path) for path in run.code.glob("*.py")}
        for key, own, other in _differing(toml.parse(cell.identity), found):
            raise RunError(
                f"{run.path}: holds the run of another recipe: {key} is {show(other)} there, {show(own)} in this cell; "
                "move it away"
            )
        return "finished" if run_directory.changed_results(run) == [] else "stopped"

    def arguments(self, cell: Cell, state: State, more: Sequence[str]) -> list[str]:
        """The arguments of `soundbench` that run a cell, or go on with it.

        A run that goes on executes its own copies of local files, which `state` has found to be those of the recipe.

        Args:
            cell: the cell.
            state: what stands in its run directory.
            more: options that both have, such as `--no-cache`.
        """
        run = self.run(cell).path
        if state == "new":
            return ["run", str(self.recipe(cell)), "--out", str(run), *more]
        own_code = bool(toml.parse(cell.identity)["code"]) and self.run(cell).recipe.exists()
        return ["run", "--resume", str(run), *more, *(["--trust-code"] if own_code else [])]


def _differing(wanted: Any, found: Any, key: str = "") -> Iterator[tuple[str, Any, Any]]:
    """The keys of a cell that a run has with another value; a run has settled what was `auto`."""
    if wanted == "auto":
        return
    if isinstance(wanted, Mapping):
        for name, value in wanted.items():
            inside = found.get(name) if isinstance(found, Mapping) else None
            yield from _differing(value, inside, join(key, name))
    elif wanted != found:
        yield key, wanted, found


def _version() -> str:
    try:
        return version("soundbench")
    except PackageNotFoundError:
        return ""
