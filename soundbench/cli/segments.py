"""`soundbench segments`: cut clips to listen to from the results of `infer`."""

from __future__ import annotations

from pathlib import Path

import click

from soundbench.cli import options, output


@click.command()
@click.argument("results", type=options.PATH)
@click.option("--out", type=options.PATH, required=True, metavar="DIR", help="New folder for the clips.")
@click.option(
    "--class",
    "classes",
    multiple=True,
    metavar="NAME",
    help="Cut clips of this class alone. May be repeated.",
)
@click.option(
    "--bins",
    metavar="SCORES",
    help="Edges of the score bins, separated by commas. Default: 0,0.1,0.2,0.3,0.4,0.5,0.6,0.7,0.8,0.9,1.",
)
@click.option(
    "--most",
    type=click.IntRange(1),
    default=10,
    metavar="N",
    help="Cut at most N clips of each class and bin, drawn at random. Default: 10.",
)
@click.option(
    "--pad",
    type=click.FloatRange(0),
    default=1.0,
    metavar="SECONDS",
    help="Sound to keep before and after each. Default: 1.",
)
@click.option("--seed", type=int, default=1, metavar="N", help="Seed of the draw. Default: 1.")
def command(
    results: Path, out: Path, classes: tuple[str, ...], bins: str | None, most: int, pad: float, seed: int
) -> None:
    """Cut clips from RESULTS, the windows or events that infer wrote as CSV, JSON lines or Parquet.

    Clips are drawn by class and score. The last line printed is the path of segments.csv, which has a row for each
    clip and an empty column correct: write yes or no there, and give the table to soundbench thresholds.
    """
    from soundbench.inference.review.results import Results
    from soundbench.inference.review.segments import TABLE, Choice, write_segments
    from soundbench.messages import printable

    edges = {} if bins is None else {"bins": _edges(bins)}
    choice = Choice(classes=classes, most=most, seed=seed, **edges)
    errors = write_segments(out, Results.of(results), choice, pad)
    for stretch, reason in errors.items():
        output.say(printable(f"{stretch}: {reason}"))
    output.result(out / TABLE)
    if errors:
        output.say(f"{len(errors)} clips could not be cut; see {out / 'errors.csv'}")
        raise SystemExit(1)


def _edges(text: str) -> tuple[float, ...]:
    from soundbench.errors import CallError
    from soundbench.messages import show

    try:
        return tuple(float(edge) for edge in text.split(","))
    except ValueError:
        raise CallError(f"--bins must be scores separated by commas, such as 0.2,0.5,0.8,1, is {show(text)}") from None
