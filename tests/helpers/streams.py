"""What `soundbench stream` is called with, and what it prints."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from helpers.runs import RECIPE, toy_run

OPTIONS = ["--trust-code", "--hop", "0.1", "--threshold", "0.55", "--gap", "0.1"]


def listening_run(folder: Path) -> Path:
    """A run of toys that has learnt enough to find events."""
    (folder / "toy.toml").write_text(RECIPE)
    return toy_run(folder / "toy.toml", folder / "run", "train.epochs=3", "dataset.clips=24", cache=False)


def lines(text: str) -> dict[str, list[dict[str, Any]]]:
    """What was printed, by its type."""
    found: dict[str, list[dict[str, Any]]] = {"window": [], "begin": [], "event": [], "summary": []}
    for row in map(json.loads, text.splitlines()):
        found[row.pop("type")].append(row)
    return found
