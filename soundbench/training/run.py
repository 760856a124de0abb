"""A run from recipe to report, one stage after the other; and resuming one."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs

from soundbench import distributed, files
from soundbench import recipe as recipes
from soundbench.contracts import RunInfo
from soundbench.errors import RunError
from soundbench.model.weights import initialize
from soundbench.recipe import Recipe
from soundbench.report.run_directory import RunDirectory
from soundbench.signals import Stop
from soundbench.training import checkpoints, stages
from soundbench.training.environment import explaining_out_of_memory, shared_threads
from soundbench.training.log import Log, Say, resume_line, to_stderr
from soundbench.training.observers import make_observers
from soundbench.training.profiling import StepTimes, advice
from soundbench.training.stages import Opened, Prepared

__all__ = ["device_set", "new_directory", "resume", "run"]


def new_directory(out: Path | None, name: str) -> RunDirectory:
    """Create the run directory `out`, or one under `runs/` named after the recipe; the main process does so."""
    return distributed.from_main(lambda: RunDirectory.create(out) if out else RunDirectory.new(Path("runs"), name))


def run(
    recipe: Recipe,
    *,
    out: Path | None = None,
    cache: Path | bool = True,
    profile: bool = False,
    say: Say = to_stderr,
) -> RunDirectory:
    """Train and test what a recipe describes.

    Args:
        recipe: made by `soundbench.Recipe` or read by `soundbench.read_recipe`.
        out: the run directory, which must be empty or not exist; by default a new one under `runs/`.
        cache: the folder of decoded sound; True for the user's cache, False for a temporary one.
        profile: whether to profile a few steps; `profile.txt` then shows where their time goes.
        say: receives each line of progress; by default, lines are printed to standard error.

    Raises:
        SoundbenchError: a mistake in the recipe, unusable data, or a failure while working.
    """
    began, log = time.monotonic(), Log(say)
    distributed.join(recipe.train.device)
    prepared = stages.prepare(recipe)
    initialize(prepared.recipe, prepared.made.network, log)
    directory = new_directory(out, prepared.recipe.name)
    log.open(directory)
    distributed.from_main(lambda: _write_recipe(prepared.recipe, directory))
    return _execute(prepared, directory, None, log, cache=cache, profile=profile, began=began)


def resume(
    directory: Path,
    *,
    trust_code: bool = False,
    device: str | None = None,
    cache: Path | bool = True,
    profile: bool = False,
    say: Say = to_stderr,
) -> RunDirectory:
    """Continue a run from its last checkpoint, as if nothing had stopped it.

    Args:
        directory: the run directory.
        trust_code: whether code in the run directory (`use = "./mine.py:Net"`) may be executed.
        device: the device to use instead of the one that the run began on; None for the same.
        cache: as in `run`.
        profile: as in `run`.
        say: as in `run`.

    Raises:
        RunError: there is no such run directory, its data has changed, or no checkpoint can be read.
    """
    began, log = time.monotonic(), Log(say)
    found = RunDirectory.open(directory)
    files.refuse_links(found.path)
    recipe = recipes.read(found.recipe, device_set(device), trust_code=trust_code)
    distributed.join(recipe.train.device)
    if distributed.from_main(found.report_json.exists):
        log(f"{found.path}: this run is finished; nothing to resume")
        return found
    prepared = stages.prepare(_with_shared_threads(recipe, found))
    log.open(found)
    state = distributed.from_main(lambda: checkpoints.latest(found.checkpoints, log))
    if state is None:
        initialize(prepared.recipe, prepared.made.network, log)
    return _execute(prepared, found, state, log, cache=cache, profile=profile, began=began)


def _execute(
    prepared: Prepared,
    directory: RunDirectory,
    state: Mapping[str, Any] | None,
    log: Log,
    *,
    cache: Path | bool,
    profile: bool,
    began: float,
) -> RunDirectory:
    """Open the sound, train, score the test set once, and write the report."""
    recipe, times = prepared.recipe, StepTimes(prepared.machine.device)
    stop = Stop(notice=distributed.is_main())
    with _observers(recipe, directory, log) as attach, stop.handling(), explaining_out_of_memory(recipe):
        with stages.open_sound(prepared, directory, cache, state, log) as opened:
            notify = attach(opened, state)
            trained = stages.train(opened, state, log, notify=notify, stop=stop, times=times, profile=profile)
            scored = stages.score_test(trained)
            report = stages.write_report(scored, began, log)
            notify("run_finished", report=report)
        if times.steps:
            log("; ".join([times.line(), *advice(times.shares, recipe.train.num_workers)]))
    return directory


@contextmanager
def _observers(
    recipe: Recipe, directory: RunDirectory, log: Log
) -> Iterator[Callable[[Opened, Mapping[str, Any] | None], stages.Notify]]:
    """Attach the observers once the run is opened; if it fails, notify them and say how to resume."""
    notify: stages.Notify = _notify_nobody

    def attach(opened: Opened, state: Mapping[str, Any] | None) -> stages.Notify:
        nonlocal notify
        if distributed.is_main():
            notify = make_observers(recipe, _run_info(opened, state), log).notify
        notify("run_started")
        return notify

    try:
        yield attach
    except BaseException as error:
        notify("run_failed", error=error)
        note = f"stopped; to resume: {resume_line(recipe, directory)}"
        error.add_note(note)  # each process shows it: the one that writes the log may be dead
        log(note)
        raise


def _notify_nobody(_hook: str, **_arguments: Any) -> None:
    """Only the main process has observers."""


def _run_info(opened: Opened, state: Mapping[str, Any] | None) -> RunInfo:
    prepared = opened.prepared
    clips = {name: len(rows) for name, rows in opened.parts.items()}
    return RunInfo(
        directory=opened.directory.path,
        name=prepared.recipe.name,
        recipe=prepared.recipe.tables(),
        classes=prepared.table.classes,
        clips={**clips, "purged": len(prepared.cut.rows("purged"))},
        epochs=prepared.recipe.train.epochs,
        steps_per_epoch=prepared.plan(opened.parts["train"]).steps,
        start_step=int(state["step"]) if state else 0,
    )


def _write_recipe(recipe: Recipe, directory: RunDirectory) -> None:
    """Write the recipe, before any sound is read."""
    recipes.write_code(recipe, directory.model / "code")
    files.write_text(directory.recipe, recipes.relocated(recipe, "./model/code").to_toml())


def _with_shared_threads(recipe: Recipe, directory: RunDirectory) -> Recipe:
    """The recipe of a resumed run, its threads shared among the processes that there are now.

    The numbers to start from are in `environment.json`: those in the recipe are from the first start.
    """
    path = directory.environment
    last = distributed.from_main(lambda: files.read_json(path, "threads", "processes") if path.exists() else None)
    if last is None:
        return recipe
    if not all(isinstance(last[name], int) and last[name] > 0 for name in ("threads", "processes")):
        raise RunError(f"{path}: damaged: threads and processes must be numbers")
    threads = shared_threads(last["threads"], last["processes"])
    return recipe.with_tables(train=attrs.evolve(recipe.train, threads=threads))


def device_set(device: str | None) -> list[str]:
    """The settings that `--device` stands for."""
    return [] if device is None else [f'train.device="{device}"']
