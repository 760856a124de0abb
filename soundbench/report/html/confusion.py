"""A confusion matrix: as a table with its counts, or with many classes as a map, and the pairs most often confused."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from soundbench.report.html.page import figure, one_line, paragraph, table

__all__ = ["confusion"]

_TABLE_UP_TO, _NAMED_UP_TO, _PAIRS = 30, 110, 30
_LEVELS = 8
_LONGEST = 24  # letters of a name beside the map


def confusion(counts: Sequence[Sequence[int]], classes: Sequence[str]) -> Markup:
    """A confusion matrix, legible with any number of classes.

    Args:
        counts: K x K; rows are true classes, columns predicted ones.
        classes: the K names.
    """
    matrix = np.asarray(counts, np.int64).reshape(len(classes), len(classes))
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    intro = paragraph("Rows are true classes, columns are predicted classes; a colour is a cell's share of its row.")
    if len(classes) <= _TABLE_UP_TO:
        return intro + _table(matrix, shares, classes) + _pairs(matrix, shares, classes)
    return intro + _map(matrix, shares, classes) + _pairs(matrix, shares, classes)


def _table(matrix: NDArray[np.int64], shares: NDArray[np.float64], classes: Sequence[str]) -> Markup:
    """The counts themselves."""
    named = Markup('<th scope="col"><span dir="auto">{}</span></th>')
    cell = Markup('<td class="{}" style="--share:{:.0f}%">{}</td>')
    rows = [
        Markup('<tr><th scope="row" dir="auto">{}</th>{}</tr>\n').format(
            one_line(name),
            Markup("").join(
                cell.format("right" if row == column else "wrong", 15 + 85 * shares[row, column], count)
                if count
                else Markup("<td></td>")
                for column, count in enumerate(matrix[row].tolist())
            ),
        )
        for row, name in enumerate(classes)
    ]
    return Markup(
        '<div class="scroll" role="region" tabindex="0" aria-label="Confusion matrix"><table class="confusion">'
        "<caption><span>Clips of each true class (row) by predicted class (column)</span></caption>"
        '<thead><tr><th scope="col">truth \\ predicted</th>{}</tr></thead><tbody>{}</tbody></table></div>\n'
    ).format(Markup("").join(named.format(one_line(name)) for name in classes), Markup("").join(rows))


def _map(matrix: NDArray[np.int64], shares: NDArray[np.float64], classes: Sequence[str]) -> Markup:
    """A square for each cell that is not empty; names beside it, or numbers where there is no room for names."""
    count = len(classes)
    named = count <= _NAMED_UP_TO
    cell = 12.0 if named else max(2.0, 900 / count)
    margin = 10.0 + max(_width(_short(name)) for name in classes) if named else 40.0
    levels = np.ceil(shares * _LEVELS).astype(int)
    drawn = []
    for kind, chosen in (("right", np.eye(count, dtype=bool)), ("wrong", ~np.eye(count, dtype=bool))):
        for level in range(1, _LEVELS + 1):
            places = np.argwhere((levels == level) & chosen & (matrix > 0)).tolist()
            path = "".join(f"M{column} {row}h1v1h-1z" for row, column in places)
            if path:
                least = 0.15 if named else 0.4  # small squares are pale enough
                opacity = least + (1 - least) * level / _LEVELS
                drawn.append(Markup('<path class="{}" fill-opacity="{:.2f}" d="{}"/>').format(kind, opacity, path))
    step = 1 if named else 10 if count <= 200 else 25
    ticks = []
    for number in range(0, count, step):
        text = classes[number] if named else str(number + 1)
        place = margin + (number + 0.5) * cell
        short = one_line(_short(text))
        ticks.append(
            Markup(
                '<text x="{:g}" y="{:g}" text-anchor="end">{}</text>'
                '<text transform="translate({:g} {:g}) rotate(-90)">{}</text>'
            ).format(margin - 4, place + 4, short, place + 4, margin - 4, short)
        )
    size = margin + count * cell + 4
    drawing = Markup(
        '<div class="scroll" role="region" tabindex="0" aria-label="Confusion matrix">'
        '<svg viewBox="0 0 {0:g} {0:g}" width="{0:g}" height="{0:g}" style="max-width:none" role="img" '
        'aria-label="Confusion matrix of {1} classes; the most confused pairs are in the table below">'
        '<g transform="translate({2:g} {2:g}) scale({3:g})" shape-rendering="crispEdges">'
        '<rect class="frame" width="{1}" height="{1}"/>{4}</g>{5}</svg></div>'
    ).format(size, count, margin, cell, Markup("").join(drawn), Markup("").join(ticks))
    names = "" if named else " The numbers are those of the table of classes."
    return figure(drawing, f"Blue is right, orange is wrong.{names}")


def _short(name: str) -> str:
    return name if len(name) <= _LONGEST else name[: _LONGEST - 1] + "…"


def _width(name: str) -> float:
    """About how wide a name is in letters of 11 pixels."""
    return sum(11.5 if unicodedata.east_asian_width(letter) in "WF" else 6.5 for letter in name)


def _pairs(matrix: NDArray[np.int64], shares: NDArray[np.float64], classes: Sequence[str]) -> Markup:
    """The pairs of a true and another predicted class with the most clips."""
    wrong = matrix * ~np.eye(len(classes), dtype=bool)
    order = np.argsort(-wrong, axis=None, kind="stable")[:_PAIRS]
    rows = [
        (classes[row], classes[column], int(wrong[row, column]), f"{100 * shares[row, column]:.1f}%")
        for row, column in zip(*np.unravel_index(order, wrong.shape), strict=True)
        if wrong[row, column]
    ]
    if not rows:
        return paragraph("No clip was given a wrong class.")
    caption = "The pairs most often confused" + (f" (the first {_PAIRS})" if len(rows) == _PAIRS else "")
    head = ["truth", "predicted", "clips", "share of the class"]
    return table(head, rows, caption=caption, sortable=True)
