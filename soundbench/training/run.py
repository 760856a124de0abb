"""A run from recipe to report: one stage after the other, in the order of the sound's way; and going on with one."""

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
from soundbench.model.weights import initialize
from soundbench.recipe import Recipe
from soundbench.report.run_directory import RunDirectory
from soundbench.signals import Stop
from soundbench.training import checkpoints, stages
from soundbench.training.environment import advising_on_memory, shared_threads
from soundbench.training.log import Log, Say, resume_line, to_stderr
from soundbench.training.observers import make_observers
from soundbench.training.profiling import StepTimes, advice
from soundbench.training.stages import Opened, Prepared

__all__ = ["device_set", "new_directory", "resume", "run"]


def new_directory(out: Path | None, name: str) -> RunDirectory:
    """A new run directory: `out`, or one under `runs/` called after the recipe. The main process makes it for all."""
    return distributed.from_main(lambda: RunDirectory.create(out) if out else RunDirectory.new(Path("runs"), name))


def run(
    recipe: Recipe,
    *,
    out: Path | None = None,
    cache: Path | bool = True,
    profile: bool = False,
    say: Say = to_stderr,
) -> RunDirectory:
    """Train and evaluate what a recipe describes.

    Args:
        recipe: as `soundbench.Recipe` or `recipe.read` give it.
        out: the run directory, which must be empty or not be there; by default a new one under `runs/`.
        cache: the folder of decoded sound; True for the user's own, False for one that goes with the run.
        profile: whether to look closely at a few steps; `profile.txt` then says what takes their time.
        say: is given each line of progress; by default they go to standard error.

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
    return _conduct(prepared, directory, None, log, cache=cache, profile=profile, began=began)


def resume(
    directory: Path,
    *,
    trust_code: bool = False,
    device: str | None = None,
    cache: Path | bool = True,
    profile: bool = False,
    say: Say = to_stderr,
) -> RunDirectory:
    """Go on with a run where its last checkpoint was written, as if nothing had stopped it.

    Args:
        directory: the run directory.
        trust_code: whether code that the run carries (`use = "./mine.py:Net"`) may be executed.
        device: another one than the run was begun on; None for the same.
        cache: as in `run`.
        profile: as in `run`.
        say: as in `run`.

    Raises:
        RunError: no run directory, changed data, or checkpoints that cannot be read.
    """
    began, log = time.monotonic(), Log(say)
    found = RunDirectory.open(directory)
    recipe = recipes.read(found.recipe, device_set(device), trust_code=trust_code)
    distributed.join(recipe.train.device)
    if distributed.from_main(found.report_json.exists):
        log(f"{found.path}: this run is finished; nothing to resume")
        return found
    prepared = stages.prepare(_shared_out(recipe, found))
    log.open(found)
    state = distributed.from_main(lambda: checkpoints.latest(found.checkpoints, log))
    if state is None:
        initialize(prepared.recipe, prepared.made.network, log)
    return _conduct(prepared, found, state, log, cache=cache, profile=profile, began=began)


def _conduct(
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
    with _reported(recipe, directory, log) as observed, stop.handling(), advising_on_memory(recipe):
        with stages.open_sound(prepared, directory, cache, state, log) as opened:
            notify = observed(opened, state)
            trained = stages.train(opened, state, log, notify=notify, stop=stop, times=times, profile=profile)
            scored = stages.score_test(trained)
            report = stages.write_report(scored, began, log)
            notify("run_finished", report=report)
        if times.steps:
            log("; ".join([times.line(), *advice(times.shares, recipe.train.num_workers)]))
    return directory


@contextmanager
def _reported(
    recipe: Recipe, directory: RunDirectory, log: Log
) -> Iterator[Callable[[Opened, Mapping[str, Any] | None], stages.Notify]]:
    """Let observers know how a run goes, once it is opened; where it fails, say how to go on, too."""
    notify: stages.Notify = _notify_nobody

    def observed(opened: Opened, state: Mapping[str, Any] | None) -> stages.Notify:
        nonlocal notify
        if distributed.is_main():
            notify = make_observers(recipe, _info(opened, state), log).tell
        notify("run_started")
        return notify

    try:
        yield observed
    except BaseException as error:
        notify("run_failed", error=error)
        note = f"stopped; to go on: {resume_line(recipe, directory)}"
        error.add_note(note)  # for who has started several processes: the one that says it may be dead
        log(note)
        raise


def _notify_nobody(_hook: str, **_arguments: Any) -> None:
    """Observers live in the main process alone."""


def _info(opened: Opened, state: Mapping[str, Any] | None) -> RunInfo:
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
    """Write down what is run, before any sound is read."""
    recipes.write_code(recipe, directory.model / "code")
    files.write_text(directory.recipe, recipes.relocated(recipe, "./model/code").to_toml())


def _shared_out(recipe: Recipe, directory: RunDirectory) -> Recipe:
    """The recipe of a run that goes on, its threads shared out anew where the number of processes is another one.

    Both as the run had them last: what the recipe says is of those that began it.
    """
    path = directory.environment
    last = distributed.from_main(lambda: files.read_json(path) if path.exists() else None)
    if last is None:
        return recipe
    threads = shared_threads(last["threads"], last["processes"])
    return recipe.with_tables(train=attrs.evolve(recipe.train, threads=threads))


def device_set(device: str | None) -> list[str]:
    """What `--device` is short for: the settings that a recipe is read with."""
    return [] if device is None else [f'train.device="{device}"']
