"""`soundbench list-plugins`: what a recipe can name."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from soundbench.recipe.registry import Registry
    from soundbench.testing import Report


@click.command()
@click.argument("kind", required=False)
@click.argument("name", required=False)
@click.option("--json", "as_json", is_flag=True, help="One JSON array.")
@click.option("--check", is_flag=True, help="Import each, and name the broken ones; exit 3 if any is.")
@click.option("--contract", is_flag=True, help="Also hold each to its kind's contract; exit 3 if a promise breaks.")
@click.option("--thorough", is_flag=True, help="With --contract: also prove what takes long, such as torch.export.")
def command(kind: str | None, name: str | None, as_json: bool, check: bool, contract: bool, thorough: bool) -> None:
    """List the components that a recipe can name, all or those of one KIND; with a NAME, its options and docs.

    Listing imports none of them. SOUNDBENCH_PLUGINS, if set, names the only distributions that are looked at.
    """
    from soundbench.recipe.catalogue import as_table, catalogue, details
    from soundbench.recipe.registry import Registry

    registry = Registry()
    if contract or thorough:
        raise SystemExit(_contracts(registry, kind, name, as_json, thorough))
    if kind is not None and name is not None:
        found = details(registry, kind, name)
        click.echo(json.dumps([found.to_dict()], ensure_ascii=False) if as_json else found.to_text())
        return
    entries = catalogue(registry, kind, check)
    told = [entry.to_dict() for entry in entries]
    click.echo(json.dumps(told, ensure_ascii=False) if as_json else as_table(entries))
    if any(entry.error for entry in entries):
        raise SystemExit(3)


def _contracts(registry: Registry, kind: str | None, name: str | None, as_json: bool, thorough: bool) -> int:
    """Print what was found of each promise; the exit code."""
    from soundbench.testing.installed import as_lines, chosen, examine_listing

    listings = chosen(registry, kind, name)
    reports: list[Report] = []

    def examined() -> Iterator[Report]:
        for listing in listings:
            reports.append(examine_listing(registry, listing, thorough))
            yield reports[-1]

    if as_json:
        click.echo(json.dumps([report.to_dict() for report in examined()], ensure_ascii=False))
    elif name is not None:
        click.echo("\n".join(report.to_text() for report in examined()))
    else:
        for line in as_lines(listings, examined()):
            click.echo(line)
    return 3 if any(report.broken for report in reports) else 0
