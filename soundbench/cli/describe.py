"""`soundbench describe`: what a recipe would build, without data."""

from __future__ import annotations

import json

import click


@click.command()
@click.argument("recipe")
@click.option("--set", "sets", multiple=True, metavar="KEY=VALUE", help="Change a key of the recipe.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def command(recipe: str, sets: tuple[str, ...], as_json: bool) -> None:
    """Show the resolved RECIPE and its network: layers, shapes, parameters, multiply-adds, reach."""
    from soundbench.model.describing import as_text, describe
    from soundbench.recipe import read

    resolved = read(recipe, sets=sets)
    found = describe(resolved)
    click.echo(json.dumps(found, ensure_ascii=False) if as_json else as_text(found, resolved.to_toml()))
