"""`soundbench embed`: embeddings of sound files from a trained model."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import click

from soundbench.cli import options, sounds


@click.command()
@options.model()
@click.argument("paths", nargs=-1, required=True)
@click.option(
    "--out",
    type=options.PATH,
    required=True,
    metavar="DIR",
    help="Folder for the embeddings. Called again, the command continues there.",
)
@click.option(
    "--per",
    type=click.Choice(["clip", "window"]),
    default="clip",
    help="Write one row per clip (the mean of its windows) or per window. Default: clip.",
)
@options.window
@options.hop
@options.batch
@options.device()
@options.trust_code
@options.accept_changes
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
    accept_changes: bool,
) -> int:
    """Write embeddings of the sound files PATHS, computed by the model of RUN.

    An embedding is the input of the network's last layer. RUN is a run directory, its model/ folder, an ONNX file of
    soundbench export, or a name of soundbench models. PATHS are files, folders and globs; - reads a list of paths from
    standard input. Writes embeddings.npy and index.csv to --out.
    """
    from soundbench import distributed
    from soundbench.data.sound_files import find_sounds
    from soundbench.inference.many_files import Wanted, embed_into, model_digest
    from soundbench.model.named.names import model_path

    try:
        path = model_path(run)
        classifier, files = sounds.opened(path, partial(find_sounds, paths), device, trust_code, accept_changes)
        wanted = Wanted(per, window, hop, batch=batch)
        errors = embed_into(out, classifier, files, wanted, model_digest(path), sounds.started)
        return sounds.finish(errors, len(files), out)
    finally:
        distributed.leave()
