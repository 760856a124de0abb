"""`soundbench infer`: judge sound files with a trained run."""

from __future__ import annotations

import json
from pathlib import Path

import click


@click.command()
@click.argument("run")
@click.argument("paths", nargs=-1, required=True)
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line, with every score.")
@click.option(
    "--top", type=click.IntRange(1), help="How many classes to show; without it the best, or all that a sound carries."
)
@click.option("--batch", default=32, show_default=True, type=click.IntRange(1), help="Windows judged together.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N.")
@click.option("--trust-code", is_flag=True, help="Execute code that the run carries.")
def command(
    run: str, paths: tuple[str, ...], as_json: bool, top: int | None, batch: int, device: str, trust_code: bool
) -> None:
    """Judge PATHS (files, folders, globs) with RUN, a run directory or its model/ folder; a line for each file."""
    from soundbench.classifier import load
    from soundbench.finding import find_sounds

    files = find_sounds(paths)
    classifier = load(run, device=device, trust_code=trust_code)
    failed = 0
    for path, judged in classifier.predict_files(files, batch=batch):
        failed += isinstance(judged, Exception)
        click.echo(_as_json(path, judged) if as_json else _as_line(path, judged, top))
    if failed:
        click.echo(f"{failed} of {len(files)} files could not be judged", err=True)
        raise SystemExit(1)


def _as_json(path: Path, judged: object) -> str:
    from soundbench.classifier import Prediction

    told = judged.to_dict() if isinstance(judged, Prediction) else {"error": _reason(judged)}
    return json.dumps({"path": str(path), **told}, ensure_ascii=False)


def _as_line(path: Path, judged: object, top: int | None) -> str:
    from soundbench.classifier import Prediction

    if not isinstance(judged, Prediction):
        return f"{path}\terror: {_reason(judged)}"
    shown = list(judged.scores)[:top] if top else judged.labels
    best = [(label, judged.scores[label]) for label in shown]
    return "\t".join([str(path), *(f"{label} {score:.4f}" for label, score in best)])


def _reason(error: object) -> str:
    return str(getattr(error, "reason", error))
