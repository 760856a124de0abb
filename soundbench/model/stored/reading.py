"""Read `model.toml` and `digests.json` of a model folder, and refuse what is missing or has changed; without torch.

One way for all that load, list or begin with a model. Of a model that a package brings, it names what to install again.
"""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

from soundbench import files, limits
from soundbench.data import digests
from soundbench.errors import RunError
from soundbench.model.named.names import bringing
from soundbench.recipe import toml
from soundbench.recipe.reading import check_format

__all__ = [
    "DIGESTS",
    "TABLES",
    "WEIGHTS",
    "known_digests",
    "missing",
    "parsed",
    "read",
    "read_tables",
    "refuse",
    "refuse_damaged",
]

TABLES, WEIGHTS, DIGESTS = "model.toml", "weights.safetensors", "digests.json"


def read(folder: Path) -> bytes:
    """The content of `model.toml`.

    Raises:
        RunError: it is missing, or cannot be read.
    """
    try:
        return files.read_bytes(folder / TABLES, limits.TEXT)
    except FileNotFoundError:
        raise missing(folder, TABLES) from None
    except OSError as error:
        raise RunError(f"{folder / TABLES}: {error.strerror or error}") from None


def parsed(folder: Path, data: bytes) -> dict[str, Any]:
    """The tables of a `model.toml` of a format that this version knows.

    Raises:
        RunError: it is not TOML.
        RecipeError: it is of a newer format.
    """
    path = folder / TABLES
    try:
        tables = toml.parse(data)
    except ValueError as error:
        raise RunError(f"{path}: damaged: {error}") from None
    check_format(str(path), tables.get("format", 0))
    return tables


def read_tables(folder: Path) -> dict[str, Any]:
    """The tables of `model.toml`, whose digest is not checked.

    Raises:
        RunError: it is missing, or is not TOML.
        RecipeError: it is of a newer format.
    """
    return parsed(folder, read(folder))


def known_digests(folder: Path, accept_changes: bool = False) -> digests.Table:
    """The digests that the files of a model may have; none where they are lost and that is accepted.

    Raises:
        RunError: they are lost.
    """
    path = folder / DIGESTS
    try:
        known, why = digests.read_table(path), "missing"
    except RunError as error:
        known, why = None, str(error).removeprefix(f"{path}: ")
    if known is None and not accept_changes and (folder / TABLES).exists():
        brought = bringing(folder)
        raise RunError(
            f"{path}: {why}, so damage to the model cannot be seen; {brought.cure if brought else 'put it back'}, "
            "or accept the model as it is with --accept-changes (accept_changes=True)"
        )
    return known or {}


def missing(folder: Path, name: str) -> RunError:
    """The error for a file without which there is no model."""
    brought = bringing(folder)
    return RunError(f"{folder}: no model here: {name} is missing" + (f"; {brought.cure}" if brought else ""))


def refuse(folder: Path, names: list[str]) -> None:
    """Refuse files that have changed; a run can make its own model anew, a package is installed again.

    Raises:
        RunError: there is one; one message names all.
    """
    remedy, brought = "", bringing(folder) if names else None
    if brought:
        remedy = brought.cure
    elif (folder.parent / "checkpoints").is_dir():
        remedy = f"put it back, make the model anew with soundbench run --resume {shlex.quote(str(folder.parent))}"
    digests.refuse_changed(folder, names, remedy)


def refuse_damaged(folder: Path) -> None:
    """Refuse a model of which a file is missing or not as it was written.

    Raises:
        RunError: there is one, or the digests are lost.
    """
    refuse(folder, digests.changed(folder, known_digests(folder)))
