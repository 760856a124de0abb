"""`soundbench new-plugin`: the package of a component of one's own."""

from __future__ import annotations

import click

from soundbench.cli import output


@click.command()
@click.argument("kind")
@click.argument("name")
def command(kind: str, name: str) -> None:
    """Write the folder NAME: a plugin package with one component of a KIND, its test, and a recipe that trains with it.

    NAME is the name of the component in recipes. The package installs and passes its test as it is; change its module
    to what you need. KIND is one of those that list-plugins shows, such as backbone or augmentation.
    """
    from soundbench.recipe.new_plugin.package import first_run, write_package

    folder = write_package(kind, name)
    output.result(folder)
    output.say("next: " + " && ".join([f"cd {folder}", "pip install -e . pytest", "pytest", *first_run(kind, name)]))
