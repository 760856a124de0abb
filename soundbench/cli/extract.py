"""`soundbench extract`: compute a recipe's features before training."""

from __future__ import annotations

from pathlib import Path

import click

from soundbench.cli import options, output


@click.command()
@options.recipe()
@options.set_keys
@options.device(None)
@options.cache
@options.processes
@options.accept_changes
def command(
    recipe: str, sets: tuple[str, ...], device: str | None, cache: Path | None, processes: int, accept_changes: bool
) -> None:
    """Compute the features of RECIPE that a run with train.extracted = true reads.

    They are kept with the decoded sound; the last line printed is their folder. If the command is stopped, calling it
    again continues.
    """
    from soundbench.cli.launch import launch

    arguments = (recipe, sets, device, cache, accept_changes)
    folder = _work(*arguments) if processes == 1 else launch(_work, arguments, processes)
    if folder is not None:
        output.result(folder)


def _work(
    recipe: str, sets: tuple[str, ...], device: str | None, cache: Path | None, accept_changes: bool
) -> Path | None:
    """The work of one process; returns the folder in the main process, None in the others."""
    from soundbench import distributed
    from soundbench.cli.process import own_process
    from soundbench.recipe import read
    from soundbench.training.run import device_set, extract

    try:
        resolved = read(recipe, sets=[*sets, *device_set(device)])
        own_process(resolved.train.device)
        found = extract(resolved, cache=cache, accept_changes=accept_changes)
        if not distributed.is_main():
            return None
        if not resolved.train.extracted:
            output.say("to train on these features, set train.extracted=true")
        return found.blocks.folder
    finally:
        distributed.leave()
