"""What the commands that judge sound files have in common: options, the list of files, progress."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from soundbench.cli import memory

if TYPE_CHECKING:
    from soundbench.inference.classifier import Classifier
    from soundbench.inference.progress import Progress

_OPTIONS = [
    click.option("--window", type=float, metavar="SECONDS", help="Judge by windows of that length; the model's own."),
    click.option("--hop", type=float, metavar="SECONDS", help="Between windows; --window, or else the model's own."),
    click.option("--batch", type=click.IntRange(1), help="Windows judged together; those of a minute, at most 32."),
    click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N."),
    click.option("--trust-code", is_flag=True, help="Execute code that the run carries."),
]


def sound_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options of every command that judges sounds."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def opened(run: str, paths: tuple[str, ...], device: str, trust_code: bool) -> tuple[Classifier, list[Path]]:
    """The classifier of a run and the files to judge, the same in every process."""
    from soundbench import distributed
    from soundbench.data.sound_files import find_sounds
    from soundbench.inference.classifier import load

    memory.keep_on_cpu(device)
    distributed.join(device)
    files = distributed.from_main(lambda: find_sounds(paths))
    return load(run, device=device, trust_code=trust_code), files


def started(files: list[Path]) -> Progress:
    """The progress of files that are yet to be judged."""
    from soundbench.inference.many_files import sizes
    from soundbench.inference.progress import Progress

    return Progress(len(files), float(sum(sizes(files))))


def finish(errors: dict[str, str], count: int, out: Path | None) -> None:
    """Say where results are and how many files have none; exit 1 where there are such."""
    from soundbench import distributed

    if distributed.is_main():
        if out:
            click.echo(out)
        if errors:
            where = f"; {out / 'errors.csv'} says why" if out else ""
            click.echo(f"{len(errors)} of {count} files could not be judged{where}", err=True)
    if errors:
        raise SystemExit(1)
