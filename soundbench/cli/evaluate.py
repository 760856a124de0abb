"""`soundbench evaluate`: evaluate a trained model on its run's test set or on other labelled sound."""

from __future__ import annotations

from pathlib import Path

import click

from soundbench.cli import options, output


@click.command()
@click.argument("run", type=options.PATH)
@click.option(
    "--dataset",
    metavar="DATA",
    help="Labelled sound: a recipe (its test set), or a manifest or a folder of class folders (all clips). Default: "
    "the run's own test set.",
)
@click.option(
    "--checkpoint",
    default="best",
    metavar="best|last|FILE",
    help="Weights to evaluate: of the best epoch, of the last checkpoint, or of a file. Default: best.",
)
@click.option(
    "--out",
    type=options.PATH,
    metavar="DIR",
    help="Folder of the report, new or empty. Default: a new one in RUN/evaluations/.",
)
@options.device()
@options.cache
@options.no_cache
@options.trust_code
@options.accept_changes
def command(
    run: Path,
    dataset: str | None,
    checkpoint: str,
    out: Path | None,
    device: str,
    cache: Path | None,
    no_cache: bool,
    trust_code: bool,
    accept_changes: bool,
) -> None:
    """Evaluate the model of RUN on labelled sound, and write a report.

    RUN is a run directory; or a model folder, with --dataset and --out. The last line printed is the folder of the
    report.
    """
    from soundbench.cli.process import own_process
    from soundbench.inference.evaluation import evaluate

    own_process(device)
    store = False if no_cache else (cache or True)
    done = evaluate(
        run,
        dataset,
        checkpoint=checkpoint,
        out=out,
        device=device,
        trust_code=trust_code,
        accept_changes=accept_changes,
        cache=store,
    )
    output.result(done.path)
