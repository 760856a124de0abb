"""The conductor: a recipe in, a run directory out."""

from __future__ import annotations

from pathlib import Path

import attrs

from soundbench import checkpoints, distributed, rundir
from soundbench import recipe as recipes
from soundbench.environment import shared_threads
from soundbench.recipe import Recipe
from soundbench.rundir import RunDirectory
from soundbench.session import Session
from soundbench.telling import Log, Say, to_stderr

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
    """Train and judge what a recipe describes.

    Args:
        recipe: as `soundbench.Recipe` or `recipe.read` give it.
        out: the run directory, which must be empty or not be there; by default a new one under `runs/`.
        cache: the folder of decoded sound; True for the user's own, False for one that goes with the run.
        profile: whether to look closely at a few steps; `profile.txt` then tells what takes their time.
        say: what is told of the work; by default lines on standard error.

    Raises:
        SoundbenchError: a mistake in the recipe, unusable data, or a failure while working.
    """
    distributed.join(recipe.train.device)
    session = Session(recipe, cache, say, profile)
    session.initialize()
    session.begin(new_directory(out, session.recipe.name))
    return session.train_and_judge(None)


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
    found = RunDirectory.open(directory)
    recipe = recipes.read(found.recipe, device_set(device), trust_code=trust_code)
    distributed.join(recipe.train.device)
    if distributed.from_main(found.report_json.exists):
        Log(say)(f"{found.path}: this run is finished; nothing to resume")
        return found
    session = Session(_shared_out(recipe, found), cache, say, profile)
    session.open(found)
    state = distributed.from_main(lambda: checkpoints.latest(found.checkpoints, session.say))
    if state is None:
        session.initialize()
    return session.train_and_judge(state)


def _shared_out(recipe: Recipe, directory: RunDirectory) -> Recipe:
    """The recipe of a run that goes on, its threads shared out anew where the number of processes is another one.

    Both as the run had them last: what the recipe says is of those that began it.
    """
    path = directory.environment
    last = distributed.from_main(lambda: rundir.read_json(path) if path.exists() else None)
    if last is None:
        return recipe
    threads = shared_threads(last["threads"], last["processes"])
    return recipe.with_tables(train=attrs.evolve(recipe.train, threads=threads))


def device_set(device: str | None) -> list[str]:
    """What `--device` is short for: the settings that a recipe is read with."""
    return [] if device is None else [f'train.device="{device}"']
