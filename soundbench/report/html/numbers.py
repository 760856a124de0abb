"""How numbers are written, in all pages alike: shares in percent, metrics with their interval."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from soundbench.report.metrics import metric_of

__all__ = ["across", "commonness", "counted", "flat", "percent", "threshold", "value_of", "with_interval"]


def counted(number: int, of: str) -> str:
    """`1 clip`, `2 clips`."""
    return f"{number} {of}" if number == 1 else f"{number} {of}s"


def commonness(report: Mapping[str, Any]) -> str:
    """How common the class is that the baseline always predicts: the most common, or as common as others."""
    whose = report["baseline"].get("of", "the training clips")
    counts = report.get("prior") or [row["support"] for row in report["per_class"]]
    tied = list(counts).count(max(counts)) > 1
    return f"as common as any class of {whose}" if tied else f"the most common class of {whose}"


def percent(share: float | None) -> str:
    """`45.3%`; `-` for None."""
    return "-" if share is None else f"{100 * share:.1f}%"


def threshold(value: float | None) -> str:
    """`0.453`; `-` for None."""
    return "-" if value is None else f"{value:.3f}"


def value_of(name: str, value: float | None) -> str:
    """A value of a metric."""
    return percent(value) if value is None or metric_of(name).share else f"{value:.3f}"


def with_interval(name: str, figure: Mapping[str, float | None]) -> str:
    """`45.3% (38.1 to 52.0%)`."""
    value, low, high = (value_of(name, figure[bound]) for bound in ("value", "low", "high"))
    return value if figure["low"] is None else f"{value} ({low.removesuffix('%')} to {high})"


def across(name: str, figure: Mapping[str, Any]) -> str:
    """`45.3% ± 2.1`."""
    mean, spread = (value_of(name, figure[part]) for part in ("mean", "spread"))
    return mean if figure["spread"] is None else f"{mean} ± {spread.removesuffix('%')}"


def flat(table: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    """Nested tables, as pairs of dotted key and value."""
    for key, value in table.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{path}{key}.")
        else:
            yield f"{path}{key}", value
