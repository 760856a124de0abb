"""What the commands on sound files share: loading the model and finding the files, progress, and the last lines."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from soundbench.inference.classifier import Classifier
    from soundbench.inference.progress import Progress


def opened(
    run: str, paths: tuple[str, ...], device: str, trust_code: bool, accept_changes: bool
) -> tuple[Classifier, list[Path]]:
    """The classifier of a run and the files to score, the same in every process."""
    from soundbench import distributed
    from soundbench.cli.memory import keep_on_cpu
    from soundbench.data.sound_files import find_sounds
    from soundbench.inference.classifier import load

    keep_on_cpu(device)
    distributed.join(device)
    files = distributed.from_main(lambda: find_sounds(paths))
    return load(run, device=device, trust_code=trust_code, accept_changes=accept_changes), files


def started(files: list[Path]) -> Progress:
    """The progress line for files that are yet to be scored."""
    from soundbench.inference.many_files import sizes
    from soundbench.inference.progress import Progress

    return Progress(len(files), float(sum(sizes(files))))


def finish(errors: dict[str, str], count: int, out: Path | None) -> None:
    """Print where the results are and how many files have none; exits with 1 if there are any."""
    from soundbench import distributed

    if distributed.is_main():
        if out:
            click.echo(out)
        if errors:
            where = f"; see {out / 'errors.csv'}" if out else ""
            click.echo(f"{len(errors)} of {count} files could not be scored{where}", err=True)
    if errors:
        raise SystemExit(1)
