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
@click.argument("recipe")
@options.set_keys
@options.json_object
def check(recipe: str, sets: tuple[str, ...], as_json: bool) -> None:
    """Decode every sound of RECIPE; count missing, damaged, unusual and duplicate ones.

    Exits with 1 if a run would fail.
    """
    from soundbench.data.audit import audit
    from soundbench.model.assembly import make_dataset
    from soundbench.recipe import read

    resolved = read(recipe, sets=sets)
    found = audit(make_dataset(resolved), resolved.split, resolved.audio, resolved.train.seed, resolved.source)
    result_json(found.to_dict()) if as_json else result(found.to_text())
    if found.fatal:
        raise SystemExit(1)


@command.command(short_help="Write a manifest of a folder that has one folder per class.")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("-o", "--output", type=options.PATH, metavar="FILE", help="File to write. Default: standard output.")
def manifest(folder: Path, output: Path | None) -> None:
    """Write a manifest, a CSV file with path, label and group, of the sounds in FOLDER.

    FOLDER has one folder per class, named after the class.
    """
    from soundbench.data.sound_files import manifest_of
    from soundbench.files import write_text

    text = manifest_of(folder, output.parent if output else Path())
    if output is None:
        rows(text)
        return
    write_text(output, text)
    say(f"{text.count(chr(10)) - 1} sound files listed in {output}")
