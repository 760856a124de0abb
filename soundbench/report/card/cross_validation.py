"""The figures of a network that learnt from all clips: those of the cross-validation whose logits calibrate it.

They are figures of the recipe, not of this network, and only if the folds were trained by the same recipe.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import tomli_w

from soundbench import files, limits
from soundbench.errors import SoundbenchError
from soundbench.recipe import Recipe, toml
from soundbench.report.html import run_page
from soundbench.report.run_directory import RunDirectory

__all__ = ["cross_validation"]

_SAME = (
    *("dataset", "audio", "augmentation", "featurizer", "backbone", "pooling", "head", "init", "loss"),
    *("optimizer", "scheduler", "train"),
)
# Fitted after training; their options are the fitted ones.
_FITTED = ("calibration", "reject")
# What of [train] says where and how fast, and not what is learnt.
_MACHINE = (
    *("device", "precision", "threads", "num_workers", "channels_last", "compile", "tf32", "cudnn_benchmark"),
    *("sync_batch_norm", "keep", "checkpoint_steps", "extracted"),
)
_KEPT = (
    *("metrics", "baseline", "per_class", "classes", "classes_without_clips", "clips", "groups", "interval"),
    *("multilabel", "calibration", "reject", "folds", "across_folds"),
)


def cross_validation(recipe: Recipe) -> tuple[dict[str, Any], str]:
    """The figures of the run of all folds that `calibration.predictions` is of, for a recipe without a test set.

    Args:
        recipe: resolved, with its code where the run keeps it.

    Returns:
        Keys of that run's `report.json`, its `sentence`, and what of its `split` is another one; empty where the
        recipe tests, or names no such run. And a line that says why figures are not used; empty if they are, or there
        are none.
    """
    own = recipe.calibration.own
    logits = None if own is None else own.predictions
    if recipe.split.test != 0 or logits is None:
        return {}, ""
    run = RunDirectory(logits.parent)
    if not run.has_folds or not run.report_json.exists():
        return {}, ""
    try:
        folds = run_page.folds_of(run)
        mine = toml.parse(tomli_w.dumps(recipe.tables()))
        other = toml.parse(files.read_bytes(folds[0].recipe, limits.TEXT))
        report = files.read_json(run.report_json, *_KEPT[:8])
    except (SoundbenchError, OSError, ValueError, IndexError) as error:
        return {}, f"the figures of {run.path} cannot be read: {error}"
    different = [key for name in _SAME for key in _differing(name, mine.get(name), other.get(name))]
    different += [f"{name}.use" for name in _FITTED if mine[name].get("use") != other.get(name, {}).get("use")]
    if different:
        return {}, f"the card has no figures of {run.path}: its recipe is another one, by {', '.join(different)}"
    figures = {key: report[key] for key in _KEPT if key in report}
    split = {key: value for key, value in other.get("split", {}).items() if value != mine["split"].get(key)}
    split.pop("test", None)
    return figures | {"sentence": run_page.sentence(run, folds, report), "split": split}, ""


def _differing(name: str, one: Any, other: Any) -> list[str]:
    """The keys of two tables that differ."""
    if not isinstance(one, Mapping) or not isinstance(other, Mapping):
        return [name] if one != other else []
    keys = [key for key in {**one, **other} if name != "train" or key not in _MACHINE]
    return [f"{name}.{key}" for key in keys if one.get(key) != other.get(key)]
