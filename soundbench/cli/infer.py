"""`soundbench infer`: judge sound files with a trained run."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from soundbench.cli import sounds
from soundbench.inference.formats import FORMATS, find

if TYPE_CHECKING:
    from soundbench.inference.classifier import Classifier
    from soundbench.inference.formats.base import Format
    from soundbench.inference.many_files import Wanted


@click.command()
@click.argument("run")
@click.argument("paths", nargs=-1, required=True)
@click.option("--per", type=click.Choice(["clip", "window", "event"]), help="What a row is of; a clip by default.")
@click.option("--format", "name", type=click.Choice(list(FORMATS)), default="table", show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Short for --format jsonl.")
@click.option("--top", type=click.IntRange(1), help="How many classes to tell of; without it the best, or all carried.")
@click.option("--threshold", type=click.FloatRange(0, 1), help="The score from which on a class is told of.")
@click.option("--scores", is_flag=True, help="In CSV a column for each class; JSON lines have every score anyway.")
@click.option("--off", type=click.FloatRange(0, 1), help="Where an event begins and ends; 0.8 x the threshold.")
@click.option("--smooth", type=int, default=1, show_default=True, help="Windows that a score is averaged over; odd.")
@click.option("--shortest", type=float, default=0.0, metavar="SECONDS", help="Events below it are dropped.")
@click.option("--gap", type=float, default=0.0, metavar="SECONDS", help="Events of a class no further apart are one.")
@click.option("--refractory", type=float, default=0.0, metavar="SECONDS", help="After an event, none of its class.")
@click.option("--out", type=click.Path(path_type=Path), help="A folder for the results; call again to go on.")
@click.option("--plot", type=click.Path(path_type=Path), metavar="PNG", help="Draw the sound, scores and events.")
@sounds.sound_options
def command(
    run: str,
    paths: tuple[str, ...],
    out: Path | None,
    plot: Path | None,
    device: str,
    trust_code: bool,
    **options: Any,
) -> None:
    """Judge PATHS with RUN, a run directory or its model/ folder.

    PATHS are files, folders and globs, of sounds of any length; - reads a list of them from standard input.
    """
    from soundbench import distributed
    from soundbench.inference.many_files import judge_into, model_digest

    try:
        classifier, files = sounds.opened(run, paths, device, trust_code)
        wanted, form = _asked(classifier, **options)
        if out:
            _refuse(plot is not None, "--plot draws what is printed; leave out --out")
            errors = judge_into(out, classifier, files, wanted, form, model_digest(run), sounds.started)
        else:
            _refuse(distributed.world() > 1, "several processes need --out DIR for their results")
            _refuse(plot is not None and len(files) > 1, f"--plot draws one sound, not {len(files)}")
            many = form.file_per_sound and len(files) > 1
            _refuse(many, f"{form.name} labels are of one sound; for {len(files)} give --out DIR")
            errors = _print(classifier, files, wanted, form, plot)
        sounds.finish(errors, len(files), out)
    except BrokenPipeError:  # whoever read the rows has enough; what is still buffered goes nowhere
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
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
    window: float | None,
    hop: float | None,
    batch: int | None,
    **rules: Any,
) -> tuple[Wanted, Format]:
    """What is asked of each sound, and how it is written."""
    from soundbench.inference.many_files import Wanted

    chosen = find("jsonl" if as_json else name)
    per = per or ("event" if chosen.timed else "clip")
    if threshold is not None:
        rules["on"] = threshold
    form = chosen(per, classifier.classes if scores else (), classifier.rate)
    _refuse(scores and top is not None, "--scores tells every score; leave out --top")
    return Wanted(per, window, hop, threshold, top, classifier.event_rules(**rules), batch), form


def _print(
    classifier: Classifier, files: list[Path], wanted: Wanted, form: Format, plot: Path | None
) -> dict[str, str]:
    """Print rows as they come, or a sound's file when it is done, and draw; the sounds without rows, and why."""
    from soundbench.inference.formats.base import Row
    from soundbench.inference.many_files import judge_sounds
    from soundbench.inference.timeline import plot_sound

    errors: dict[str, str] = {}
    kept: list[Any] | None = None if plot is None else []
    progress = sounds.started(files)
    number = 0
    held: list[str] = []  # lines of a sound whose file is made of all of them
    if not form.file_per_sound:
        click.echo(form.header(), nl=False)
    for one in judge_sounds(classifier, files, wanted, progress, kept):
        progress.clear()
        if isinstance(one, Row):
            held.append(form.lines(one, number))
            number += 1
            if not form.file_per_sound:
                click.echo(held.pop(), nl=False)
            continue
        if form.file_per_sound:
            click.echo(form.document("".join(held)), nl=False)
        number, held = 0, []
        if one.error:
            errors[str(one.path)] = one.error
            line = form.error(str(one.path), one.error)
            click.echo(line or f"{one.path}: {one.error}\n", nl=False, err=not line)
    if plot and kept and not errors:
        plot_sound(classifier, files[0], kept, wanted.rules, plot)
    return errors
