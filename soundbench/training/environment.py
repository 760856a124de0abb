"""Before training: settle `auto`, refuse what cannot be trained, write `environment.json` and `clips.csv`."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import attrs
import numpy as np
import torch
from numpy.typing import NDArray

from soundbench import distributed, files
from soundbench.data.clips import ClipTable, fingerprint
from soundbench.data.order import Order
from soundbench.data.splits import PARTS, SplitResult
from soundbench.errors import CallError, DataError, Problem, RecipeError, RunError
from soundbench.machine import Machine, cores, settle
from soundbench.messages import out_of_memory
from soundbench.model.assembly import Assembly
from soundbench.recipe import MULTILABEL_LOSS, Recipe
from soundbench.report import run_directory
from soundbench.report.run_directory import RunDirectory

__all__ = [
    "agreed_fingerprint",
    "describe_environment",
    "explaining_out_of_memory",
    "record_data",
    "refuse_other_recipes",
    "refuse_single_label_loss",
    "refuse_small_batches",
    "settle_recipe",
    "shared_threads",
]

_SETTLED = ("precision", "threads", "channels_last")
_PACKAGES = ("soundbench", "torch", "numpy", "pytorch-ignite", "soundfile", "soxr", "attrs", "cattrs", "pluggy")


def settle_recipe(recipe: Recipe) -> tuple[Machine, Recipe]:
    """The machine as this process uses it, and the recipe with each `auto` replaced by what it means here.

    Raises:
        CallError: a device or a precision that the machine does not have.
    """
    train = recipe.train
    machine = settle(
        train.device,
        train.precision,
        train.threads,
        train.channels_last,
        train.num_workers,
        distributed.local_rank(),
        distributed.local_world(),
        getattr(recipe.backbone.component.obj, "channels_last", True),
    )
    machine.use()
    # A device without a number stays so: each process uses its own.
    device = train.device if ":" in train.device else machine.device.type
    settled = {"device": device, **{name: getattr(machine, name) for name in _SETTLED}}
    return machine, recipe.with_tables(train=attrs.evolve(train, **settled))


def shared_threads(threads: int, before: int) -> int:
    """The threads of each process of a resumed run, whose `before` processes had `threads` each.

    The total stays, shared among the processes that there are now, up to this machine's cores for each.
    """
    now = distributed.world()
    return threads if now == before else max(1, min(threads * before // now, cores()))


def refuse_other_recipes(recipe: Recipe) -> None:
    """Refuse processes that run different recipes; what depends on the machine may differ: paths, threads, workers.

    Raises:
        CallError: another process's recipe differs from the first one's.
    """
    own = _flat(recipe.tables())
    first = distributed.broadcast(own)
    differing = [key for key in {**first, **own} if first.get(key) != own.get(key) and key not in _OF_MACHINE]
    differing = [key for key in differing if not (_is_path(first.get(key)) and _is_path(own.get(key)))]
    example = [(key, first.get(key), own.get(key)) for key in differing[:1]]
    for rank, found in enumerate(distributed.gather(example)):
        for key, theirs, other in found:
            raise CallError(
                f"the processes do not run the same recipe: {key} is {theirs!r} in process 1 and {other!r} in process "
                f"{rank + 1}"
            )


_OF_MACHINE = ("train.device", "train.threads", "train.num_workers", "train.precision", "train.channels_last")


def _flat(value: Any, key: str = "") -> dict[str, Any]:
    """The values of nested tables by their dotted keys."""
    if isinstance(value, dict):
        items = [(f"{key}.{name}".lstrip("."), inner) for name, inner in value.items()]
    elif isinstance(value, list | tuple):
        items = [(f"{key}[{number}]", inner) for number, inner in enumerate(value)]
    else:
        return {key: value}
    return {name: found for place, inner in items for name, found in _flat(inner, place).items()}


def _is_path(value: Any) -> bool:
    return isinstance(value, str) and os.path.isabs(value.partition(":")[0])


def describe_environment(recipe: Recipe, machine: Machine, data: str) -> dict[str, Any]:
    """The content of `environment.json`; `data` is the data's fingerprint."""
    cuda = machine.device.type == "cuda"
    return {
        "python": platform.python_version(),
        "system": platform.platform(),
        "packages": {name: _version(name) for name in _PACKAGES},
        "device": torch.cuda.get_device_name(machine.device) if cuda else _processor(),
        "precision": machine.precision,
        "threads": machine.threads,
        "channels_last": machine.channels_last,
        "processes": distributed.world(),
        "data": data,
        "plugins": [
            {
                "kind": spec.kind,
                "name": spec.use,
                "distribution": spec.component.distribution,
                "version": spec.component.version,
            }
            for spec in recipe.components()
        ],
    }


