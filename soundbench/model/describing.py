"""Describe the network of a recipe, without its data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs

from soundbench.errors import DataError
from soundbench.model import assembly
from soundbench.model.network import summarize
from soundbench.recipe import Recipe, given

__all__ = ["as_text", "describe"]

CLASSES = 10  # assumed if the dataset cannot name its classes because its files do not exist


def describe(recipe: Recipe | str | Path) -> dict[str, Any]:
    """The network of a recipe: its layers, size, cost and receptive field.

    Args:
        recipe: made by `soundbench.Recipe`, or the path of one.

    Returns:
        `name`, `recipe` (resolved tables), `classes` (a count), `classes_known` (False if the data does not exist and
        10 are assumed), `window_seconds`, `parameters`, `macs` of one window, `receptive_field` (`frames`, or None for
        the whole clip), `shortest_input` (`samples` and `seconds`), and `layers`, each with `name`, `type`, `shape`,
        `parameters` and `macs`.

    Raises:
        RecipeError: a mistake in the recipe.
    """
    recipe = given(recipe)
    made = assembly.assemble(recipe, assumed=CLASSES)
    try:
        known = bool(made.dataset.classes)
    except DataError:
        known = False
    rate = recipe.audio.rate
    found = summarize(made.network, recipe.audio.window_samples)
    frames = found.receptive_frames
    return {
        "name": recipe.name,
        "recipe": recipe.tables(),
        "classes": made.classes,
        "classes_known": known,
        "window_seconds": recipe.audio.window,
        "parameters": found.parameters,
        "macs": found.macs,
        "receptive_field": None if frames is None else {"frames": frames},
        "shortest_input": {"samples": found.shortest_samples, "seconds": found.shortest_samples / rate},
        "layers": [attrs.asdict(layer) for layer in found.layers],
    }


def as_text(found: dict[str, Any], resolved: str) -> str:
    """The result of `describe` as text; `resolved` is the recipe as TOML."""
    rows = [("layer", "type", "shape", "parameters", "multiply-adds")]
    for layer in found["layers"]:
        indent = "  " * layer["name"].count(".")
        shape = " x ".join(str(size) for size in layer["shape"])
        rows.append((indent + layer["name"], layer["type"], shape, f"{layer['parameters']:,}", f"{layer['macs']:,}"))
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    lines = [
        "  ".join(cell.ljust(width) if column < 3 else cell.rjust(width) for column, (cell, width) in cells)
        for cells in (list(enumerate(zip(row, widths, strict=True))) for row in rows)
    ]
    reach = found["receptive_field"]
    assumed = "" if found["classes_known"] else " (assumed: the data was not found)"
    return "\n".join(
        [
            resolved.rstrip(),
            "",
            *(line.rstrip() for line in lines),
            "",
            f"classes          {found['classes']}{assumed}",
            f"parameters       {found['parameters']:,}",
            f"multiply-adds    {found['macs']:,} for a window of {found['window_seconds']:g} s",
            f"receptive field  {'the whole clip' if reach is None else str(reach['frames']) + ' frames'}",
            f"shortest input   {_shortest(**found['shortest_input'])}; a shorter one is extended with silence",
        ]
    )


def _shortest(samples: int, seconds: float) -> str:
    return f"{samples:,} sample{'s' * (samples != 1)} ({seconds:.4g} s)"
