"""`soundbench run`: train and judge what a recipe describes."""

from __future__ import annotations

from pathlib import Path

import click

from soundbench.cli import memory


@click.command()
@click.argument("recipe", required=False)
@click.option(
    "--set", "sets", multiple=True, metavar="KEY=VALUE", help="Change a key of the recipe, such as train.epochs=5."
)
@click.option("--folds", type=click.Choice(["all"]), help="Test on every fold in turn, and pool the results.")
@click.option("--out", type=click.Path(path_type=Path), help="The run directory; a new one under runs/ by default.")
@click.option(
    "--resume", "resumed", type=click.Path(path_type=Path), metavar="DIR", help="Go on with a run that was stopped."
)
@click.option("--device", help="auto, cpu, cuda or cuda:N.")
@click.option("--processes", type=click.IntRange(min=1), default=1, help="Share the work out among so many processes.")
@click.option("--cache", type=click.Path(path_type=Path), help="Where decoded sound is kept.")
@click.option("--no-cache", is_flag=True, help="Keep decoded sound only while the run lasts.")
@click.option("--profile", is_flag=True, help="Look closely at a few steps: RUN/profile.txt tells what takes time.")
@click.option("--trust-code", is_flag=True, help="Execute code that the resumed run carries.")
def command(
    recipe: str | None,
    sets: tuple[str, ...],
    folds: str | None,
    out: Path | None,
    resumed: Path | None,
    device: str | None,
    cache: Path | None,
    no_cache: bool,
    profile: bool,
    trust_code: bool,
    processes: int,
) -> None:
    """Train and judge RECIPE; the last line printed is the run directory."""
    from soundbench.cli.launch import launch

    options = (recipe, sets, folds, out, resumed, device, False if no_cache else (cache or True), profile, trust_code)
    path = _work(*options) if processes == 1 else launch(_work, options, processes)
    if path is not None:
        click.echo(path)


def _work(
    recipe: str | None,
    sets: tuple[str, ...],
    folds: str | None,
    out: Path | None,
    resumed: Path | None,
    device: str | None,
    store: Path | bool,
    profile: bool,
    trust_code: bool,
) -> Path | None:
    """What one process does; the run directory, in the first of several."""
    from soundbench import distributed
    from soundbench.errors import CallError

    try:
        if resumed is None:
            path = _run(recipe, sets, folds, out, device, store, profile)
        else:
            if recipe or sets or folds or out:
                raise CallError("--resume DIR takes no recipe, --set, --folds or --out: it goes on as it was begun")
            path = _resume(resumed, device, store, profile, trust_code)
        return path if distributed.is_main() else None
    finally:
        distributed.leave()  # a process that ends while it is still joined to others may end in an abort


def _run(
    recipe: str | None,
    sets: tuple[str, ...],
    folds: str | None,
    out: Path | None,
    device: str | None,
    store: Path | bool,
    profile: bool,
) -> Path:
    from soundbench.errors import CallError
    from soundbench.recipe import read
    from soundbench.training.folds import run_folds
    from soundbench.training.run import device_set, run

    if recipe is None:
        raise CallError("which recipe? soundbench run RECIPE, or soundbench run --resume DIR")
    resolved = read(recipe, sets=[*sets, *device_set(device)])
    memory.keep_on_cpu(resolved.train.device)
    if not folds:
        return run(resolved, out=out, cache=store, profile=profile).path
    if profile:
        raise CallError("--profile looks at one run: leave --folds out")
    return run_folds(resolved, out=out, cache=store).path


def _resume(directory: Path, device: str | None, store: Path | bool, profile: bool, trust_code: bool) -> Path:
    from soundbench.errors import CallError
    from soundbench.training.folds import FOLDS, resume_folds
    from soundbench.training.run import resume

    memory.keep_on_cpu(device)
    if not (directory / FOLDS).exists():
        return resume(directory, trust_code=trust_code, device=device, cache=store, profile=profile).path
    if profile:
        raise CallError("--profile looks at one run: give the directory of one fold")
    return resume_folds(directory, trust_code=trust_code, device=device, cache=store).path
