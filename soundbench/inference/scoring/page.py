"""What an evaluation of events says: `report.md`, and a few lines for a console."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from soundbench.inference.scoring.figures import CRITERIA
from soundbench.messages import markdown as cell
from soundbench.report.html.numbers import counted, flat, percent
from soundbench.report.html.places import Places

__all__ = ["as_markdown", "as_text"]

SHARES = ("f1", "precision", "recall")


def as_text(report: Mapping[str, Any]) -> str:
    """The report in a few lines."""
    metrics = report["metrics"]
    lines = [
        (
            "events",
            f"{counted(report['annotations'], 'annotation')}, {counted(report['events'], 'event')} found, in "
            f"{counted(report['recordings'], 'recording')} of {_lasting(report['hours'])}",
        )
    ]
    for name in CRITERIA:
        parts = [
            f"F1 {_with_interval(metrics[f'{name}_f1'])}",
            f"precision {percent(metrics[f'{name}_precision']['value'])}",
            f"recall {percent(metrics[f'{name}_recall']['value'])}",
        ]
        if alarms := metrics.get(f"{name}_false_alarms_per_hour"):
            parts.append(f"{_number(alarms['value'])} false alarms an hour")
        lines.append((f"by {name}", ", ".join(parts)))
    baseline = report["baseline"]
    values = ", ".join(f"{percent(baseline[f'{name}_f1'])} by {name}" for name in CRITERIA)
    lines.append(("baseline", f"always {baseline['class']!r}: F1 {values}"))
    width = max(len(name) for name, _ in lines)
    return "\n".join(f"{name:<{width}}  {text}" for name, text in lines)


def as_markdown(report: Mapping[str, Any]) -> str:
    """The report as a page, which says of places what other pages say."""
    shown = Places.of(report).report(report)
    return "\n".join([*_figures(shown), *_classes(shown), *_protocol(shown)]) + "\n"


def _figures(report: Mapping[str, Any]) -> Iterator[str]:
    metrics, baseline, how = report["metrics"], report["baseline"], report["protocol"]
    yield from (f"# {cell(report['name'])}", "")
    yield (
        f"{counted(report['annotations'], 'annotation')} and {counted(report['events'], 'event')} found in "
        f"{counted(report['recordings'], 'recording')} of {_lasting(report['hours'])}, in "
        f"{counted(report['groups'], 'group')}."
    )
    yield from (f"\nNote: {cell(note)}." for note in how["notes"])
    always = cell(f"F1, always {baseline['class']}")
    yield from (
        "",
        f"| an event is right | F1 | precision | recall | false alarms an hour | {always} |",
        "|---" * 6 + "|",
    )
    meanings = (
        f"by onset: it begins within {how['collar']:g} s of the annotation",
        f"by overlap: it shares {how['overlap']:.0%} of the time that either has",
        "by time: each moment by itself",
    )
    for name, meaning in zip(CRITERIA, meanings, strict=True):
        values = [_with_interval(metrics[f"{name}_{figure}"]) for figure in SHARES]
        alarms = metrics.get(f"{name}_false_alarms_per_hour")
        values.append("" if alarms is None else _with_interval(alarms, share=False))
        yield f"| {meaning} | {' | '.join(values)} | {percent(baseline[f'{name}_f1'])} |"
    yield f"\nIntervals: {report['interval']['level']:.0%}, {report['interval']['method']}."
    if note := report["interval"].get("note"):
        yield f"\nNote: {note}."


def _classes(report: Mapping[str, Any]) -> Iterator[str]:
    yield from ("", "## Classes", "")
    heads = [f"{name}: {figure.replace('f1', 'F1')}" for name in CRITERIA for figure in _of(name)]
    yield f"| class | annotations | events | {' | '.join(heads)} |"
    yield "|---" * (3 + len(heads)) + "|"
    for row in report["per_class"]:
        values = [
            percent(row[f"{name}_{figure}"]) if figure in SHARES else _number(row[f"{name}_false_alarms_per_hour"])
            for name in CRITERIA
            for figure in _of(name)
        ]
        yield f"| {cell(row['class'])} | {row['annotations']} | {row['events']} | {' | '.join(values)} |"


def _of(name: str) -> tuple[str, ...]:
    return SHARES if name == "time" else (*SHARES, "false alarms an hour")


def _protocol(report: Mapping[str, Any]) -> Iterator[str]:
    yield from ("", "## Protocol", "", "| | |", "|---|---|")
    for key, value in (*flat(report["protocol"]), ("device", report["device"]), ("seconds", report["seconds"])):
        if key != "notes" and value is not None:
            yield f"| {cell(key)} | {cell(', '.join(map(str, value)) if isinstance(value, list) else str(value))} |"
    yield from ("", "```", report["command"], "```")


def _lasting(hours: float) -> str:
    return f"{hours:,.1f} hours" if hours >= 2 else f"{60 * hours:.3g} minutes"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _with_interval(figure: Mapping[str, float | None], share: bool = True) -> str:
    value, low, high = ((percent if share else _number)(figure[bound]) for bound in ("value", "low", "high"))
    return value if figure["low"] is None else f"{value} ({low.removesuffix('%')} to {high})"
