"""`soundbench evaluate`: judge a run's test set again, or any other labelled sound, with its model."""

from __future__ import annotations

from pathlib import Path

import click

from soundbench.cli import memory


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option(
    "--dataset",
    metavar="RECIPE|MANIFEST|FOLDER",
    help="A recipe, whose test set is judged, or a table or folder of sounds; by default the run's own test set.",
)
@click.option("--checkpoint", default="best", show_default=True, metavar="best|last|FILE", help="Which weights judge.")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="The report's folder; a new one in RUN/evaluations/ by default.",
)
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N.")
@click.option("--cache", type=click.Path(path_type=Path), help="Where decoded sound is kept.")
@click.option("--no-cache", is_flag=True, help="Keep decoded sound only while it is judged.")
@click.option("--trust-code", is_flag=True, help="Execute code that the run carries.")
def command(
    run: Path,
    dataset: str | None,
    checkpoint: str,
    out: Path | None,
    device: str,
    cache: Path | None,
    no_cache: bool,
    trust_code: bool,
) -> None:
    """Judge labelled sound with RUN's model, and report on it; the last line printed is the report's folder.

    RUN may be a model folder alone, with --dataset and --out.
    """
    from soundbench.inference.evaluation import evaluate

    memory.keep_on_cpu(device)
    store = False if no_cache else (cache or True)
    done = evaluate(run, dataset, checkpoint=checkpoint, out=out, device=device, trust_code=trust_code, cache=store)
    click.echo(done.path)