def agreed_fingerprint(table: ClipTable, parts: NDArray[np.int8], lengths: NDArray[np.int64]) -> str:
    """The fingerprint of the data, which must be the same in all processes.

    Raises:
        DataError: another process has different data.
    """
    data = fingerprint(table, parts, lengths)
    if any(other != data for other in distributed.gather(data)):
        raise DataError("the processes do not have the same data: their clip tables differ")
    return data


def record_data(
    directory: RunDirectory,
    recipe: Recipe,
    machine: Machine,
    table: ClipTable,
    cut: SplitResult,
    lengths: NDArray[np.int64],
) -> None:
    """Write `environment.json` and `clips.csv`; on a resume the data must be the same as before.

    Args:
        directory: the run directory.
        recipe: resolved.
        machine: the device and how it is used.
        table: the clips.
        cut: which part each clip is in.
        lengths: how many samples each clip has, `(N,)`; 0 where it cannot be read.

    Raises:
        DataError: another process has different data.
        RunError: the data has changed since the run began.
    """
    data = agreed_fingerprint(table, cut.part, lengths)

    def write() -> None:
        path = directory.environment
        if path.exists() and files.read_json(path, "data")["data"] != data:
            raise RunError(f"{directory.path}: the data has changed since the run began; start a new run")
        files.write_json(path, describe_environment(recipe, machine, data))
        names = np.array(PARTS, dtype=object)[cut.part]
        names[lengths == 0] = "unreadable"
        run_directory.write_clips(directory, table, list(names))

    distributed.from_main(write)


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _processor() -> str:
    """The name of the processor."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            return next(line.split(":", 1)[1].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def refuse_single_label_loss(recipe: Recipe, made: Assembly, table: ClipTable) -> None:
    """Refuse a loss for one class a clip, whose scores add up to 1, on a multi-label dataset.

    Raises:
        RecipeError: the dataset is multi-label and the loss is not.
    """
    if table.multilabel and not getattr(made.loss, "multilabel", False):
        text = (
            f"{recipe.loss.use!r} is for one class a clip, but the dataset is multi-label; "
            f'use loss = "{MULTILABEL_LOSS}", which scores each class independently'
        )
        raise RecipeError(recipe.source, [Problem("loss", text)])


def refuse_small_batches(recipe: Recipe, plan: Order) -> None:
    """Refuse steps with pieces of fewer than two clips, which batch norm cannot train on.

    Raises:
        RecipeError: a step has such a piece.
    """
    pieces = plan.world * recipe.train.accumulate
    smallest = min(plan.size(step) for step in range(plan.steps))
    if smallest // pieces < 2:
        clips = f"{smallest} clip{'s' * (smallest != 1)} in {pieces} piece{'s' * (pieces != 1)}"
        shared = f" ({recipe.train.accumulate} in each of {plan.world} processes)" if plan.world > 1 else ""
        fewer = "processes" if plan.world > 1 and recipe.train.accumulate == 1 else "pieces"
        text = (
            f"a step of {clips}{shared} has pieces of fewer than 2 clips, "
            f"which batch norm cannot train on; use more clips, a larger batch size, or fewer {fewer}"
        )
        raise RecipeError(recipe.source, [Problem("train.batch_size", text)])


@contextmanager
def explaining_out_of_memory(recipe: Recipe) -> Iterator[None]:
    """Say which settings need less memory when it runs out.

    Raises:
        RunError: out of memory.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not out_of_memory(error):
            raise
        train = recipe.train
        raise RunError(
            f"out of memory with train.batch_size = {train.batch_size} and audio.window = {recipe.audio.window}; lower "
            f"one of them, or raise train.accumulate ({train.accumulate}), which splits a batch into pieces"
        ) from error
