"""`soundbench import`: converts a model of another program to a model folder of soundbench."""

from __future__ import annotations

from pathlib import Path
from types import NoneType
from typing import Any, get_args

import attrs
import click

from soundbench.cli import output

# How the text of an option is parsed; any other type stays text, which the importer then refuses.
_TYPES: dict[Any, Any] = {
    bool: click.BOOL,
    int: click.INT,
    float: click.FLOAT,
    Path: click.Path(path_type=Path),
    str: click.STRING,
}


class _Importers(click.Group):
    """One command per importer, made from the importer's options when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        from soundbench.recipe.registry import Registry

        return Registry().names("importer")

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command:
        from soundbench.recipe.catalogue import details
        from soundbench.recipe.registry import Registry

        found = details(Registry(), "importer", cmd_name)
        docs = {option["name"]: option["doc"] for option in found.options()}
        parameters: list[click.Parameter] = [
            click.Argument(["path"], type=click.Path(path_type=Path)),
            click.Option(
                ["--out"],
                type=click.Path(path_type=Path),
                metavar="DIR",
                help="Model folder to write. Default: imported/ and the model's name.",
            ),
            *(_option(field, docs[field.name]) for field in attrs.fields(found.component.options)),
        ]
        return click.Command(cmd_name, callback=_importing(cmd_name), params=parameters, help=found.doc.split("\n")[0])

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        from soundbench.recipe.registry import Registry

        found = [(item.name, item.summary()) for item in Registry().listings("importer")]
        with formatter.section("Importers"):
            formatter.write_dl(found or [("none", "No importer is installed.")])


@click.command(cls=_Importers, subcommand_metavar="IMPORTER PATH [OPTIONS]")
def command() -> None:
    """Convert a model of another program to a model folder.

    Commands such as infer and evaluate take the folder as RUN, and a recipe can start from its weights with init.from.
    """


def _option(field: Any, doc: str) -> click.Option:
    kinds = [kind for kind in get_args(field.type) or (field.type,) if kind is not NoneType]
    known = next((_TYPES[kind] for kind in kinds if kind in _TYPES), click.STRING)
    default = None if field.default is attrs.NOTHING else field.default
    tail = "" if default is None else f" Default: {default}."
    required = field.default is attrs.NOTHING
    sentence = doc[:1].upper() + doc[1:]
    return click.Option(
        [f"--{field.name.replace('_', '-')}", field.name], type=known, required=required, help=sentence + tail
    )


def _importing(use: str) -> Any:
    def run(path: Path, out: Path | None, **options: Any) -> None:
        from soundbench.model.importing import import_model

        given = {name: value for name, value in options.items() if value is not None}
        done = import_model(use, path, out, given)
        for note in done.notes:
            output.say(note)
        output.result(f"{done.folder}: {done.classes} classes, {done.parameters:,} parameters")

    return run
