"""Charts as SVG inside a page: their colours are those of `style.css`, their letters those of the reader's fonts."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import attrs
from markupsafe import Markup

from soundbench.report.html.page import one_line

__all__ = ["Line", "bar", "curves", "reliability"]

_WIDTH, _HEIGHT, _LEFT, _RIGHT, _TOP, _BOTTOM = 380, 240, 46, 12, 10, 34
_STYLES = ("", " second", " third")


@attrs.frozen
class Line:
    """A line of a chart.

    Attributes:
        name: in the legend; lines of the same name look the same and have one entry there.
        points: x and y; a point with a y that is None or not finite is left out.
    """

    name: str
    points: Sequence[tuple[float, float | None]]


@attrs.frozen
class _Frame:
    """The axes of a chart, and where a value is on them."""

    left: float
    right: float
    low: float
    high: float

    def x(self, value: float) -> float:
        span = (self.right - self.left) or 1.0
        return round(_LEFT + (value - self.left) / span * (_WIDTH - _LEFT - _RIGHT), 1)

    def y(self, value: float) -> float:
        span = (self.high - self.low) or 1.0
        return round(_HEIGHT - _BOTTOM - (value - self.low) / span * (_HEIGHT - _TOP - _BOTTOM), 1)


def curves(lines: Sequence[Line], *, title: str, across: str, share: bool = False, mark: float | None = None) -> Markup:
    """Lines over a common axis, with a legend.

    Args:
        lines: with up to three names.
        title: what the chart shows, for readers who do not see it.
        across: the name of the horizontal axis.
        share: whether the values are shares, shown in percent from 0 to 100.
        mark: where a vertical line stands, if anywhere.
    """
    kept = [
        attrs.evolve(line, points=[(x, y) for x, y in line.points if y is not None and math.isfinite(y)])
        for line in lines
    ]
    kept = [line for line in kept if line.points]
    if not kept:
        return Markup("")
    xs = [x for line in kept for x, _ in line.points]
    ys = [float(y) for line in kept for _, y in line.points if y is not None]
    steps = [0.0, 0.2, 0.4, 0.6, 0.8, 1.0] if share else _steps(min(ys), max(ys))
    frame = _Frame(min(xs), max(xs), min(steps[0], *ys), max(steps[-1], *ys))
    names = list(dict.fromkeys(line.name for line in kept))
    style = {name: _STYLES[number % len(_STYLES)] + (" dashed" if number else "") for number, name in enumerate(names)}
    drawn = [*_axes(frame, steps, _whole_steps(frame.left, frame.right), across, share)]
    if mark is not None:
        drawn.append(_line(frame.x(mark), _TOP, frame.x(mark), _HEIGHT - _BOTTOM, "axis dashed"))
    for line in kept:
        path = " ".join(f"{frame.x(x)},{frame.y(y)}" for x, y in line.points if y is not None)
        drawn.append(Markup('<polyline class="line{}" points="{}"/>').format(style[line.name], path))
        if len(line.points) == 1:
            drawn.append(_dot(frame, *line.points[0], style[line.name]))
    return _legend(style) + _svg(drawn, title)


def reliability(parts: Mapping[str, Sequence[Mapping[str, Any]]], *, title: str) -> Markup:
    """A reliability diagram: the share that is right over the mean score, for each bin.

    Args:
        parts: bins by the name of a line; each has the mean `score`, the `share` that is right, and `clips`.
        title: what the chart shows, for readers who do not see it.
    """
    frame, steps = _Frame(0.0, 1.0, 0.0, 1.0), [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    drawn = [*_axes(frame, steps, steps, "mean score", True)]
    drawn.append(_line(frame.x(0), frame.y(0), frame.x(1), frame.y(1), "axis dashed"))
    style = {name: _STYLES[number % len(_STYLES)] + (" dashed" if number else "") for number, name in enumerate(parts)}
    for name, bins in parts.items():
        points = [(one["score"], one["share"]) for one in bins if one.get("clips") and one["share"] is not None]
        path = " ".join(f"{frame.x(x)},{frame.y(y)}" for x, y in points)
        drawn.append(Markup('<polyline class="line{}" points="{}"/>').format(style[name], path))
        drawn += [_dot(frame, x, y, style[name]) for x, y in points]
    return _legend(style) + _svg(drawn, title)


def bar(value: float | None, low: float | None, high: float | None) -> Markup:
    """A small bar from 0 to 1 with its interval, to stand beside its number in a table."""
    if value is None:
        return Markup("")
    drawn = [Markup('<rect class="band" y="1" width="{:.1f}" height="10"/>').format(100 * value)]
    if low is not None and high is not None:
        drawn.append(_line(100 * low, 6, 100 * high, 6, "whisker"))
        drawn += [_line(100 * end, 3, 100 * end, 9, "whisker") for end in (low, high)]
    drawn.append(_line(0.5, 0, 0.5, 12, "axis"))
    return Markup('<svg class="bar" viewBox="0 0 101 12" width="101" height="12" aria-hidden="true">{}</svg>').format(
        Markup("").join(drawn)
    )


def _axes(frame: _Frame, rows: Sequence[float], columns: Sequence[float], across: str, share: bool) -> Iterable[Markup]:
    bottom = _HEIGHT - _BOTTOM
    for value in rows:
        yield _line(_LEFT, frame.y(value), _WIDTH - _RIGHT, frame.y(value), "grid")
        yield _text(_LEFT - 5, frame.y(value) + 4, f"{100 * value:.0f}%" if share else f"{value:g}", "end")
    for value in columns:
        yield _text(frame.x(value), bottom + 14, f"{value:g}", "middle")
    yield _line(_LEFT, bottom, _WIDTH - _RIGHT, bottom, "axis")
    yield _text((_LEFT + _WIDTH - _RIGHT) / 2, _HEIGHT - 4, across, "middle")


def _steps(low: float, high: float) -> list[float]:
    """Three to seven round numbers that enclose two values."""
    span = (high - low) or abs(high) or 1.0
    power = 10.0 ** math.floor(math.log10(span))
    step = next(power * factor for factor in (0.2, 0.5, 1, 2, 5) if span / (power * factor) <= 5)
    first, last = math.floor(low / step), math.ceil(high / step)
    return [round(number * step, 12) for number in range(first, max(last, first + 1) + 1)]


def _whole_steps(low: float, high: float) -> list[float]:
    """A few whole numbers between two values."""
    step = max(1, math.ceil((high - low) / 6))
    return [float(value) for value in range(math.ceil(low), math.floor(high) + 1, step)]


def _line(x1: float, y1: float, x2: float, y2: float, kind: str) -> Markup:
    return Markup('<line class="{}" x1="{:g}" y1="{:g}" x2="{:g}" y2="{:g}"/>').format(kind, x1, y1, x2, y2)


def _dot(frame: _Frame, x: float, y: float | None, style: str) -> Markup:
    return Markup('<circle class="dot{}" cx="{}" cy="{}" r="3"/>').format(style, frame.x(x), frame.y(y or 0.0))


def _text(x: float, y: float, text: str, anchor: str) -> Markup:
    return Markup('<text x="{:g}" y="{:g}" text-anchor="{}">{}</text>').format(x, y, anchor, text)


def _svg(drawn: Iterable[Markup], title: str) -> Markup:
    return Markup('<svg viewBox="0 0 {} {}" width="{}" role="img" aria-label="{}">{}</svg>').format(
        _WIDTH, _HEIGHT, _WIDTH, one_line(title), Markup("").join(drawn)
    )


def _legend(style: Mapping[str, str]) -> Markup:
    entry = Markup(
        '<li><svg width="26" height="8" aria-hidden="true"><line class="line{}" x1="0" y1="4" x2="26" y2="4"/></svg>'
        "<bdi>{}</bdi></li>"
    )
    return Markup('<ul class="legend">{}</ul>').format(
        Markup("").join(entry.format(kind, one_line(name)) for name, kind in style.items())
    )
