"""`soundbench compare`: runs on the same test clips side by side, and whether they differ by more than chance."""

from __future__ import annotations

from pathlib import Path

import click

from soundbench.cli import options, output

FORMATS = ("table", "md", "csv", "json", "html")


@click.command()
@click.argument("runs", nargs=-1, required=True, type=options.PATH, callback=options.run_there, metavar="RUN RUN...")
@click.option(
    "--format",
    "form",
    type=click.Choice(FORMATS),
    default="table",
    metavar="FORMAT",
    help=f"Output format: {', '.join(FORMATS)}. Default: table.",
)
@click.option("--out", type=options.PATH, metavar="FILE", help="File to write to. Default: standard output.")
@options.accept_changes
def command(runs: tuple[Path, ...], form: str, out: Path | None, accept_changes: bool) -> None:
    """Compare runs on the same test clips.

    Each RUN is a run directory, one of all folds, or the folder of an evaluation. They must agree in dataset, classes,
    split, audio and test clips; otherwise the command says in what they differ. Prints their metrics and sizes, and for
    every two the difference with a paired interval over groups, McNemar's test over clips, and Holm's correction.
    """
    from soundbench.studies.comparing.comparison import compare
    from soundbench.studies.comparing.formats import FORMATS as WRITERS

    text = WRITERS[form](compare(runs, accept_changes=accept_changes))
    if out is None:
        output.rows(text)
        return
    from soundbench import files

    files.write_text(out, text)
    output.result(out)
