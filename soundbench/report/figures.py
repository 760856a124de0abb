"""A confusion matrix as a picture, with labels that are legible in any script.

matplotlib is imported where it is used, so that nothing else waits for it. Its global state (pyplot, a user's styles
and settings) is neither used nor changed.
"""

from __future__ import annotations

import io
import logging
import unicodedata
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["confusion_png", "draw_confusion", "drawing", "families", "shown"]

# Fonts that are tried before the other installed ones: first matplotlib's own, then those with many scripts.
_PREFERRED = (
    "DejaVu Sans",
    "Noto Sans",
    "Noto Sans CJK SC",
    "Noto Sans CJK JP",
    "Noto Sans SC",
    "Source Han Sans SC",
    "WenQuanYi Micro Hei",
    "WenQuanYi Zen Hei",
    "Droid Sans Fallback",
    "PingFang SC",
    "Hiragino Sans",
    "Microsoft YaHei",
    "SimHei",
    "Malgun Gothic",
    "Arial Unicode MS",
    "Noto Emoji",
    "Symbola",
    "Segoe UI Symbol",
)
# Last Resort draws a box for every character, colour fonts draw nothing, the others use codes in another way.
_USELESS = (
    "Last Resort",
    "Color Emoji",
    "NonUnicode",
    "STIXSize",
    "cmsy",
    "cmmi",
    "cmex",
    "cmtt",
    "cmr",
    "cmb",
    "cmss",
)
_COUNTS_UP_TO = 30
_LONGEST = 28
_DOTS_PER_INCH = 150


def confusion_png(matrix: Sequence[Sequence[int]] | np.ndarray, classes: Sequence[str]) -> tuple[bytes, bool]:
    """A confusion matrix as a picture.

    Args:
        matrix: `(K, K)` counts.
        classes: the K class names.

    Returns:
        The PNG, and what `draw_confusion` returns.

    Raises:
        ImportError: matplotlib cannot be used.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with drawing(""):
        figure = Figure(dpi=_DOTS_PER_INCH)
        canvas = FigureCanvasAgg(figure)
        numbered = draw_confusion(figure, matrix, classes)
        picture = io.BytesIO()
        canvas.print_figure(picture, format="png", bbox_inches="tight", dpi=_DOTS_PER_INCH)
    return picture.getvalue(), numbered


def draw_confusion(figure: Figure, matrix: Sequence[Sequence[int]] | np.ndarray, classes: Sequence[str]) -> bool:
    """Draw a confusion matrix; rows are true classes, colours are shares of the row, up to 30 classes show counts.

    Args:
        figure: an empty figure, whose size is set.
        matrix: `(K, K)` counts.
        classes: the K class names.

    Returns:
        Whether the axes show the numbers 1 to K because no installed font has the glyphs of every name.
    """
    names = [shown(name) for name in classes]
    inches = len(names) * _cell(len(names)) + 1.5
    with drawing("".join(names) + "truth predicted share of the row 0123456789.…") as legible:
        labels = names if legible else [str(number) for number in range(1, len(names) + 1)]
        figure.set_size_inches(inches + 1, inches)
        axes = figure.add_subplot()
        _draw(axes, np.asarray(matrix, dtype=np.int64), labels)
        figure.colorbar(axes.images[0], ax=axes, label="share of the row", fraction=0.04, pad=0.03)
    return not legible


@contextmanager
def drawing(text: str) -> Iterator[bool]:
    """Draw with matplotlib's default style and fonts for `text`; gives whether there are fonts for all of it."""
    import matplotlib.style

    with matplotlib.style.context("default"), _quiet():
        fonts = families(text)
        matplotlib.rcParams["font.family"] = fonts or ["DejaVu Sans"]
        yield fonts is not None


