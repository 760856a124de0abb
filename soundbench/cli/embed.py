"""`soundbench embed`: what a trained network's last layer sees of sound files."""

from __future__ import annotations

from pathlib import Path

import click

from soundbench.cli import sounds


@click.command()
@click.argument("run")
@click.argument("paths", nargs=-1, required=True)
@click.option("--out", type=click.Path(path_type=Path), required=True, help="A folder; call again to go on.")
@click.option(
    "--per", type=click.Choice(["clip", "window"]), default="clip", show_default=True, help="What a row is of."
)
@sounds.sound_options
def command(
    run: str,
    paths: tuple[str, ...],
    out: Path,
    per: str,
    window: float | None,
    hop: float | None,
    batch: int | None,
    device: str,
    trust_code: bool,
) -> None:
    """Write embeddings of PATHS (files, folders, globs, - for a list) by RUN: embeddings.npy and index.csv in --out."""
    from soundbench import distributed
    from soundbench.inference.many_files import Wanted, embed_into, model_digest

    try:
        classifier, files = sounds.opened(run, paths, device, trust_code)
        wanted = Wanted(per, window, hop, batch=batch)
        errors = embed_into(out, classifier, files, wanted, model_digest(run), sounds.started)
        sounds.finish(errors, len(files), out)
    finally:
        distributed.leave()
