"""Thresholds of a model for a wanted precision, from marks; and the same written into its folder.

A threshold acts as those of a multi-label model do: on the labels of clips and windows, and as the score that an event
must reach. A single-label model then predicts its best class only if that reaches its threshold. Marks are of windows
or of events, and the threshold is right for what was marked.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from soundbench import files
from soundbench.data import digests
from soundbench.data.clips import normal
from soundbench.errors import CallError, DataError, RunError
from soundbench.inference.review.fitting import Threshold, fit_threshold
from soundbench.inference.review.marks import Mark
from soundbench.messages import nearest
from soundbench.model import folder as model_folder

__all__ = ["as_text", "fit_thresholds", "write_thresholds"]

COLUMNS = ("label", "threshold", "low", "high", "precision", "per", "right", "wrong", "sounds")


def fit_thresholds(
    folder: Path, marks: Sequence[Mark], precision: float, accept_changes: bool = False
) -> dict[str, Threshold]:
    """The threshold of each class that is marked, in the order of the model's classes.

    Args:
        folder: the model folder.
        marks: of its results.
        precision: the wanted share of what is right, between 0 and 1.
        accept_changes: whether the model's files may have changed since soundbench wrote them.

    Raises:
        CallError: the precision is not between 0 and 1.
        RunError: the folder holds no model, or one that has changed.
        DataError: the marks are of another model, or of windows and of events.
    """
    if not 0 < precision < 1:
        raise CallError(f"precision must be between 0 and 1, is {precision:g}")
    classes = _classes(folder, accept_changes)
    own = model_folder.scores_digest(folder)
    first = next((mark for mark in marks if mark.per), None)
    for mark in marks:
        if mark.model not in ("", own):
            raise DataError(f"{mark.where}: is of another model, {mark.model}; {folder} is {own}")
        if mark.label not in classes:
            hint = nearest(mark.label, classes) or ";"
            raise DataError(f"{mark.where}: the model has no class {mark.label!r}{hint} it has: {', '.join(classes)}")
        if first and mark.per not in ("", first.per):
            raise DataError(
                f"{mark.where}: is of a {mark.per}, others are of {first.per}s, whose scores differ: give them apart"
            )
    found = {}
    for label in classes:
        rows = [mark for mark in marks if mark.label == label]
        if rows:
            columns = [mark.score for mark in rows], [mark.right for mark in rows], [mark.path for mark in rows]
            found[label] = fit_threshold(*columns, precision)
    return found


def write_thresholds(folder: Path, found: Mapping[str, Threshold], precision: float, per: str) -> None:
    """Write thresholds into a model folder: into `model.toml`, with its digest, and how they came about beside it.

    A class without one keeps what it has. `thresholds.csv` names the precision, the interval and the marks of each.

    Raises:
        DataError: no class has a threshold.
        RunError: the folder cannot be written to.
    """
    if not any(one.value is not None for one in found.values()):
        raise DataError(f"{folder}: nothing to write: no class has a threshold")
    tables = model_folder.read_model_tables(folder)
    classes = [str(normal(name)) for name in tables["classes"]]
    before = tables.get("thresholds") or [0.5 if tables.get("multilabel") else 0.0] * len(classes)
    now = [_value(found.get(label)) or own for label, own in zip(classes, before, strict=True)]
    rows = [
        (label, *_cells(one), f"{precision:g}", per, one.right, one.wrong, one.sounds) for label, one in found.items()
    ]
    model_folder.save_thresholds(folder, now)
    files.write_rows(folder / model_folder.MARKED, COLUMNS, rows)


def as_text(found: Mapping[str, Threshold], precision: float) -> str:
    """The thresholds as a table for people."""
    rows = [("class", "threshold", "95% interval", "right", "wrong", "sounds", "")]
    for label, one in found.items():
        value, low, high = _cells(one)
        span = f"{low} to {high}" if low else "-"
        rows.append((label, value or "-", span, str(one.right), str(one.wrong), str(one.sounds), one.reason))
    widths = [max(len(row[column]) for row in rows) for column in range(6)]
    lines = [
        "  ".join([cell.ljust(width) for cell, width in zip(row, widths, strict=False)] + [row[6]]) for row in rows
    ]
    return "\n".join([f"from these scores on, at least {precision:.1%} are right:", *(line.rstrip() for line in lines)])


def _classes(folder: Path, accept_changes: bool) -> list[str]:
    """The classes of a model whose files are as they were written."""
    tables = model_folder.read_model_tables(folder)
    wrong = model_folder.check(folder)
    if wrong and accept_changes:
        model_folder.accept(folder)
    elif wrong:
        digests.refuse_changed(folder, wrong)
    classes = tables.get("classes")
    if not isinstance(classes, list) or not classes:
        raise RunError(f"{folder / 'model.toml'}: names no classes")
    return [str(normal(name)) for name in classes]


def _cells(one: Threshold) -> tuple[str, str, str]:
    value, low, high = (None if bound is None else f"{bound:.4f}" for bound in (_value(one), one.low, one.high))
    return value or "", low or "", high or ""


def _value(one: Threshold | None) -> float | None:
    """The threshold as it is written, with six decimals as scores in tables."""
    return None if one is None or one.value is None else round(one.value, 6)
