"""`soundbench data`: check the sound files of a recipe, or list those of a folder."""

from __future__ import annotations

from pathlib import Path

import click

from soundbench.cli import options
from soundbench.cli.output import result, result_json, rows, say


@click.group()
def command() -> None:
    """Check the sound files of a recipe, or list those of a folder."""


@command.command(short_help="Check the sound files of a recipe before a run.")
@options.recipe()
@options.set_keys
@options.json_object
def check(recipe: str, sets: tuple[str, ...], as_json: bool) -> None:
    """Decode every sound of RECIPE; count missing, damaged, unusual and duplicate ones.

    Ends as a run of RECIPE would: with its error and exit code if it would refuse the recipe or the data.
    """
    from soundbench.data.audit import audit
    from soundbench.data.store import refuse_unreadable
    from soundbench.errors import SoundbenchError
    from soundbench.model.weights import initialize
    from soundbench.recipe import read
    from soundbench.training.stages import prepare

    prepared = prepare(read(recipe, sets=sets), say=say)
    initialize(prepared.recipe, prepared.made.network, prepared.table.classes, lambda _: None)
    for line in prepared.said:
        say(line)
    found = audit(prepared.table, prepared.cut, prepared.made.dataset, prepared.recipe.audio)
    refused: SoundbenchError | None = None
    try:
        refuse_unreadable(found.errors, found.sounds, prepared.recipe.audio.on_error)
        prepared.plan(found.readable)
    except SoundbenchError as error:
        refused = error
    if as_json:
        verdict = {"fatal": refused is not None, "reason": str(refused or "")}
        result_json(found.to_dict() | verdict)
    else:
        result(found.to_text())
    if refused:
        raise refused


@command.command(short_help="Write a manifest of a folder that has one folder per class.")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--out", type=options.PATH, metavar="FILE", help="File to write. Default: standard output.")
def manifest(folder: Path, out: Path | None) -> None:
    """Write a manifest, a CSV file with path, label and group, of the sounds in FOLDER.

    FOLDER has one folder per class, named after the class.
    """
    from soundbench.data.sound_files import manifest_of
    from soundbench.files import write_text

    text = manifest_of(folder, out.parent if out else Path())
    if out is None:
        rows(text)
        return
    write_text(out, text)
    say(f"{text.count(chr(10)) - 1} sound files listed in {out}")
