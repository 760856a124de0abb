"""`soundbench doctor`: what this machine has of all that soundbench can use."""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING

import click

from soundbench.cli import options, output

if TYPE_CHECKING:
    from soundbench.doctor.finding import Check, Finding

_MARKS = {"ok": "ok", "absent": "-", "broken": "broken"}


@click.command()
@click.option(
    "--need",
    "needs",
    multiple=True,
    metavar="NAME",
    help="Look at NAME alone, such as gpu, mic or m4a, and exit with 1 if it is not there. May be repeated.",
)
@options.json_object
def command(needs: tuple[str, ...], as_json: bool) -> None:
    """Show what this machine has of all that soundbench can use, and how to get what is missing.

    Nothing is changed and no network is used. What is not there (-) is no error; only with --need, the exit code says
    so. The JSON object is meant for bug reports: names of users and home folders are replaced in it.
    """
    from soundbench.doctor.checks import chosen, examine

    checks = chosen(needs)
    with contextlib.redirect_stdout(sys.stderr):  # what plugins print when they are imported is no result
        found = list(examine(checks))
    output.result_json(_as_json(found)) if as_json else _print(found)
    if needs and any(finding.status != "ok" for _, finding in found):
        raise SystemExit(1)


def _as_json(found: list[tuple[Check, Finding]]) -> object:
    import attrs

    from soundbench.doctor.privacy import without_names

    rows = [
        {"part": check.part, "name": check.name, "status": finding.status}
        | without_names(attrs.asdict(finding, filter=attrs.filters.exclude("status")))
        for check, finding in found
    ]
    return {"format": 1, "checks": rows}


def _print(found: list[tuple[Check, Finding]]) -> None:
    from soundbench.messages import printable

    width = max(len(check.name) for check, _ in found)
    part = ""
    for check, finding in found:
        if check.part != part:
            part = check.part
            output.result(part)
        cure = f": {finding.cure}" if finding.cure else ""
        output.result(f"  {_MARKS[finding.status]:6}  {check.name:{width}}  {printable(finding.says + cure)}")
        for line in finding.details:
            output.result(f"  {'':6}  {'':{width}}  {printable(line)}")
