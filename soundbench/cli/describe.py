"""`soundbench describe`: a resolved recipe and its network, without data."""

from __future__ import annotations

import click

from soundbench.cli import options, output


@click.command()
@options.recipe()
@options.set_keys
@options.json_object
def command(recipe: str, sets: tuple[str, ...], as_json: bool) -> None:
    """Show RECIPE with all defaults filled in, and its network.

    Lists layers, shapes, parameters, multiply-adds and the receptive field. Reads no data.
    """
    from soundbench.recipe import read

    resolved = read(recipe, sets=sets)
    from soundbench.model.describing import as_text, describe  # after it: a mistake in the recipe is shown at once

    found = describe(resolved)
    output.result_json(found) if as_json else output.result(as_text(found, resolved.to_toml()))
