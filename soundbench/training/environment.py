"""What a run was made with: versions, device, plugins, and a fingerprint of its data."""

from __future__ import annotations

import hashlib
import os
import platform
from importlib.metadata import PackageNotFoundError, version
from itertools import chain
from typing import Any

import attrs
import numpy as np
import torch
from numpy.typing import NDArray

from soundbench import distributed
from soundbench.data.clips import ClipTable
from soundbench.errors import CallError, DataError
from soundbench.machine import Machine, cores, settle
from soundbench.recipe import Recipe

__all__ = [
    "agreed_fingerprint",
    "describe_environment",
    "fingerprint",
    "refuse_other_recipes",
    "settle_recipe",
    "shared_threads",
]

_SETTLED = ("precision", "threads", "channels_last")
_PACKAGES = ("soundbench", "torch", "numpy", "pytorch-ignite", "soundfile", "soxr", "attrs", "cattrs", "pluggy")


def settle_recipe(recipe: Recipe) -> tuple[Machine, Recipe]:
    """The machine as this process uses it, and the recipe with what `auto` turned out to mean.

    Raises:
        CallError: a device or a precision that the machine does not have.
    """
    train = recipe.train
    machine = settle(
        train.device,
        train.precision,
        train.threads,
        train.channels_last,
        train.workers,
        distributed.local_rank(),
        distributed.local_world(),
        getattr(recipe.backbone.component.obj, "channels_last", True),
    )
    machine.use()
    # Without a number, each process takes its own.
    device = train.device if ":" in train.device else machine.device.type
    settled = {"device": device, **{name: getattr(machine, name) for name in _SETTLED}}
    return machine, recipe.with_tables(train=attrs.evolve(train, **settled))


def shared_threads(threads: int, before: int) -> int:
    """A process's threads where a run that was made by `before` processes of so many goes on, maybe by another number.

    What several machines had is no more than this one's cores.
    """
    now = distributed.world()
    return threads if now == before else max(1, min(threads * before // now, cores()))


def refuse_other_recipes(recipe: Recipe) -> None:
    """Several processes run one recipe; what each machine has its own of may differ: paths, threads, workers.

    Raises:
        CallError: another process's recipe differs from the first one's.
    """
    own = _flat(recipe.tables())
    first = distributed.broadcast(own)
    differing = [key for key in {**first, **own} if first.get(key) != own.get(key) and key not in _MACHINE_S]
    differing = [key for key in differing if not (_is_path(first.get(key)) and _is_path(own.get(key)))]
    said = [(key, first.get(key), own.get(key)) for key in differing[:1]]
    for rank, found in enumerate(distributed.gather(said)):
        for key, theirs, other in found:
            raise CallError(
                f"the processes do not run the same recipe: {key} is {theirs!r} in the first and {other!r} in "
                f"process {rank + 1}"
            )


_MACHINE_S = ("train.device", "train.threads", "train.workers", "train.precision", "train.channels_last")


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
                "kind": part.kind,
                "name": part.use,
                "distribution": part.component.distribution,
                "version": part.component.version,
            }
            for part in recipe.components()
        ],
    }


def fingerprint(table: ClipTable, parts: NDArray[np.int8], lengths: NDArray[np.int64]) -> str:
    """A digest of what was trained and judged on: every clip's place, labels, part and length in samples.

    Args:
        table: the clips.
        parts: the part of each, `(N,)`.
        lengths: the samples of each, `(N,)`; 0 where it cannot be read.
    """
    digest = hashlib.blake2b(digest_size=16)
    for text in chain(table.classes, ("/".join(path.split("/")[-2:]) for path in table.paths.names)):
        digest.update(text.encode("utf-8", "surrogateescape") + b"\0")
    columns = (table.paths.codes, table.starts, table.stops, table.label_offsets, table.label_values, parts, lengths)
    for column in columns:
        digest.update(np.ascontiguousarray(column).tobytes())
    return digest.hexdigest()


def agreed_fingerprint(table: ClipTable, parts: NDArray[np.int8], lengths: NDArray[np.int64]) -> str:
    """The fingerprint of data that all processes see alike.

    Raises:
        DataError: another process sees other data.
    """
    data = fingerprint(table, parts, lengths)
    if any(other != data for other in distributed.gather(data)):
        raise DataError("the processes do not see the same data: their clip tables differ")
    return data


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _processor() -> str:
    """The processor's name, as the system gives it."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            return next(line.split(":", 1)[1].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
