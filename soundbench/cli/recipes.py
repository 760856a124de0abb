"""`soundbench recipes`: the recipes that ship with soundbench; list and copy them."""

from __future__ import annotations

from pathlib import Path

import click

from soundbench.cli import options, output


@click.group(invoke_without_command=True)
@click.pass_context
@options.json_object
def command(ctx: click.Context, as_json: bool) -> None:
    """List the recipes that ship with soundbench.

    Each can be run by its name: soundbench run quickstart. A file of that name in the working folder stands before it.
    """
    from soundbench.recipe.reading import shipped_recipes

    if ctx.invoked_subcommand is not None:
        return
    found = {name: _summary(path) for name, path in shipped_recipes().items()}
    if as_json:
        output.result_json(found)
        return
    width = max(map(len, found), default=0)
    for name, summary in found.items():
        output.result(f"{name:{width}}  {summary}")


def _summary(path: Path) -> str:
    """The first line of the comment that a recipe begins with."""
    return path.read_text(encoding="utf-8").partition("\n")[0].removeprefix("#").strip()


@command.command(short_help="Copy a recipe, to change it.")
@click.argument("name")
@click.option("--out", type=options.PATH, metavar="FILE", help="File to write. Default: NAME.toml, in this folder.")
def copy(name: str, out: Path | None) -> None:
    """Copy the recipe NAME of soundbench, with its comments; a file that exists is kept.

    Recipes of soundbench that it extends are found from the copy, too.
    """
    from soundbench.errors import CallError
    from soundbench.files import write_bytes
    from soundbench.messages import nearest
    from soundbench.recipe.reading import shipped_recipes

    known = shipped_recipes()
    if name not in known:
        hint = nearest(name, known) or ";"
        raise CallError(f'there is no recipe "{name}" of soundbench{hint} known: {", ".join(known) or "none"}')
    path = out or Path(f"{name}.toml")
    if path.exists():
        raise CallError(f"{path} exists, and is kept; give another file: --out FILE")
    write_bytes(path, known[name].read_bytes())
    output.result(path)
