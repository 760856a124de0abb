"""Checkpoints: the training state on disk, written as a whole, and read without executing any code.

Each is sealed by its digest, so that one with a single wrong bit is not resumed from.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from soundbench import files
from soundbench.data import digests
from soundbench.errors import RunError
from soundbench.model import folder as model_folder
from soundbench.model.network import Network
from soundbench.report.run_directory import RunDirectory

__all__ = [
    "BEST",
    "best_weights",
    "ensure_best",
    "keep_best",
    "latest",
    "load",
    "path_of",
    "prune",
    "refuse_lost_best",
    "save",
]


BEST = "best.pt"
"""The checkpoint of the best epoch."""


def path_of(folder: Path, step: int) -> Path:
    """The checkpoint after `step` steps."""
    return folder / f"step-{step:08d}.pt"


def save(folder: Path, step: int, state: Mapping[str, Any]) -> Path:
    """Write the training state after `step` steps; the file appears whole.

    Raises:
        RunError: there is no room for it on the disk, or it cannot be written.
    """
    path = path_of(folder, step)
    files.refuse_full(path, _size(state))
    with files.atomic(path) as part:
        torch.save(dict(state), part)
        digests.seal_archive(part)
    return path


def _size(state: Any) -> int:
    """How many bytes the tensors in nested mappings and sequences have."""
    if isinstance(state, torch.Tensor):
        return state.numel() * state.element_size()
    items = state.values() if isinstance(state, Mapping) else state if isinstance(state, list | tuple) else ()
    return sum(_size(item) for item in items)


def load(path: Path) -> dict[str, Any]:
    """The training state of one checkpoint, on the CPU.

    Raises:
        RunError: the file does not exist, is damaged, or is not a checkpoint.
    """
    try:
        files.refuse_compressed(path)
        sealed = digests.is_sealed(path)
        state = torch.load(path, map_location="cpu", weights_only=True) if sealed else None
    except FileNotFoundError:
        raise RunError(f"{path}: no such checkpoint") from None
    except Exception as error:  # torch raises half a dozen kinds for a damaged file
        raise RunError(f"{path}: the checkpoint is damaged and cannot be read") from error
    if not sealed:
        raise RunError(f"{path}: the checkpoint is damaged and cannot be read")
    if not isinstance(state, dict) or "network" not in state:
        raise RunError(f"{path}: not a checkpoint of soundbench")
    return state


def latest(
    folder: Path, say: Callable[[str], None], refuse: Callable[[Mapping[str, Any]], None] = lambda state: None
) -> dict[str, Any] | None:
    """The newest training state that can be used, or None if there is no checkpoint; others are logged and skipped.

    Args:
        folder: the checkpoints; if all but the best are damaged, it is used.
        say: receives why one was skipped.
        refuse: raises a `RunError` for a state that cannot be resumed from.

    Raises:
        RunError: there are checkpoints, and none can be used.
    """
    paths = [*sorted(folder.glob("step-*.pt"), reverse=True), *folder.glob(BEST)]
    for path in paths:
        try:
            state = load(path)
            refuse(state)
            return state
        except RunError as error:
            say(f"{error}; trying the one before")
    if paths:
        raise RunError(f"{folder}: every checkpoint is damaged; start a new run")
    return None


def keep_best(path: Path) -> None:
    """Make `best.pt` the same file as `path`."""
    best = path.with_name(BEST)
    if best.exists() and best.samefile(path):  # renaming a hard link onto another one of the same file does nothing
        return
    with files.atomic(best) as part:
        part.unlink(missing_ok=True)
        try:
            os.link(path, part)
        except OSError:  # a file system without hard links
            shutil.copyfile(path, part)


def ensure_best(folder: Path, step: int) -> None:
    """Make `best.pt` the checkpoint after `step` steps, unless it is; a kill may have come before `keep_best`."""
    try:
        kept = load(folder / BEST)["step"]
    except RunError:
        kept = None
    if kept != step:
        keep_best(path_of(folder, step))


def best_weights(
    run: RunDirectory, step: int, network: Network, model: Mapping[str, str], say: Callable[[str], None]
) -> Mapping[str, Any]:
    """The weights of the best network, on the CPU: from its checkpoint, or else from the model folder.

    Args:
        run: the run directory.
        step: the step after which it was the best.
        network: a network of the same structure; if the checkpoint is damaged, its weights are replaced.
        model: the digest of each file of the model folder that it was saved to.
        say: receives what is wrong with the checkpoint.

    Raises:
        RunError: they are in neither.
    """
    try:
        best = load(run.checkpoints / BEST)
        if best["step"] != step:
            raise RunError(f"{run.checkpoints / BEST}: holds step {best['step']}, not the best one, {step}")
        weights: Mapping[str, Any] = best["average"] or best["network"]
        return weights
    except RunError as error:
        say(f"{error}; using the weights in {run.model} instead")
    if digests.changed(run.model, {run.weights.name: [model.get(run.weights.name, "")]}):
        raise RunError(f"{run.path}: the network of the best epoch is lost, in {BEST} and in {run.weights}")
    model_folder.load_weights(run.model, network)
    return {name: value.cpu() for name, value in network.state_dict().items()}


def refuse_lost_best(run: RunDirectory, state: Mapping[str, Any]) -> None:
    """Refuse a state whose best network is lost; from an earlier one, it would be trained again.

    Raises:
        RunError: it is neither in its checkpoint nor in the model folder.
    """
    progress = state["progress"]
    step = progress["best_epoch"] * state["steps_per_epoch"]
    if step in (0, state["step"]):
        return
    with suppress(RunError):
        if load(run.checkpoints / BEST)["step"] >= step:
            return
    if digests.changed(run.model, {run.weights.name: [progress["model"].get(run.weights.name, "")]}):
        raise RunError(
            f"{path_of(run.checkpoints, state['step'])}: the network of the best epoch until then, "
            f"{progress['best_epoch']}, is lost: {BEST} and {run.weights} are damaged"
        )


def prune(folder: Path, keep: int, last: Path) -> None:
    """Keep `last` and the `keep - 1` checkpoints before it; those after it are damaged ones that were skipped.

    What a kill has left of a checkpoint that was being written is removed, too.
    """
    paths = sorted(folder.glob("step-*.pt"))
    end = sum(path <= last for path in paths)
    for path in (*paths[: max(0, end - keep)], *paths[end:], *folder.glob(".*.tmp")):
        path.unlink()
