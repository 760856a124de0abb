"""What a run shows of itself: one line for `repr`, a small table for a notebook, legible in light and dark."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import TYPE_CHECKING, Any

from soundbench.errors import SoundbenchError
from soundbench.messages import printable
from soundbench.report.metrics import metric_of
from soundbench.report.resampling import LEVEL

if TYPE_CHECKING:
    from soundbench.report.results.run import Estimate, Run

__all__ = ["html", "line", "title"]


def line(run: Run) -> str:
    """The run in one line; it never raises."""
    return f"Run({str(run.path)!r}: {_state(run)})"


def html(run: Run) -> str:
    """The run as HTML without colours or scripts of its own: text and lines are those of the page that shows it."""
    head = f"<strong>{_shown(run.path.name)}</strong> <span style='opacity:.7'>{_shown(str(run.path.parent))}</span>"
    try:
        body = _metrics(run) if _finished(run) else f"<div>{_shown(_state(run))}</div>"
    except (SoundbenchError, OSError) as error:
        body = f"<div>{_shown(str(error))}</div>"
    return f"<div>{head}{body}</div>"


def title(name: str) -> str:
    """The name of a metric in tables; one that this version does not know is called by its key."""
    try:
        return metric_of(name).title
    except KeyError:
        return name


def _state(run: Run) -> str:
    """The first metric and what it is of, or how far the run is."""
    try:
        if _finished(run):
            name, estimate = next(iter(run.metrics.items()))
            return ", ".join([f"{title(name)} {_with_interval(name, estimate)}", *_counts(run.report)])
        if run.directory.has_folds:
            return f"not finished, {_count(len(run.folds), 'fold')} begun"
        epochs = len(run.history) if run.directory.history.exists() else 0
        return f"not finished, {_count(epochs, 'epoch')}"
    except (SoundbenchError, OSError, StopIteration) as error:
        return printable(str(error).removeprefix(f"{run.path}/")) or "its report has no metrics"


def _finished(run: Run) -> bool:
    return run.directory.report_json.exists()


def _metrics(run: Run) -> str:
    """A table of the metrics, each with its interval and the baseline's value."""
    report = run.report
    baseline = report.get("baseline")
    rows = [("th", ["metric", "value", f"{LEVEL:.0%} interval", "baseline"])]
    for name, estimate in run.metrics.items():
        bounds = "" if estimate.low is None else f"{_number(name, estimate.low)} to {_number(name, estimate.high)}"
        rows.append(("td", [title(name), _number(name, estimate.value), bounds, _by_chance(name, baseline)]))
    table = "".join(f"<tr>{''.join(f'<{tag}>{_shown(cell)}</{tag}>' for cell in row)}</tr>" for tag, row in rows)
    return f"<table>{table}</table><div style='opacity:.7'>{_shown(', '.join(_counts(report)))}</div>"


def _by_chance(name: str, baseline: Any) -> str:
    figure = baseline.get(name) if isinstance(baseline, Mapping) else None
    value = figure.get("value") if isinstance(figure, Mapping) else None
    return _number(name, value) if isinstance(value, int | float) else ""


def _counts(report: Mapping[str, Any]) -> list[str]:
    """How much the metrics are of, where the report says it."""
    folds, classes = report.get("folds"), report.get("classes")
    counts = [_count(report[f"{of}s"], of) for of in ("clip", "group") if isinstance(report.get(f"{of}s"), int)]
    counts += [f"{len(classes)} classes"] if isinstance(classes, list) else []
    return counts + ([f"{len(folds)} folds"] if isinstance(folds, list) and len(folds) > 1 else [])


def _count(count: int, of: str) -> str:
    return f"{count:,} {of}" if count == 1 else f"{count:,} {of}s"


def _with_interval(name: str, estimate: Estimate) -> str:
    """`83.3% (78.1 to 88.0%)`."""
    value, low, high = (_number(name, bound) for bound in (estimate.value, estimate.low, estimate.high))
    return value if estimate.low is None else f"{value} ({low.removesuffix('%')} to {high})"


def _number(name: str, value: float | None) -> str:
    """A value of a metric, in percent if it is a share."""
    if value is None:
        return "-"
    try:
        share = metric_of(name).share
    except KeyError:
        share = False
    return f"{value:.1%}" if share else f"{value:.3f}"


def _shown(text: str) -> str:
    """Text of any origin inside HTML: escaped, on one line, in a direction of its own."""
    return f"<bdi>{escape(printable(text))}</bdi>"
