"""`soundbench models`: the models that installed packages bring."""

from __future__ import annotations

import click

from soundbench.cli import output

NONE = "no model is installed: packages bring them, by the entry point group soundbench.model"


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON array instead of text.")
def command(as_json: bool) -> None:
    """List the models that installed packages bring, which commands take by their names in place of a RUN.

    Figures, protocol and licences are those of each model's card, README.md in its folder.
    """
    import attrs

    from soundbench.inference.installed.listing import as_text, listed
    from soundbench.model.named.names import installed
    from soundbench.recipe.entry_points import only_allowed

    models = listed(installed())
    if as_json:
        output.result_json([attrs.asdict(model) for model in models])
    elif models:
        output.result(as_text(models))
    else:
        output.say(NONE + only_allowed())
