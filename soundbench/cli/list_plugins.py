"""`soundbench list-plugins`: the components that a recipe can name."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from soundbench.cli import output

if TYPE_CHECKING:
    from soundbench.recipe.registry import Registry
    from soundbench.testing import Report


@click.command()
@click.argument("kind", required=False)
@click.argument("name", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON array instead of text.")
@click.option(
    "--check", is_flag=True, help="Import each component and show the broken ones; exit with 3 if there are any."
)
@click.option(
    "--contract", is_flag=True, help="Test each component against its kind's contract; exit with 3 if any test fails."
)
@click.option("--thorough", is_flag=True, help="Like --contract, with the slow tests too, such as torch.export.")
def command(kind: str | None, name: str | None, as_json: bool, check: bool, contract: bool, thorough: bool) -> None:
    """List the components that a recipe can name, all or those of one KIND.

    With a NAME, show the options and the documentation of that component. Listing imports none of them. If the
    environment variable SOUNDBENCH_PLUGINS is set, only the distributions that it names are used.
    """
    from soundbench.recipe.catalogue import as_table, catalogue, details
    from soundbench.recipe.registry import Registry

    registry = Registry()
    if contract or thorough:
        raise SystemExit(_contracts(registry, kind, name, as_json, thorough))
    if kind is not None and name is not None:
        found = details(registry, kind, name)
        output.result_json([found.to_dict()]) if as_json else output.result(found.to_text())
        return
    entries = catalogue(registry, kind, check)
    if as_json:
        output.result_json([entry.to_dict() for entry in entries])
    else:
        output.result(as_table(entries))
    if any(entry.error for entry in entries):
        raise SystemExit(3)


def _contracts(registry: Registry, kind: str | None, name: str | None, as_json: bool, thorough: bool) -> int:
    """Print the results of the contract tests; returns the exit code."""
    from soundbench.testing.installed import as_lines, chosen, examine_listing

    listings = chosen(registry, kind, name)
    reports: list[Report] = []

    def examined() -> Iterator[Report]:
        for listing in listings:
            reports.append(examine_listing(registry, listing, thorough))
            yield reports[-1]

    if as_json:
        output.result_json([report.to_dict() for report in examined()])
    elif name is not None:
        output.result("\n".join(report.to_text() for report in examined()))
    else:
        for line in as_lines(listings, examined()):
            output.result(line)
    return 3 if any(report.broken for report in reports) else 0
