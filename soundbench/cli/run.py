"""`soundbench run`: train and test the model that a recipe describes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from soundbench.cli import options, output


@click.command()
@options.recipe(required=False)
@options.set_keys
@click.option(
    "--folds",
    type=click.Choice(["all"]),
    help="Train once per fold, test on that fold, and pool the results. Default: one run, with the recipe's split.",
)
@click.option(
    "--leave-out",
    multiple=True,
    metavar="CLASS",
    help="Train without this class, and report how well it is recognised as unknown. May be repeated.",
)
@click.option(
    "--out",
    type=options.PATH,
    metavar="DIR",
    help="Run directory to write, new or empty. Default: a new one in runs/.",
)
@click.option(
    "--resume",
    "resumed",
    type=options.PATH,
    callback=options.run_there,
    metavar="DIR",
    help="Continue the stopped run in DIR. Default: start a new run of RECIPE.",
)
@options.device(None)
@options.processes
@options.cache
@options.no_cache
@click.option(
    "--profile", is_flag=True, help="Profile a few training steps, and write profile.txt to the run directory."
)
@options.trust_code
@options.accept_changes
def command(
    recipe: str | None,
    sets: tuple[str, ...],
    folds: str | None,
    leave_out: tuple[str, ...],
    out: Path | None,
    resumed: Path | None,
    device: str | None,
    cache: Path | None,
    no_cache: bool,
    profile: bool,
    trust_code: bool,
    accept_changes: bool,
    processes: int,
) -> None:
    """Train and test the model that RECIPE, a TOML file, describes.

    RECIPE may be the name of a recipe of soundbench, such as quickstart. The run directory receives the model, its
    predictions and the report; the last line printed is its path.
    """
    from soundbench.cli.launch import launch

    store = False if no_cache else (cache or True)
    arguments = (recipe, sets, folds, leave_out, out, resumed, device, store, profile, trust_code, accept_changes)
    path = _work(*arguments) if processes == 1 else launch(_work, arguments, processes)
    if path is not None:
        output.result(path)


def _work(
    recipe: str | None,
    sets: tuple[str, ...],
    folds: str | None,
    leave_out: tuple[str, ...],
    out: Path | None,
    resumed: Path | None,
    device: str | None,
    store: Path | bool,
    profile: bool,
    trust_code: bool,
    accept_changes: bool,
) -> Path | None:
    """The work of one process; returns the run directory in the main process, None in the others."""
    from soundbench import distributed
    from soundbench.errors import CallError

    try:
        if resumed is None:
            path = _run(recipe, sets, folds, leave_out, out, device, store, profile, accept_changes)
        else:
            if recipe or sets or folds or leave_out or out:
                raise CallError(
                    "--resume DIR takes no recipe, --set, --folds, --leave-out or --out: a run continues with its own "
                    "recipe"
                )
            path = _resume(resumed, device, store, profile, trust_code, accept_changes)
        return path if distributed.is_main() else None
    finally:
        distributed.leave()  # a process that ends while still connected to others may abort


def _run(
    recipe: str | None,
    sets: tuple[str, ...],
    folds: str | None,
    leave_out: tuple[str, ...],
    out: Path | None,
    device: str | None,
    store: Path | bool,
    profile: bool,
    accept_changes: bool,
) -> Path:
    from soundbench.cli.process import own_process
    from soundbench.errors import CallError
    from soundbench.recipe import read
    from soundbench.training.folds import run_folds
    from soundbench.training.run import device_set, run

    if recipe is None:
        raise CallError("no recipe given; use soundbench run RECIPE, or soundbench run --resume DIR")
    resolved = read(recipe, sets=[*sets, *device_set(device)])
    own_process(resolved.train.device)
    if not folds:
        options: dict[str, Any] = {"accept_changes": accept_changes, "leave_out": leave_out}
        return run(resolved, out=out, cache=store, profile=profile, **options).path
    if profile:
        raise CallError("--profile is for a single run: leave out --folds")
    return run_folds(resolved, out=out, cache=store, accept_changes=accept_changes, leave_out=leave_out).path


def _resume(
    directory: Path, device: str | None, store: Path | bool, profile: bool, trust_code: bool, accept_changes: bool
) -> Path:
    from soundbench.cli.process import own_process
    from soundbench.errors import CallError
    from soundbench.report.run_directory import RunDirectory
    from soundbench.training.folds import resume_folds
    from soundbench.training.run import resume

    own_process(device)
    more: dict[str, Any] = {
        "trust_code": trust_code,
        "device": device,
        "cache": store,
        "accept_changes": accept_changes,
    }
    if not RunDirectory(directory).has_folds:
        return resume(directory, profile=profile, **more).path
    if profile:
        raise CallError("--profile is for a single run: give the directory of one fold")
    return resume_folds(directory, **more).path
