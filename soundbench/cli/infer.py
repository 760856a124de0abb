"""`soundbench infer`: classify sound files with a trained model."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from soundbench.cli import options, output, sounds
from soundbench.inference.formats import FORMATS, find
from soundbench.messages import printable

if TYPE_CHECKING:
    from soundbench.audio.times.starts import StartTimes
    from soundbench.inference.classifier import Classifier
    from soundbench.inference.formats.base import Format
    from soundbench.inference.many_files import Wanted

ALONE = "several processes need --out DIR for their results"


@click.command()
@options.model()
@click.argument("paths", nargs=-1, required=True)
@click.option(
    "--per",
    type=click.Choice(["clip", "window", "event"]),
    help="Report one row per clip (the mean of its windows), window or event. Default: clip; event for audacity and "
    "raven labels, and for --summary.",
)
@click.option(
    "--format",
    "name",
    type=click.Choice(list(FORMATS)),
    default="table",
    metavar="FORMAT",
    help=f"Output format: {', '.join(FORMATS)}. Default: table.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON lines; the same as --format jsonl.")
@click.option(
    "--top",
    type=click.IntRange(1),
    metavar="N",
    help="Report the N best classes, or with --threshold at most N. Default: see --threshold.",
)
@click.option(
    "--threshold",
    type=options.SCORE,
    metavar="SCORE",
    help="Report classes, or events, scoring at least this. Default: the model's thresholds, or the best class (0.5 "
    "for events).",
)
@click.option(
    "--scores",
    is_flag=True,
    help="In CSV and Parquet, add one column per class with its score. JSON lines always have all scores.",
)
@click.option(
    "--summary",
    is_flag=True,
    help="Report one row per file and class: how many events or windows, their seconds, the best score, the first.",
)
@options.window
@options.hop
@options.event_rules
@options.start_times
@click.option(
    "--out",
    type=options.PATH,
    metavar="DIR",
    help="Folder for the results. Called again, the command continues there. Default: print them.",
)
@click.option(
    "--plot",
    type=options.PATH,
    metavar="PNG",
    help="Draw the spectrogram, scores and events of one sound to this file. Default: no plot.",
)
@options.batch
@options.device()
@options.processes
@options.precision
@options.trust_code
@options.accept_changes
def command(
    run: str,
    paths: tuple[str, ...],
    out: Path | None,
    plot: Path | None,
    device: str,
    processes: int,
    trust_code: bool,
    accept_changes: bool,
    **asked: Any,
) -> int:
    """Classify the sound files PATHS with the model of RUN.

    RUN is a run directory, its model/ folder, an ONNX file of soundbench export, or a name of soundbench models. PATHS
    are files, folders and globs; - reads a list of paths from standard input. Sounds may have any length.
    """
    from soundbench.cli.launch import launch
    from soundbench.data.sound_files import find_sounds

    find, more = partial(find_sounds, paths), (out, plot, device, trust_code, accept_changes, asked)
    if processes == 1:
        return _work(run, find, *more)
    _refuse(out is None, ALONE)
    return launch(_work, (run, partial(list, find()), *more), processes)  # standard input is this process's alone


def _work(
    run: str,
    find: Callable[[], list[Path]],
    out: Path | None,
    plot: Path | None,
    device: str,
    trust_code: bool,
    accept_changes: bool,
    asked: dict[str, Any],
) -> int:
    """The work of one process; returns the exit code."""
    from soundbench import distributed
    from soundbench.inference.loading import find_model
    from soundbench.inference.many_files import model_digest, score_into
    from soundbench.model.folder import scores_digest
    from soundbench.model.named.names import model_path

    try:
        path = model_path(run)
        classifier, files = sounds.opened(path, find, device, trust_code, accept_changes, asked["precision"])
        wanted, form, times = _asked(classifier, **asked)
        if out:
            _refuse(plot is not None, "--plot cannot be used with --out")
            named = out.suffix == form.suffix and not out.exists()
            _refuse(named, f"--out is a folder, which gets results{form.suffix}: leave out {form.suffix}")
            model = model_digest(path)
            scores = model if path.is_file() else scores_digest(find_model(path))
            errors = score_into(out, classifier, files, wanted, form, model, sounds.started, times, scores)
        else:
            _refuse(distributed.world() > 1, ALONE)
            _refuse(plot is not None and len(files) > 1, f"--plot draws a single sound, not {len(files)}")
            many = not form.one_file and len(files) > 1
            _refuse(many, f"{form.name} labels are one file per sound; for {len(files)} sounds use --out DIR")
            _refuse(not form.text, f"{form.name} is no text to print: use --out DIR")
            errors = _print(classifier, files, wanted, form, plot, times)
        sounds.report(times)
        return sounds.finish(errors, len(files), out)
    except BrokenPipeError:  # the reader of the rows has gone; drop what is still buffered
        output.drop_the_rest()
        raise SystemExit(1) from None
    finally:
        distributed.leave()


def _refuse(wrong: bool, message: str) -> None:
    from soundbench.errors import CallError

    if wrong:
        raise CallError(message)


def _asked(
    classifier: Classifier,
    per: str | None,
    name: str,
    as_json: bool,
    top: int | None,
    threshold: float | None,
    scores: bool,
    summary: bool,
    window: float | None,
    hop: float | None,
    batch: int | None,
    precision: str,
    time_from: str | None,
    time_pattern: str | None,
    **rules: Any,
) -> tuple[Wanted, Format, StartTimes]:
    """The rows that each sound gets, their format, and where their dates and times are from."""
    from soundbench import distributed
    from soundbench.inference.many_files import Wanted

    chosen = find("jsonl" if as_json else name)
    per = per or ("event" if chosen.timed or summary else "clip")
    if threshold is not None:
        rules["on"] = threshold
    _refuse(not chosen.dated and bool(time_from or time_pattern), f"{chosen.name} has no place for date and time")
    times = sounds.start_times(time_from if chosen.dated else "none", time_pattern)
    rejects = classifier.scorer.rejector is not None
    columns = classifier.classes if scores else ()
    form = chosen(per, columns, classifier.rate, times.source != "none", rejects, summary, precision)
    if form.stated and not form.states and distributed.is_main():
        output.say(f"scores are computed in {precision}")
    _refuse(scores and top is not None, "--scores reports every class; leave out --top")
    _refuse(scores and summary, "--summary has no column per class; leave out --scores")
    return Wanted(per, window, hop, threshold, top, classifier.event_rules(**rules), batch, summary), form, times


def _print(
    classifier: Classifier, files: list[Path], wanted: Wanted, form: Format, plot: Path | None, times: StartTimes
) -> dict[str, str]:
    """Print each row or label file, and draw the plot; returns the sounds without rows, each with the reason."""
    from soundbench.inference.many_files import Done, score_files
    from soundbench.inference.timeline import plot_sound

    errors: dict[str, str] = {}
    windows: list[Any] | None = None if plot is None else []
    progress = sounds.started(files)
    number = 0  # of lines in the file so far
    held: list[str] = []  # the lines of a label file so far
    if form.one_file:
        output.rows(form.header())
    for one in score_files(classifier, files, wanted, progress, windows, times):
        progress.clear()
        if not isinstance(one, Done):
            held.append(form.lines(one, number))
            number += held[-1].count("\n")
            if form.one_file:
                output.rows(held.pop())
            continue
        if not form.one_file:
            output.rows(form.document("".join(held)))
            number, held = 0, []
        if one.error:
            errors[str(one.path)] = one.error
            line = form.error(str(one.path), one.error)
            output.rows(line) if line else output.say(printable(f"{one.path}: {one.error}"))
    if plot and windows and not errors:
        plot_sound(classifier, files[0], windows, wanted.rules, plot)
    return errors
