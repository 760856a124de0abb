"""A run from recipe to report, one stage after the other; resuming one; and only its features, before it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import attrs

from soundbench import distributed, files
from soundbench import recipe as recipes
from soundbench.contracts import RunInfo
from soundbench.data.features import Features
from soundbench.data.shared_store import sound_store
from soundbench.errors import CallError, RunError
from soundbench.machine import cores
from soundbench.model import folder as model_folder
from soundbench.model.weights import initialize
from soundbench.recipe import Recipe, Train
from soundbench.report import lock, run_directory
from soundbench.report.results.run import Run
from soundbench.report.run_directory import RunDirectory
from soundbench.signals import Stop
from soundbench.training import checkpoints, finishing, stages
from soundbench.training.environment import (
    accept_recipe,
    agreed_fingerprint,
    explaining_out_of_memory,
    read_environment,
    record_recipe,
    refuse_changed_recipe,
    shared_threads,
)
from soundbench.training.extraction import features_of
from soundbench.training.log import Log, Say, resume_line, to_stderr
from soundbench.training.loop import Progress
from soundbench.training.observers import Observers, make_observers
from soundbench.training.profiling import StepTimes, advice
from soundbench.training.rejecting.others import read_negatives
from soundbench.training.stages import Opened, Prepared
from soundbench.training.starting.learnt import learnt_before

__all__ = ["device_set", "extract", "held", "leaving_out", "new_directory", "resume", "run"]


def run(
    recipe: Recipe | str | Path,
    *,
    out: Path | str | None = None,
    cache: Path | str | bool = True,
    profile: bool = False,
    accept_changes: bool = False,
    leave_out: Sequence[str] = (),
    say: Say = to_stderr,
) -> Run:
    """Train and test what a recipe describes.

    Args:
        recipe: made by `soundbench.Recipe`, or the path of one, which is read as by `soundbench.read_recipe`.
        out: the run directory, which must be empty or not exist; by default a new one under `runs/`.
        cache: the folder of decoded sound; True for the user's cache, False for a temporary one.
        profile: whether to profile a few steps; `profile.txt` then shows where their time goes.
        accept_changes: whether the weights that `[init]` names may have changed since soundbench wrote them.
        leave_out: classes to train without; the report says how well they are recognised as unknown.
        say: receives each line of progress; by default, lines are printed to standard error.

    Raises:
        SoundbenchError: a mistake in the recipe, unusable data, or a failure while working.
    """
    began, log = time.monotonic(), Log(say)
    recipe = leaving_out(recipes.given(recipe), leave_out)
    distributed.join(recipe.train.device)
    prepared = _initialized(stages.prepare(recipe, cache=cache, say=log), log, accept_changes)
    with new_directory(out, prepared.recipe.name) as directory:
        distributed.from_main(lambda: _write_recipe(prepared.recipe, directory))
        log.open(directory)
        _execute(prepared, directory, None, None, log, cache=cache, profile=profile, began=began)
    return Run(directory)


def resume(
    directory: str | os.PathLike[str],
    *,
    trust_code: bool = False,
    device: str | None = None,
    cache: Path | str | bool = True,
    profile: bool = False,
    accept_changes: bool = False,
    say: Say = to_stderr,
) -> Run:
    """Continue a run from its last checkpoint, as if nothing had stopped it.

    Args:
        directory: the run directory.
        trust_code: whether code in the run directory (`use = "./mine.py:Net"`) may be executed.
        device: the device to use instead of the one that the run began on; None for the same.
        cache: as in `run`.
        profile: as in `run`.
        accept_changes: whether `recipe.toml`, and the results of a finished run, may have changed since they were
            written.
        say: as in `run`.

    Raises:
        RunError: there is no such run directory, another process works in it, its recipe or its data has changed, or
            no checkpoint can be used.
        CallError: it holds a run for each fold.
    """
    began, log = time.monotonic(), Log(say)
    found = _opened(directory, log)
    if found.has_folds:
        raise CallError(
            f"{found.path}: holds a run for each fold: soundbench run --resume {found.path} goes on with them"
        )
    before = read_environment(found)
    if before and not accept_changes:
        refuse_changed_recipe(found, before)
    recipe = recipes.read(found.recipe, device_set(device), trust_code=trust_code)
    distributed.join(recipe.train.device)
    with held(found):
        lacking = distributed.from_main(lambda: _lacking(found, accept_changes))
        if lacking == []:
            log(f"{found.path}: this run is finished; nothing to resume")
            return Run(found)
        log.open(found)
        state = distributed.from_main(lambda: _last_state(found, lacking, log))
        if state and not before and not accept_changes:
            distributed.from_main(lambda: refuse_changed_recipe(found, state["environment"]))
        if not state and not before:
            log(f"{found.environment}: missing or damaged, so the recipe cannot be checked; made anew")
        before = state["environment"] if state else before
        began -= Progress.of(state).spent  # the report counts the steps before the stop too
        prepared = stages.prepare(recipe, _threads_before(before, log), cache=cache, say=log)
        if state is None:
            prepared = _initialized(prepared, log, accept_changes)
        else:  # what it began with may be gone
            prepared = attrs.evolve(prepared, learnt=(before or {}).get("learnt", ""))
        _execute(prepared, found, state, before, log, device=device, cache=cache, profile=profile, began=began)
    return Run(found)


def _initialized(prepared: Prepared, log: Log, accept_changes: bool) -> Prepared:
    """The run with the weights that `[init]` names; the log warns if these have learnt from the test set."""
    recipe, made, table = prepared.recipe, prepared.made, prepared.table
    initialize(recipe, made.network, table.classes, log, accept_changes)
    learnt = distributed.from_main(lambda: learnt_before(recipe, made.dataset, table, prepared.cut.rows("test")))
    if learnt:
        log(f"WARNING: init: {learnt}")
    return attrs.evolve(prepared, learnt=learnt)


def _opened(directory: str | os.PathLike[str], log: Log) -> RunDirectory:
    """The run directory to resume; if its recipe is lost, it is made anew from a checkpoint."""
    found = RunDirectory(Path(directory))
    files.refuse_links(found.path)
    if found.checkpoints.is_dir() and not found.recipe.exists():
        state = checkpoints.latest(found.checkpoints, log)
        if state:
            files.write_text(found.recipe, state["recipe"])
            log.made_anew([found.recipe.name])
    return RunDirectory.open(found.path)


def _lacking(directory: RunDirectory, accept_changes: bool) -> list[str] | None:
    """The files of a finished run that are missing or have changed; None if it is not finished."""
    wrong = run_directory.changed_results(directory)
    if wrong is None:
        return None
    wrong += [f"{directory.model.name}/{name}" for name in model_folder.check(directory.model)]
    if accept_changes:
        wrong = [name for name in wrong if not (directory.path / name).exists() and directory.checkpoints.is_dir()]
        accept_recipe(directory)
        model_folder.accept(directory.model)
        run_directory.seal_results(directory)
    return wrong


def _last_state(directory: RunDirectory, lacking: Sequence[str] | None, log: Log) -> dict[str, Any] | None:
    """The state to resume from; None for the beginning."""
    state = checkpoints.latest(directory.checkpoints, log, lambda state: checkpoints.refuse_lost_best(directory, state))
    if lacking is None:
        if state and state["progress"]["best_epoch"]:
            log.made_anew([f"{directory.model.name}/{name}" for name in model_folder.check(directory.model)])
        return state
    if state is None:
        raise RunError(
            f"{directory.path}: missing or changed since the run finished: {', '.join(lacking)}; there is no "
            "checkpoint to make them anew from; accept them as they are with --accept-changes (accept_changes=True)"
        )
    log.made_anew(lacking)
    return state


@contextmanager
def new_directory(out: Path | str | None, name: str) -> Iterator[RunDirectory]:
    """Create the run directory `out`, or one under `runs/` named after the recipe, and hold it.

    Raises:
        RunError: it is not empty, cannot be written to, or another process works in it.
    """
    made = distributed.from_main(lambda: RunDirectory.create(out) if out else RunDirectory.new(Path("runs"), name))
    with held(made):
        distributed.from_main(lambda: RunDirectory.create(made.path).clear())  # another process may have been faster
        yield made


@contextmanager
def held(directory: RunDirectory) -> Iterator[None]:
    """Let no other run or resume work in a directory; the main process holds it.

    Raises:
        RunError: another process works in it.
    """
    with ExitStack() as stack:
        distributed.from_main(lambda: stack.enter_context(lock.held(directory.path)))
        yield


def extract(
    recipe: Recipe, *, cache: Path | None = None, accept_changes: bool = False, say: Say = to_stderr
) -> Features:
    """Compute the features that a run with `train.extracted` reads; those that exist are kept.

    Args:
        recipe: the recipe; its own `train.extracted` does not matter.
        cache: the folder of decoded sound and of features; None for the user's cache.
        accept_changes: whether the weights that `[init]` names may have changed since soundbench wrote them.
        say: receives each line of progress; by default, lines are printed to standard error.

    Raises:
        SoundbenchError: what a run would refuse, features that cannot be extracted, or a failure while working.
    """
    distributed.join(recipe.train.device)
    log = Log(say)
    found: Path | bool = True if cache is None else cache
    recipe = recipe.with_tables(train=attrs.evolve(recipe.train, extracted=True))
    prepared = stages.prepare(recipe, cache=found, say=log)
    recipe, made, table = prepared.recipe, prepared.made, prepared.table
    initialize(recipe, made.network, table.classes, log, accept_changes)
    with sound_store(table, made.dataset, recipe.audio, found, log) as store:
        agreed_fingerprint(table, prepared.cut.part, store.lengths)
        prepared.plan(store.lengths > 0)
        return features_of(recipe, made.network, prepared.machine, store, log)


def _execute(
    prepared: Prepared,
    directory: RunDirectory,
    state: Mapping[str, Any] | None,
    before: Mapping[str, Any] | None,
    log: Log,
    *,
    device: str | None = None,
    cache: Path | str | bool,
    profile: bool,
    began: float,
) -> None:
    """Open the sound, train, score the test set once, and write the report."""
    recipe, times = prepared.recipe, StepTimes(prepared.machine.device)
    stop = Stop(notice=distributed.is_main())
    resumed_by = resume_line(recipe, directory, device, cache)
    with _observers(recipe, directory, log, resumed_by) as attach, stop.handling(), explaining_out_of_memory(recipe):
        with stages.open_sound(prepared, directory, cache, state, before, log) as opened:
            read_negatives(opened, log)
            notify = attach(opened, state)
            trained = stages.train(opened, state, log, notify=notify, stop=stop, times=times, profile=profile)
            scored = finishing.score_test(finishing.fit(trained, log))
            report = finishing.write_report(scored, began, log)
            notify("run_finished", report=report)
        if times.steps:
            log("; ".join([times.line(), *advice(times, recipe.train.num_workers, prepared.machine.threads)]))


@contextmanager
def _observers(
    recipe: Recipe, directory: RunDirectory, log: Log, resumed_by: str
) -> Iterator[Callable[[Opened, Mapping[str, Any] | None], stages.Notify]]:
    """Attach the observers once the run is opened; if it fails, notify them and name the command that resumes it."""
    observers = Observers(log)

    def attach(opened: Opened, state: Mapping[str, Any] | None) -> stages.Notify:
        nonlocal observers
        if distributed.is_main():
            observers = make_observers(recipe, _run_info(opened, state), log)
        observers.notify("run_started")
        return observers.notify

    try:
        yield attach
    except BaseException as error:
        observers.recall()
        observers.notify("run_failed", error=error)
        note = f"stopped; to resume: {resumed_by}"
        error.add_note(note)  # each process shows it: the one that writes the log may be dead
        log(note)
        raise
    else:
        observers.recall()


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
        steps_per_epoch=opened.plan.order.steps,
        start_step=int(state["step"]) if state else 0,
    )


def leaving_out(recipe: Recipe, classes: Sequence[str]) -> Recipe:
    """The recipe without some classes, instead of those that it leaves out itself.

    Raises:
        CallError: `classes` is a string.
    """
    if isinstance(classes, str):
        raise CallError(f"leave_out must be a list of classes, such as [{classes!r}]")
    if not classes:
        return recipe
    own = attrs.evolve(recipe.reject.own, leave_out=tuple(classes))
    return recipe.with_tables(reject=attrs.evolve(recipe.reject, own=own))


def _write_recipe(recipe: Recipe, directory: RunDirectory) -> None:
    """Write the recipe, before any sound is read."""
    recipes.write_code(recipe, directory.code)
    record_recipe(directory, recipes.relocated(recipe, "./model/code").to_toml())


def _threads_before(before: Mapping[str, Any] | None, log: Log) -> int | None:
    """The threads of a process of a resumed run; None if it was stopped before it settled them.

    The numbers to start from are those of `environment.json`: those in the recipe are from the first start. Fewer cores
    than there were change nothing: another number of threads adds numbers in another order.
    """
    threads, processes = ((before or {}).get(name) for name in ("threads", "processes"))
    if not isinstance(threads, int) or not isinstance(processes, int) or min(threads, processes) < 1:
        return None
    threads = shared_threads(threads, processes)
    if threads * distributed.local_world() > cores():
        log(
            f"the run began with {threads} threads in each process, which is more than the cores here ({cores()}): it "
            "keeps them, since the last digits of its results depend on them, and will be slower"
        )
    return threads


def device_set(device: str | None) -> list[str]:
    """The settings that `--device` stands for.

    Raises:
        CallError: there is no such device anywhere.
    """
    if device is None:
        return []
    try:
        Train(device=device)
    except ValueError as error:
        raise CallError(f"--{error}") from None
    return [f'train.device="{device}"']
