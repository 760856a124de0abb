"""The model card of a run, written into its model folder, unless somebody has edited the one that is there."""

from __future__ import annotations

import shlex
from importlib.metadata import version
from typing import Any

from soundbench import files, limits
from soundbench.recipe import toml
from soundbench.report.card import front_matter
from soundbench.report.card.text import Facts, card
from soundbench.report.html import run_page
from soundbench.report.run_directory import RunDirectory

__all__ = ["write_card"]


def write_card(run: RunDirectory) -> str:
    """Write `model/README.md` of a run that has its report, from the files of the run.

    A card that is not as soundbench wrote it is kept: it is somebody's work.

    Returns:
        Why there is no new card, in one line; empty if there is.

    Raises:
        RunError: it cannot be written.
    """
    if run.card.exists() and not _is_ours(run):
        again = f"remove it and call soundbench report {shlex.quote(str(run.path))}"
        return f"{run.card}: was edited, and is kept as it is; for a new one, {again}"
    try:
        text = card(_facts(run))
    except Exception as error:  # no mistake of a page may cost the result of a run
        return f"there is no {run.card.name}: {type(error).__name__}: {' '.join(str(error).split())}"
    files.write_text(run.card, text)
    return ""


def _is_ours(run: RunDirectory) -> bool:
    try:
        return front_matter.is_as_written(files.read_bytes(run.card, limits.TEXT).decode())
    except (OSError, ValueError):
        return False


def _facts(run: RunDirectory) -> Facts:
    report = files.read_json(run.report_json, "metrics", "clips", "groups")
    made_by = (files.read_json(run.environment) if run.environment.exists() else {}).get("packages", {})
    return Facts(
        report=report,
        recipe=_tables(run, "recipe"),
        model=_tables(run, "model_toml"),
        version=made_by.get("soundbench") or version("soundbench"),
        trained=run_page.sentence(run, [], report),
    )


def _tables(run: RunDirectory, name: str) -> dict[str, Any]:
    return toml.parse(files.read_bytes(getattr(run, name), limits.TEXT))
