"""Checkpoints: the training state on disk, written as a whole, and read without executing any code."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from soundbench import files
from soundbench.errors import RunError

__all__ = [
    "keep_best",
    "latest",
    "load",
    "path_of",
    "prune",
    "save",
]


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
        state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise RunError(f"{path}: no such checkpoint") from None
    except Exception as error:  # torch raises half a dozen kinds for a damaged file
        raise RunError(f"{path}: the checkpoint is damaged and cannot be read") from error
    if not isinstance(state, dict) or "network" not in state:
        raise RunError(f"{path}: not a checkpoint of soundbench")
    return state


def latest(folder: Path, say: Callable[[str], None]) -> dict[str, Any] | None:
    """The newest training state that can be read, or None; damaged ones are logged and skipped.

    Raises:
        RunError: there are checkpoints, and all of them are damaged.
    """
    paths = sorted(folder.glob("step-*.pt"), reverse=True)
    for path in paths:
        try:
            return load(path)
        except RunError as error:
            say(f"{error}; trying the one before")
    if paths:
        raise RunError(f"{folder}: every checkpoint is damaged; start a new run")
    return None


def keep_best(path: Path) -> None:
    """Make `best.pt` the same file as `path`."""
    best = path.with_name("best.pt")
    if best.exists() and best.samefile(path):  # renaming a hard link onto another one of the same file does nothing
        return
    with files.atomic(best) as part:
        part.unlink(missing_ok=True)
        try:
            os.link(path, part)
        except OSError:  # a file system without hard links
            shutil.copyfile(path, part)


def prune(folder: Path, keep: int, last: Path) -> None:
    """Keep `last` and the `keep - 1` checkpoints before it; those after it are damaged ones that were skipped."""
    paths = sorted(folder.glob("step-*.pt"))
    end = paths.index(last) + 1
    for path in (*paths[: max(0, end - keep)], *paths[end:]):
        path.unlink()
