"""`soundbench data`: look through the sounds of a recipe, and list those of a folder."""

from __future__ import annotations

import json
from pathlib import Path

import click


@click.group()
def command() -> None:
    """Look through the sounds of a recipe, and list those of a folder."""


@command.command(short_help="Count what is missing, damaged, odd or twice in a recipe's sounds.")
@click.argument("recipe")
@click.option("--set", "sets", multiple=True, metavar="KEY=VALUE", help="Change a key of the recipe.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def check(recipe: str, sets: tuple[str, ...], as_json: bool) -> None:
    """Decode every sound of RECIPE and count what is missing, damaged, odd or twice; exit 1 if a run would fail."""
    from soundbench.data.audit import audit
    from soundbench.model.assembly import make_dataset
    from soundbench.recipe import read

    resolved = read(recipe, sets=sets)
    found = audit(make_dataset(resolved), resolved.split, resolved.audio, resolved.train.seed, resolved.source)
    click.echo(json.dumps(found.to_dict(), ensure_ascii=False) if as_json else found.to_text())
    if found.fatal:
        raise SystemExit(1)


@command.command(short_help="Write a manifest of a folder of class folders.")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path), help="The file to write; standard output by default.")
def manifest(folder: Path, output: Path | None) -> None:
    """Write a manifest (CSV: path, label, group) of the sounds in FOLDER, which holds a folder for each class."""
    from soundbench.data.sound_files import manifest_of
    from soundbench.files import write_text

    text = manifest_of(folder, output.parent if output else Path())
    if output is None:
        click.echo(text, nl=False)
        return
    write_text(output, text)
    click.echo(f"{text.count(chr(10)) - 1} sounds listed in {output}", err=True)
