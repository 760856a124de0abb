"""`soundbench thresholds`: each class's threshold for a wanted precision, from a table of marks."""

from __future__ import annotations

from pathlib import Path

import click

from soundbench.cli import options, output


@click.command()
@options.model()
@click.argument("marked", type=options.PATH)
@click.option(
    "--precision",
    type=float,
    default=0.9,
    metavar="SHARE",
    help="Share of what reaches the threshold that is to be right. Default: 0.9.",
)
@click.option("--write", is_flag=True, help="Write the thresholds into the model folder.")
@options.accept_changes
def command(run: str, marked: Path, precision: float, write: bool, accept_changes: bool) -> None:
    """Find the thresholds of the model of RUN from MARKED, a table of segments in which right and wrong are marked.

    RUN is a run directory, its model/ folder, or the name of an installed model, into which nothing is written. Prints
    for each class the score from which results are right as often as --precision says, with its interval over sounds. A
    class without a threshold keeps the one that it has.
    """
    from soundbench.inference.loading import find_model
    from soundbench.inference.review.marks import read_marks
    from soundbench.inference.review.thresholds import as_text, fit_thresholds, write_thresholds
    from soundbench.report.resampling import few

    folder, marks = find_model(run), read_marks(marked)
    found = fit_thresholds(folder, marks, precision, accept_changes)
    output.result(as_text(found, precision))
    doubts = few(min((one.sounds for one in found.values() if one.value is not None), default=0))
    if doubts:
        output.say(doubts)
    if write:
        write_thresholds(folder, found, precision, max(mark.per for mark in marks))
        output.result(folder / "model.toml")
