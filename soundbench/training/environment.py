"""Before training: settle `auto`, write `environment.json` and `clips.csv`."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import attrs
import numpy as np
import torch
from numpy.typing import NDArray

from soundbench import distributed, files
from soundbench.data import digests
from soundbench.data.clips import ClipTable, fingerprint
from soundbench.data.splits import PARTS, SplitResult
from soundbench.errors import CallError, DataError, RunError
from soundbench.machine import Machine, cores, processor, settle
from soundbench.messages import out_of_memory
from soundbench.recipe import Recipe
from soundbench.report import run_directory
from soundbench.report.run_directory import RunDirectory
from soundbench.training.compiling.compiler import Compiling, planned

__all__ = [
    "accept_recipe",
    "agreed_fingerprint",
    "describe_environment",
    "explaining_out_of_memory",
    "for_resuming",
    "notes_on",
    "read_environment",
    "record_compiling",
    "record_data",
    "record_recipe",
    "refuse_changed_recipe",
    "refuse_other_recipes",
    "settle_recipe",
    "shared_threads",
]

_SETTLED = ("precision", "threads", "channels_last")
_PACKAGES = ("soundbench", "torch", "numpy", "pytorch-ignite", "soundfile", "soxr", "attrs", "cattrs", "pluggy")


def settle_recipe(recipe: Recipe, threads: int | None = None) -> tuple[Machine, Recipe]:
    """The machine as this process uses it, and the recipe with each `auto` replaced by what it means here.

    Args:
        recipe: the recipe.
        threads: CPU threads of this process, if a run that goes on has settled them before.

    Raises:
        CallError: a device or a precision that the machine does not have, or a way of compiling; what needs a GPU.
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
        train.tf32,
        train.cudnn_benchmark,
    )
    planned(train.compile, machine.device)
    if train.sync_batch_norm and distributed.world() > 1 and machine.device.type == "cpu":
        raise CallError("train.sync_batch_norm: true needs a GPU for each process; on CPUs leave it out")
    machine = attrs.evolve(machine, threads=threads or machine.threads)
    machine.use()
    # A device without a number stays so: each process uses its own.
    device = train.device if ":" in train.device else machine.device.type
    settled = {"device": device, **{name: getattr(machine, name) for name in _SETTLED}}
    return machine, recipe.with_tables(train=attrs.evolve(train, **settled))


def notes_on(machine: Machine) -> list[str]:
    """What the log says of settings with which a GPU is faster, and results are not what they are without."""
    notes = {
        "tf32": "steps multiply float32 as TF32; validation and test do not",
        "cudnn_benchmark": "cuDNN chooses its algorithms by their time: last digits vary between runs, and on a resume",
    }
    return [f"train.{key}: {note}" for key, note in notes.items() if getattr(machine, key)]


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


_OF_MACHINE = (
    "train.device",
    "train.threads",
    "train.num_workers",
    "train.precision",
    "train.channels_last",
    "train.compile",
)


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
        "device": torch.cuda.get_device_name(machine.device) if cuda else processor(),
        "precision": machine.precision,
        "threads": machine.threads,
        "channels_last": machine.channels_last,
        "compile": attrs.asdict(planned(recipe.train.compile, machine.device)),
        "tf32": machine.tf32,
        "cudnn_benchmark": machine.cudnn_benchmark,
        "sync_batch_norm": recipe.train.sync_batch_norm and distributed.world() > 1,
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


def record_recipe(directory: RunDirectory, text: str) -> None:
    """Write `recipe.toml`, and before it the digests of it and of the run's copies of local files."""
    table = {directory.recipe.name: [digests.of_bytes(text.encode("utf-8", "backslashreplace"))], **_code(directory)}
    files.write_json(directory.environment, {"digests": table})
    files.write_text(directory.recipe, text)


def accept_recipe(directory: RunDirectory) -> None:
    """Record the recipe and the code of a run as they are now."""
    files.write_json(directory.environment, (read_environment(directory) or {}) | {"digests": _digests(directory)})


