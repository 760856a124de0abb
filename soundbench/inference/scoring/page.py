"""What an evaluation of events says: `report.md`, and a few lines for a console."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from soundbench.inference.scoring.figures import CRITERIA
from soundbench.messages import markdown as cell
from soundbench.report.html.numbers import counted, percent

__all__ = ["as_markdown", "as_text"]


def as_text(report: Mapping[str, Any]) -> str:
    """The report in a few lines."""
    metrics = report["metrics"]
    lines = [
        (
            "events",
            f"{counted(report['annotations'], 'annotation')}, {counted(report['events'], 'event')} found, in "
            f"{counted(report['recordings'], 'recording')} of {report['hours']:.2g} h",
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
    """The report as a page."""
    return "\n".join(_lines(report)) + "\n"


def _lines(report: Mapping[str, Any]) -> Iterator[str]:
    metrics, baseline, protocol = report["metrics"], report["baseline"], report["protocol"]
    yield f"# {cell(report['name'])}"
    yield ""
    yield (
        f"{counted(report['annotations'], 'annotation')} and {counted(report['events'], 'event')} found in "
        f"{counted(report['recordings'], 'recording')} of {report['hours']:.3g} hours, "
        f"{counted(report['groups'], 'group')}."
    )
    for note in protocol["notes"]:
        yield f"Note: {cell(note)}."
    yield ""
    always = cell(f"F1, always {baseline['class']}")
    yield f"| an event is right | precision | recall | F1 | false alarms an hour | {always} |"
    yield "|---|---|---|---|---|---|"
    for name, meaning in _meanings(protocol).items():
        values = [_with_interval(metrics[f"{name}_{figure}"]) for figure in ("precision", "recall", "f1")]
        alarms = metrics.get(f"{name}_false_alarms_per_hour")
        values.append("" if alarms is None else _with_interval(alarms, share=False))
        yield f"| {meaning} | {' | '.join(values)} | {percent(baseline[f'{name}_f1'])} |"
    yield ""
    yield f"Intervals: {report['interval']['level']:.0%}, {report['interval']['method']}."
    if note := report["interval"].get("note"):
        yield f"Note: {note}."
    yield ""
    yield (
        "| class | annotations | events | "
        + " | ".join(
            f"{name} precision | recall | F1{'' if name == 'time' else ' | false alarms an hour'}" for name in CRITERIA
        )
        + " |"
    )
    yield "|---" * 14 + "|"
    for row in report["per_class"]:
        values = []
        for name in CRITERIA:
            values += [percent(row[f"{name}_{figure}"]) for figure in ("precision", "recall", "f1")]
            values += [] if name == "time" else [_number(row[f"{name}_false_alarms_per_hour"])]
        yield f"| {cell(row['class'])} | {row['annotations']} | {row['events']} | {' | '.join(values)} |"
    yield ""
    yield "| protocol | |"
    yield "|---|---|"
    for key, value in protocol.items():
        if key != "notes":
            yield f"| {cell(key)} | {cell(str(value))} |"
    yield ""
    yield f"`{report['command']}`"


def _meanings(protocol: Mapping[str, Any]) -> dict[str, str]:
    return {
        "onset": f"onset: begins within {protocol['collar']:g} s of the annotation",
        "overlap": f"overlap: shares at least {protocol['overlap']:.0%} of the time that either has",
        "time": "time: each second by itself",
    }


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"


def _with_interval(figure: Mapping[str, float | None], share: bool = True) -> str:
    value, low, high = ((percent if share else _number)(figure[bound]) for bound in ("value", "low", "high"))
    return value if figure["low"] is None else f"{value} ({low.removesuffix('%')} to {high})"
