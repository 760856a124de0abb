"""`soundbench evaluate`: evaluate a trained model on its run's test set or on other labelled sound."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from soundbench.cli import options, output, sounds

if TYPE_CHECKING:
    from soundbench.report.results.run import Run

OF_EVENTS = frozenset(
    (
        *("folder", "collar", "overlap", "ignore", "threshold", "window", "hop", "batch"),
        *("off", "smooth", "shortest", "gap", "refractory"),
    )
)


@click.command()
@options.model()
@click.option(
    "--dataset",
    metavar="DATA",
    help="Labelled sound: a recipe (its test set), or a manifest or a folder of class folders (all clips). Default: "
    "the run's own test set.",
)
@click.option(
    "--events",
    "tables",
    metavar="TABLES",
    help="Annotated recordings, to score events instead of clips: tables of Raven, Audacity or CSV (a file or a "
    "folder), or a recipe of such (its test set). The options from --sounds to --batch are for it. Default: "
    "score clips.",
)
@click.option(
    "--sounds",
    "folder",
    type=options.PATH,
    metavar="DIR",
    help="Folder of the recordings. Default: that of the tables.",
)
@click.option(
    "--collar",
    type=click.FloatRange(0),
    metavar="SECONDS",
    help="An event is right by onset if it begins so near to an annotation. Default: 0.5.",
)
@click.option(
    "--overlap",
    type=click.FloatRange(0, 1, min_open=True),
    metavar="SHARE",
    help="An event is right by overlap if it shares so much of the time that it or the annotation has. Default: 0.3.",
)
@click.option(
    "--ignore",
    multiple=True,
    metavar="LABEL",
    help="A label that is no event, such as one for background. May be repeated. Default: the class of "
    "negatives that the dataset names.",
)
@click.option(
    "--threshold",
    type=options.SCORE,
    metavar="SCORE",
    help="Score that an event must reach. Default: the model's thresholds, or 0.5.",
)
@options.window
@options.hop
@options.event_rules
@options.batch
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
@options.processes
@options.cache
@options.no_cache
@options.trust_code
@options.accept_changes
def command(
    run: str,
    dataset: str | None,
    tables: str | None,
    checkpoint: str,
    out: Path | None,
    device: str,
    processes: int,
    cache: Path | None,
    no_cache: bool,
    trust_code: bool,
    accept_changes: bool,
    **events: Any,
) -> None:
    """Evaluate the model of RUN on labelled sound, and write a report.

    RUN is a run directory; or a model folder, an ONNX file of soundbench export or a name of soundbench models, with
    --dataset or --events, and --out. The last line printed is the folder of the report.
    """
    from soundbench.cli.launch import launch

    _refuse_unused(dataset, tables)
    common: dict[str, Any] = {
        "checkpoint": checkpoint,
        "out": out,
        "device": device,
        "trust_code": trust_code,
        "accept_changes": accept_changes,
        "cache": False if no_cache else (cache or True),
    }
    arguments = (run, dataset, tables, common, events)
    path = _work(*arguments) if processes == 1 else launch(_work, arguments, processes)
    if path is not None:
        output.result(path)


def _work(
    run: str, dataset: str | None, tables: str | None, common: dict[str, Any], events: dict[str, Any]
) -> Path | None:
    """The work of one process; returns the folder of the report in the main process, None in the others."""
    from soundbench import distributed
    from soundbench.cli.process import own_process
    from soundbench.inference.evaluation import evaluate

    try:
        own_process(common["device"])
        done = evaluate(run, dataset, **common) if tables is None else _events(run, tables, common, **events)
        return done.path if distributed.is_main() else None
    finally:
        distributed.leave()


def _refuse_unused(dataset: str | None, tables: str | None) -> None:
    """Raise an error for options that would change nothing."""
    from soundbench.errors import CallError

    context = click.get_current_context()
    if dataset is not None and tables is not None:
        raise CallError("--dataset and --events are evaluated one at a time")
    if tables is None:
        for option in context.command.params:
            given = context.get_parameter_source(option.name or "") is ParameterSource.COMMANDLINE
            if option.name in OF_EVENTS and given:
                raise CallError(f"{option.opts[0]} is for events in annotated recordings, and needs --events")


def _events(
    run: str,
    tables: str,
    common: dict[str, Any],
    folder: Path | None,
    collar: float | None,
    overlap: float | None,
    ignore: tuple[str, ...],
    threshold: float | None,
    window: float | None,
    hop: float | None,
    batch: int | None,
    **rules: Any,
) -> Run:
    from soundbench.inference.many_files import Wanted
    from soundbench.inference.scoring.figures import Criteria
    from soundbench.inference.scoring.recordings import evaluate_events

    on = {} if threshold is None else {"on": threshold}
    given = {"collar": collar, "overlap": overlap}
    return evaluate_events(
        run,
        tables,
        sounds=folder,
        wanted=lambda model: Wanted("event", window, hop, rules=model.event_rules(**on, **rules), batch=batch),
        how=Criteria(**{name: value for name, value in given.items() if value is not None}),
        ignore=ignore,
        progress=sounds.started,
        **common,
    )
