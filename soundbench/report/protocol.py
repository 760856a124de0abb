"""What a report says beside its metrics: the protocol, within which they are comparable, and unreadable clips."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from soundbench.data.clips import ClipTable
from soundbench.data.splits import SplitResult, absent
from soundbench.recipe import Recipe

if TYPE_CHECKING:
    from soundbench.data.store import Store

__all__ = ["NOT_TESTED", "protocol", "skipped"]

NOT_TESTED = "no test set: everything was trained on, and nothing is known of other sound"
"""The note of a run that trains on all clips."""


def protocol(
    recipe: Recipe,
    table: ClipTable,
    cut: SplitResult,
    parts: Mapping[str, NDArray[np.int64]],
    best_epoch: int,
    learnt: str = "",
) -> dict[str, Any]:
    """The protocol of a run.

    Args:
        recipe: resolved.
        table: the clips.
        cut: how they were split.
        parts: the readable rows of train, validation and test.
        best_epoch: the epoch whose network was tested.
        learnt: a line about test clips that the initial weights have learnt from; empty for none.
    """
    tables = recipe.tables()
    validated = bool(len(parts["validation"]))
    notes = [learnt] if learnt else []
    if recipe.split.crossing == "allow" and cut.crossing_groups:
        notes.append(f"{cut.crossing_groups} groups have clips on both sides of the split, as the recipe allows")
    if recipe.split.test == 0:
        notes.append(NOT_TESTED)
    elif not validated:
        notes.append("no validation set: the last epoch was tested")
    for part, name in (("train", "training"), ("test", "test"))[: 1 if recipe.split.test == 0 else 2]:
        rows = np.zeros(len(table), np.bool_)
        rows[parts[part]] = True
        if without := absent(table, rows):
            notes.append(f"classes without a {name} clip: " + ", ".join(without))
    return {
        "dataset": tables["dataset"],
        "classes": len(table.classes),
        "split": tables["split"],
        "crossing_groups": cut.crossing_groups,
        "purged": len(cut.rows("purged")),
        "selection": "lowest validation loss" if validated else "last epoch",
        "best_epoch": best_epoch,
        "epochs": recipe.train.epochs,
        "seed": recipe.train.seed,
        "audio": tables["audio"],
        "notes": notes,
    }


def skipped(table: ClipTable, store: Store) -> dict[str, Any]:
    """The clips that could not be read, and why."""
    clips = [{"path": table.paths[row], "reason": reason} for row, reason in store.errors.items()]
    return {"count": len(clips), "clips": clips}
