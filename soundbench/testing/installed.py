"""Everything that is installed, held to its contract: a report a component, in the order of the catalogue."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from soundbench.errors import PluginError
from soundbench.recipe.catalogue import as_columns, check_kind
from soundbench.recipe.registry import Listing, Registry
from soundbench.testing.checking import examine_loaded
from soundbench.testing.findings import Finding, Report

__all__ = ["as_lines", "chosen", "examine_listing"]


def chosen(registry: Registry, kind: str | None = None, name: str | None = None) -> list[Listing]:
    """What is installed of a kind, or of all; the one of a name where it is given.

    Raises:
        CallError: there is no such kind.
        PluginError: nothing has that name, or what has it cannot be used.
    """
    check_kind(kind)
    if kind is None or name is None:
        return registry.listings(kind)
    found = registry.get(kind, name)
    return [
        item
        for item in registry.listings(kind)
        if (item.distribution, item.name) == (found.distribution, name.rpartition("/")[2])
    ]


def examine_listing(registry: Registry, listing: Listing, thorough: bool = False) -> Report:
    """The report of one installed component; that it can be used at all is its first promise.

    Args:
        registry: where it, and what it names, is found.
        listing: which.
        thorough: also prove what takes long.
    """
    try:
        return examine_loaded(registry.load(listing), registry, thorough=thorough)
    except PluginError as error:
        return Report(listing.kind, listing.name, (Finding("usable", "broken", str(error)),), 0.0)


def as_lines(listings: Sequence[Listing], reports: Iterable[Report]) -> Iterator[str]:
    """A table for people, each line as soon as there is its report; below it what is broken, and how long it took."""
    heads = [(item.kind, item.name, item.distribution, item.version) for item in listings]
    head, *rows = as_columns([("KIND", "NAME", "DISTRIBUTION", "VERSION", "."), *((*row, ".") for row in heads)])
    yield f"{head[:-1]}SECONDS  CONTRACT"
    done = []
    for row, report in zip(rows, reports, strict=True):
        done.append(report)
        yield f"{row[:-1]}{report.seconds:7.1f}  {_verdict(report)}"
    yield ""
    for report in done:
        yield from (f"{report.kind} {report.name}: {finding}" for finding in report.broken)
    if any(report.broken for report in done):
        yield ""
    count, seconds = sum(bool(report.broken) for report in done), sum(report.seconds for report in done)
    verdict = f"{count} break promises" if count else "all keep their contract"
    yield f"{len(done)} components in {seconds:.0f} s: {verdict}"


def _verdict(report: Report) -> str:
    """What a line says of a component; a promise that nothing was proved of is not passed over."""
    if report.broken:
        return "broken: " + ", ".join(finding.promise for finding in report.broken)
    moot = sum(finding.state == "not applicable" for finding in report.findings)
    return f"ok, {len(report.findings) - moot} promises" + (f" ({moot} not applicable)" if moot else "")