def families(text: str) -> list[str] | None:
    """Font families that together have every glyph of `text`, found by going through the families in order.

    None if no family has a glyph, or this matplotlib cannot shape its script.
    """
    missing = {ord(character) for character in text if not character.isspace()}
    if not _shapes() and any(_needs_shaping(chr(code)) for code in missing):
        return None
    chosen = []
    for family in _installed():
        found = missing & _glyphs(family)
        if found:
            chosen.append(family)
            missing -= found
        if not missing:
            return chosen
    return None


def _draw(axes: Axes, counts: np.ndarray, labels: Sequence[str]) -> None:
    """The matrix, its ticks and its counts; the row of a class without clips is grey."""
    rows = counts.sum(axis=1, keepdims=True)
    shares = np.ma.masked_where(np.broadcast_to(rows == 0, counts.shape), counts / np.maximum(rows, 1))
    axes.set_facecolor("0.9")
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, interpolation="nearest")
    places, size = range(len(labels)), _letters(len(labels))
    axes.set_xticks(places, labels, rotation=90, fontsize=size, parse_math=False)
    axes.set_yticks(places, labels, fontsize=size, parse_math=False)
    axes.set_xlabel("predicted")
    axes.set_ylabel("truth")
    if len(labels) <= _COUNTS_UP_TO:
        size = 9 if counts.max(initial=0) < 1000 else 7
        for row, column in np.argwhere(counts).tolist():
            colour = "white" if shares[row, column] > 0.5 else "black"
            text = str(counts[row, column])
            axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=size)


def _cell(classes: int) -> float:
    """The side of a cell in inches: enough for a count, for a label, or with many classes, as small as must be."""
    if classes <= _COUNTS_UP_TO:
        return 0.42
    return max(min(0.2, 20 / classes), 0.06)


def _letters(classes: int) -> float:
    """The size of the labels, in points, that fits a cell."""
    return min(9.0, _cell(classes) * 72 * 0.8)


def shown(name: str) -> str:
    """A label on one line, shortened if it is long, without variation selectors, which few fonts have."""
    kept = "".join(c for c in " ".join(name.split()) if not 0xFE00 <= ord(c) <= 0xFE0F)
    kept = kept.encode("utf-8", errors="backslashreplace").decode()
    return kept if len(kept) <= _LONGEST else kept[: _LONGEST - 1] + "…"


def _shapes() -> bool:
    """Whether this matplotlib joins letters and writes right to left (3.11 does)."""
    from matplotlib import ft2font

    return hasattr(ft2font, "__libraqm_version__")


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the font manager's log: users need not know which family has no normal weight."""
    log = logging.getLogger("matplotlib.font_manager")
    before = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(before)


def _needs_shaping(character: str) -> bool:
    """Whether a character is illegible unless its text is shaped."""
    return unicodedata.bidirectional(character) in ("R", "AL") or unicodedata.category(character) in ("Mn", "Mc")


def _installed() -> Iterator[str]:
    """The families to try, in order."""
    from matplotlib import font_manager

    _add_new_fonts()
    there = {font.name for font in font_manager.fontManager.ttflist}
    yield from (family for family in _PREFERRED if family in there)
    others = sorted(there.difference(_PREFERRED))
    yield from (family for family in others if not any(useless in family for useless in _USELESS))


@cache
def _glyphs(family: str) -> frozenset[int]:
    """The characters that a family can draw; none if its file cannot be used."""
    from matplotlib import font_manager
    from matplotlib.ft2font import FT2Font

    try:
        font = FT2Font(font_manager.findfont(family, fallback_to_default=False))
        font.set_size(10, 72)
        return frozenset(font.get_charmap())
    except (OSError, RuntimeError, ValueError):
        return frozenset()


@cache
def _add_new_fonts() -> None:
    """Add the fonts that were installed since matplotlib wrote its list of fonts."""
    from matplotlib import font_manager

    known = {font.fname for font in font_manager.fontManager.ttflist}
    for path in font_manager.findSystemFonts():
        if path not in known:
            with suppress(Exception):  # an unreadable font file is not used
                font_manager.fontManager.addfont(path)
