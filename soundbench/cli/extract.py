"""`soundbench extract`: make a recipe's features ahead of its training."""

from __future__ import annotations

from pathlib import Path

import click

from soundbench.cli import memory


@click.command()
@click.argument("recipe")
@click.option(
    "--set", "sets", multiple=True, metavar="KEY=VALUE", help="Change a key of the recipe, such as audio.hop=1.5."
)
@click.option("--device", help="auto, cpu, cuda or cuda:N.")
@click.option("--cache", type=click.Path(path_type=Path), help="Where decoded sound and features are kept.")
@click.option("--processes", type=click.IntRange(min=1), default=1, help="Share the work out among so many processes.")
def command(recipe: str, sets: tuple[str, ...], device: str | None, cache: Path | None, processes: int) -> None:
    """Make the features that a run of RECIPE with train.extracted = true reads; the last line printed is their folder.

    Stopped in whatever way, the same command goes on.
    """
    from soundbench.cli.launch import launch

    options = (recipe, sets, device, cache)
    folder = _work(*options) if processes == 1 else launch(_work, options, processes)
    if folder is not None:
        click.echo(folder)


def _work(recipe: str, sets: tuple[str, ...], device: str | None, cache: Path | None) -> Path | None:
    """What one process does; the folder, in the first of several."""
    from soundbench import distributed
    from soundbench.recipe import read
    from soundbench.training.extraction import extract
    from soundbench.training.run import device_set

    try:
        resolved = read(recipe, sets=[*sets, *device_set(device)])
        memory.keep_on_cpu(resolved.train.device)
        found = extract(resolved, cache=cache)
        if not distributed.is_main():
            return None
        if not resolved.train.extracted:
            click.echo("a run reads them if told to: --set train.extracted=true", err=True)
        return found.blocks.folder
    finally:
        distributed.leave()
