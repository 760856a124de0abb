"""Check all installed components: one report each, in the order of the catalogue."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from soundbench.errors import PluginError
from soundbench.recipe.catalogue import as_columns, check_kind
from soundbench.recipe.registry import Listing, Registry
from soundbench.testing.checking import examine_loaded
from soundbench.testing.results import Report, Result

__all__ = ["as_lines", "chosen", "examine_listing"]


def chosen(registry: Registry, kind: str | None = None, name: str | None = None) -> list[Listing]:
    """The installed components of a kind, or of all kinds; only the one named `name`, if given.

    Raises:
        CallError: there is no such kind.
        PluginError: no component has that name, or it cannot be used.
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
    """The report of one installed component; its first promise is that it can be used.

    Args:
        registry: where it and the components that it names are found.
        listing: the component.
        thorough: also run the slow checks.
    """
    try:
        return examine_loaded(registry.load(listing), registry, thorough=thorough)
    except PluginError as error:
        return Report(listing.kind, listing.name, (Result("usable", "broken", str(error)),), 0.0)


def as_lines(listings: Sequence[Listing], reports: Iterable[Report]) -> Iterator[str]:
    """A table with one line for each report as it arrives; below it the broken promises and the time taken."""
    heads = [(item.kind, item.name, item.distribution, item.version) for item in listings]
    head, *rows = as_columns([("KIND", "NAME", "DISTRIBUTION", "VERSION", "."), *((*row, ".") for row in heads)])
    yield f"{head[:-1]}SECONDS  CONTRACT"
    done = []
    for row, report in zip(rows, reports, strict=True):
        done.append(report)
        yield f"{row[:-1]}{report.seconds:7.1f}  {_verdict(report)}"
    yield ""
    for report in done:
        yield from (f"{report.kind} {report.name}: {result}" for result in report.broken)
    if any(report.broken for report in done):
        yield ""
    count, seconds = sum(bool(report.broken) for report in done), sum(report.seconds for report in done)
    verdict = f"{count} break promises" if count else "all keep their contract"
    yield f"{len(done)} components in {seconds:.0f} s: {verdict}"


def _verdict(report: Report) -> str:
    """The last cell of a component's line; promises that do not apply are counted too."""
    if report.broken:
        return "broken: " + ", ".join(result.promise for result in report.broken)
    skipped = sum(result.state == "not applicable" for result in report.results)
    return f"ok, {len(report.results) - skipped} promises" + (f" ({skipped} not applicable)" if skipped else "")
