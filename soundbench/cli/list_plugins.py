"""`soundbench list-plugins`: what a recipe can name."""

from __future__ import annotations

import json

import click


@click.command()
@click.argument("kind", required=False)
@click.argument("name", required=False)
@click.option("--json", "as_json", is_flag=True, help="One JSON array.")
@click.option("--check", is_flag=True, help="Import each, and name the broken ones; exit 3 if any is.")
def command(kind: str | None, name: str | None, as_json: bool, check: bool) -> None:
    """List the components that a recipe can name, all or those of one KIND; with a NAME, its options and docs.

    Listing imports none of them. SOUNDBENCH_PLUGINS, if set, names the only distributions that are looked at.
    """
    from soundbench.catalogue import as_table, catalogue, details
    from soundbench.registry import Registry

    registry = Registry()
    if kind is not None and name is not None:
        found = details(registry, kind, name)
        click.echo(json.dumps([found.to_dict()], ensure_ascii=False) if as_json else found.to_text())
        return
    entries = catalogue(registry, kind, check)
    told = [entry.to_dict() for entry in entries]
    click.echo(json.dumps(told, ensure_ascii=False) if as_json else as_table(entries))
    if any(entry.error for entry in entries):
        raise SystemExit(3)