def record_compiling(directory: RunDirectory, how: Compiling) -> None:
    """Record in `environment.json` what came of compiling."""
    files.write_json(directory.environment, (read_environment(directory) or {}) | {"compile": attrs.asdict(how)})


def read_environment(directory: RunDirectory) -> dict[str, Any] | None:
    """The content of `environment.json`; None if it is missing or damaged."""
    try:
        found = files.read_json(directory.environment)
    except (RunError, RecursionError):
        return None
    known = found.get("digests") if isinstance(found, dict) else None
    if not isinstance(known, dict) or directory.recipe.name not in known:
        return None
    return found if all(isinstance(one, list) for one in known.values()) else None


def for_resuming(directory: RunDirectory) -> dict[str, Any]:
    """What each checkpoint has, in case that `recipe.toml` or `environment.json` is lost."""
    with files.explain_os_errors(directory.recipe):
        text = directory.recipe.read_text(encoding="utf-8")
    return {"recipe": text, "environment": read_environment(directory)}


def refuse_changed_recipe(directory: RunDirectory, environment: Mapping[str, Any]) -> None:
    """Refuse a recipe, or code of the run, that has changed since the run began.

    Args:
        directory: the run directory.
        environment: the content of `environment.json`, or a checkpoint's copy of it.

    Raises:
        RunError: something has changed; one message names all.
    """
    wrong = digests.changed(directory.path, environment["digests"])
    anew = wrong == [directory.recipe.name] and directory.checkpoints.is_dir()
    digests.refuse_changed(directory.path, wrong, "delete it, and --resume makes it anew from a checkpoint" * anew)


def _digests(directory: RunDirectory) -> digests.Table:
    return digests.table_of(directory.path, [directory.recipe.name]) | _code(directory)


def _code(directory: RunDirectory) -> digests.Table:
    names = (path.relative_to(directory.path).as_posix() for path in sorted(directory.code.glob("*.py")))
    return digests.table_of(directory.path, names)


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
    before: Mapping[str, Any] | None,
    learnt: str = "",
) -> list[str]:
    """Write `environment.json` and `clips.csv`; on a resume the data must be the same as before.

    Args:
        directory: the run directory.
        recipe: resolved.
        machine: the device and how it is used.
        table: the clips.
        cut: which part each clip is in.
        lengths: how many samples each clip has, `(N,)`; 0 where it cannot be read.
        before: the content of `environment.json` as the last checkpoint, or else the file has it.
        learnt: what `learnt_before` said.

    Returns:
        The names of files that a run with a checkpoint lacked, or had with another content.

    Raises:
        DataError: another process has different data.
        RunError: the data has changed since the run began.
    """
    data = agreed_fingerprint(table, cut.part, lengths)

    def write() -> list[str]:
        if (before or {}).get("data", data) != data:
            raise RunError(f"{directory.path}: the data has changed since the run began; start a new run")
        lacked = [] if read_environment(directory) else [directory.environment.name]
        content = describe_environment(recipe, machine, data) | ({"learnt": learnt} if learnt else {})
        content["compile"] = _compiling(directory, content["compile"])
        files.write_json(directory.environment, content | {"digests": _digests(directory)})
        clips = digests.table_of(directory.path, [directory.clips.name])
        names = np.array(PARTS, dtype=object)[cut.part]
        names[lengths == 0] = "unreadable"
        run_directory.write_clips(directory, table, list(names))
        return [*lacked, *digests.changed(directory.path, clips or {directory.clips.name: []})]

    return distributed.from_main(write)


def _compiling(directory: RunDirectory, plan: dict[str, str]) -> Any:
    """What came of compiling before, until a step is computed that says it anew; or the plan, if there was none."""
    before = (read_environment(directory) or {}).get("compile")
    same = plan["used"] != "off" and isinstance(before, dict) and before.get("asked") == plan["asked"]
    return before if same else plan


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


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
