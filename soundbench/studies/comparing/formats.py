"""A comparison as text: a table for a terminal, Markdown, CSV, JSON, or a page in HTML."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from soundbench.messages import join, markdown, printable, show
from soundbench.report.metrics import metric_of
from soundbench.report.resampling import LEVEL
from soundbench.studies.comparing.comparison import Compared, Comparison, Figure
from soundbench.studies.comparing.pairs import SIGNIFICANT, Difference, Pair

__all__ = ["FORMATS"]

_DIGITS = 3

Rows = list[list[str]]


# The two tables -------------------------------------------------------------------------------------------------------


def _runs(found: Comparison) -> Rows:
    """A row for each run, below a head."""
    head = ["run", *(metric_of(name).title for name in found.metrics), "parameters", "multiply-adds", "seconds"]
    return [head, *(_run(run, found.metrics) for run in found.runs)]


def _run(run: Compared, metrics: Sequence[str]) -> list[str]:
    figures = (_figure(name, run.metrics.get(name)) for name in metrics)
    sizes = (_count(run.parameters), _count(run.macs), _count(None if run.seconds is None else round(run.seconds)))
    return [run.name, *figures, *sizes]


def _pairs(found: Comparison) -> Rows:
    """A row for each pair, below a head."""
    titles = [metric_of(one.metric).title for one in found.pairs[0].differences]
    tested = found.pairs[0].mcnemar is not None
    counts = ["first alone right", "second alone right", "McNemar p", "McNemar p after Holm"] * tested
    head = ["first", "second", *(f"{title}, second less first" for title in titles), "p", "p after Holm", *counts]
    return [[*head, "significant"], *(_pair(pair, found.runs) for pair in found.pairs)]


def _pair(pair: Pair, runs: Sequence[Compared]) -> list[str]:
    main, test = pair.differences[0], pair.mcnemar
    counts = [str(test.only_first), str(test.only_second), _p(test.p), _p(test.holm)] if test else []
    answer = {True: "yes", False: "no", None: "-"}[pair.significant]
    differences = (_difference(one) for one in pair.differences)
    names = (runs[pair.first].name, runs[pair.second].name)
    return [*names, *differences, _p(main.p), _p(main.holm), *counts, answer]


def _notes(found: Comparison) -> list[str]:
    """What the tables mean, and what to know before they are used."""
    clips, groups, pairs = found.clips, found.groups, len(found.pairs)
    main = metric_of(found.pairs[0].differences[0].metric).title
    notes = [
        f"{clips} test clip{'s' * (clips != 1)} from {groups} group{'s' * (groups != 1)}. Intervals are of "
        f"{LEVEL:.0%}; those of differences resample groups, both runs of a pair alike.",
        f"p is that of no difference in {main}, over groups. Significant: "
        f"below {SIGNIFICANT:.2f} after Holm's correction for {pairs} pair{'s' * (pairs != 1)}.",
    ]
    if found.pairs[0].mcnemar is not None:
        notes.append(
            "McNemar's test takes clips for independent; where clips share a group, it finds more differences than "
            "there are."
        )
    return [*notes, *(f"Note: {note}." for note in found.notes)]


def _figure(name: str, figure: Figure | None) -> str:
    """`45.3% (38.1 to 52.0%)`, or `0.612 (0.590 to 0.640)`."""
    if figure is None:
        return "-"
    value, low, high = (_number(name, one) for one in (figure.value, figure.low, figure.high))
    return value if figure.low is None else f"{value} ({low.removesuffix('%')} to {high})"


def _difference(one: Difference) -> str:
    """`+2.1% (-1.0 to +5.2%)`."""
    value, low, high = (_number(one.metric, bound, "+") for bound in (one.value, one.low, one.high))
    return value if one.low is None else f"{value} ({low.removesuffix('%')} to {high})"


def _number(name: str, value: float | None, sign: str = "") -> str:
    if value is None:
        return "-"
    return f"{100 * value:{sign}.1f}%" if metric_of(name).share else f"{value:{sign}.{_DIGITS}f}"


def _count(value: int | None) -> str:
    return "-" if value is None else f"{value:,}"


def _p(p: float | None) -> str:
    return "-" if p is None else f"{p:.{_DIGITS}f}" if p > 0.00101 else "0.001 or less"


# The formats ----------------------------------------------------------------------------------------------------------


def _as_table(found: Comparison) -> str:
    """Columns for a terminal."""
    parts = ["\n".join(_aligned(rows)) for rows in (_runs(found), _pairs(found))]
    return "\n\n".join([*parts, "\n".join(printable(note) for note in _notes(found))]) + "\n"


def _aligned(rows: Rows) -> list[str]:
    """Rows as lines; the first column is to the left, numbers to the right."""
    cells = [[printable(cell) for cell in row] for row in rows]
    widths = [max(len(row[column]) for row in cells) for column in range(len(cells[0]))]
    named = [cells[0][column] in ("run", "first", "second") for column in range(len(widths))]
    return [
        "  ".join(
            cell.ljust(width) if left else cell.rjust(width)
            for cell, width, left in zip(row, widths, named, strict=True)
        ).rstrip()
        for row in cells
    ]


def _as_markdown(found: Comparison) -> str:
    """Two Markdown tables and notes."""
    lines = []
    for rows in (_runs(found), _pairs(found)):
        cells = [[markdown(cell) for cell in row] for row in rows]
        lines += [f"| {' | '.join(row)} |" for row in (cells[0], ["---"] * len(cells[0]), *cells[1:])]
        lines.append("")
    return "\n".join([*lines, "\n\n".join(markdown(note) for note in _notes(found))]) + "\n"


_SIDES = ("value", "low", "high")
_TESTS = ("only_first", "only_second", "p", "holm")


def _as_csv(found: Comparison) -> str:
    """One table: a row for each run, then one for each pair, whose metrics are differences; empty for none."""
    main = found.pairs[0].differences[0].metric
    columns = [f"{name}_{side}".removesuffix("_value") for name in found.metrics for side in _SIDES]
    tests = ("p", "p_holm", "first_alone_right", "second_alone_right", "mcnemar_p", "mcnemar_p_holm", "significant")
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["row", "run", "second", *columns, "parameters", "macs", "seconds", *tests])
    for run in found.runs:
        values = [getattr(run.metrics.get(name), side, None) for name in found.metrics for side in _SIDES]
        table.writerow(["run", run.name, "", *values, run.parameters, run.macs, run.seconds, *[None] * len(tests)])
    for pair in found.pairs:
        by_name = {one.metric: one for one in pair.differences}
        values = [getattr(by_name.get(name), side, None) for name in found.metrics for side in _SIDES]
        over_clips = [getattr(pair.mcnemar, name, None) for name in _TESTS]
        over_groups = (by_name[main].p, by_name[main].holm)
        answer = None if pair.significant is None else str(pair.significant).lower()
        names = (found.runs[pair.first].name, found.runs[pair.second].name)
        table.writerow(["pair", *names, *values, None, None, None, *over_groups, *over_clips, answer])
    return text.getvalue()


def _as_json(found: Comparison) -> str:
    """The whole comparison."""
    return json.dumps(found.to_dict(), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _as_html(found: Comparison) -> str:
    """One page that asks nothing of the network."""
    from soundbench.report.html.page import Section, items, page, table  # Jinja takes a while to import

    runs, pairs = _runs(found), _pairs(found)
    sections = [
        Section("Runs", table(runs[0], runs[1:], caption="Metrics and size of each run", sortable=True)),
        Section("Differences", table(pairs[0], pairs[1:], caption="Every two runs", sortable=True)),
        Section("Notes", items(_notes(found))),
        Section("Protocol", table(["", "of all runs"], _flat(found.protocol), caption="What the runs have in common")),
    ]
    return page(f"{len(found.runs)} runs compared", sections, lead=_answer(found))


def _answer(found: Comparison) -> str:
    """What the comparison says, in a sentence."""
    sure = sum(pair.significant is True for pair in found.pairs)
    pairs = len(found.pairs)
    if all(pair.significant is None for pair in found.pairs):
        return "With a single group of clips, it cannot be said whether the runs differ by more than chance."
    return f"{sure} of {pairs} pair{'s' * (pairs != 1)} of runs differ{'s' * (sure == 1)} by more than chance."


def _flat(table: Mapping[str, Any], key: str = "") -> Iterator[tuple[str, str]]:
    """Nested tables as pairs of dotted key and value; a path is that of one machine, and left out."""
    for name, value in table.items():
        if isinstance(value, Mapping):
            yield from _flat(value, join(key, name))
        elif not (isinstance(value, str) and os.path.isabs(value)):
            yield join(key, name), show(value)


FORMATS: Mapping[str, Callable[[Comparison], str]] = {
    "table": _as_table,
    "md": _as_markdown,
    "csv": _as_csv,
    "json": _as_json,
    "html": _as_html,
}
"""The formats of a comparison, by their names."""
