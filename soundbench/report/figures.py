"""A confusion matrix as a picture, its labels legible in any script.

matplotlib is imported where it is used: what draws nothing does not wait for it. Its state of the process (pyplot, a
user's styles and settings) is neither used nor changed.
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

__all__ = ["confusion_png", "drawing", "families", "shown"]

# What is tried for glyphs before whatever else is installed: first what matplotlib brings, then wide ones.
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
# Last Resort draws a box for every character, colour fonts draw nothing, the others give codes other meanings.
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
    """Draw a confusion matrix; rows are the truth, colours their shares, counts are written up to 30 classes.

    Args:
        matrix: `(K, K)` counts.
        classes: the K class names.

    Returns:
        The PNG, and whether the axes hold the numbers 1 to K because no installed font has the glyphs of every name.

    Raises:
        ImportError: matplotlib cannot be used.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    names = [shown(name) for name in classes]
    counts = np.asarray(matrix, dtype=np.int64)
    inches = len(names) * _cell(len(names)) + 1.5
    with drawing("".join(names) + "truth predicted share of the row 0123456789.…") as legible:
        labels = names if legible else [str(number) for number in range(1, len(names) + 1)]
        figure = Figure(figsize=(inches + 1, inches), dpi=_DOTS_PER_INCH)
        canvas = FigureCanvasAgg(figure)
        axes = figure.add_subplot()
        _draw(axes, counts, labels)
        figure.colorbar(axes.images[0], ax=axes, label="share of the row", fraction=0.04, pad=0.03)
        picture = io.BytesIO()
        canvas.print_figure(picture, format="png", bbox_inches="tight", dpi=_DOTS_PER_INCH)
    return picture.getvalue(), not legible


@contextmanager
def drawing(text: str) -> Iterator[bool]:
    """While a picture is drawn: matplotlib's own style, and fonts for `text`; whether there are any for all of it."""
    import matplotlib.style

    with matplotlib.style.context("default"), _quiet():
        fonts = families(text)
        matplotlib.rcParams["font.family"] = fonts or ["DejaVu Sans"]
        yield fonts is not None


def families(text: str) -> list[str] | None:
    """Font families that have every glyph of `text` between them, the fewest that a look through them in order finds.

    None where a glyph is in none of them, or stands in a script that this matplotlib cannot shape.
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
    """The side of a cell in inches: room for a count, then for a label, then whatever a large sheet leaves."""
    if classes <= _COUNTS_UP_TO:
        return 0.42
    return max(min(0.2, 20 / classes), 0.06)


def _letters(classes: int) -> float:
    """The size of the labels, in points, that a cell has room for."""
    return min(9.0, _cell(classes) * 72 * 0.8)


def shown(name: str) -> str:
    """A label on one line, cut where it is long; variation selectors, which few fonts have, say nothing here."""
    kept = "".join(c for c in " ".join(name.split()) if not 0xFE00 <= ord(c) <= 0xFE0F)
    kept = kept.encode("utf-8", errors="backslashreplace").decode()
    return kept if len(kept) <= _LONGEST else kept[: _LONGEST - 1] + "…"


def _shapes() -> bool:
    """Whether this matplotlib joins letters and writes right to left (3.11 does)."""
    from matplotlib import ft2font

    return hasattr(ft2font, "__libraqm_version__")


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the font manager's log: that a family has no normal weight is no news to who reads a report."""
    log = logging.getLogger("matplotlib.font_manager")
    before = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(before)


def _needs_shaping(character: str) -> bool:
    """Whether a character is illegible when it is drawn by itself, after the one before it."""
    return unicodedata.bidirectional(character) in ("R", "AL") or unicodedata.category(character) in ("Mn", "Mc")


def _installed() -> Iterator[str]:
    """The families to look through, in order."""
    from matplotlib import font_manager

    _add_new_fonts()
    there = {font.name for font in font_manager.fontManager.ttflist}
    yield from (family for family in _PREFERRED if family in there)
    others = sorted(there.difference(_PREFERRED))
    yield from (family for family in others if not any(useless in family for useless in _USELESS))


@cache
def _glyphs(family: str) -> frozenset[int]:
    """The characters that a family can draw; none where its file cannot be used."""
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
    """Tell matplotlib of the fonts that were installed since it wrote its list of them."""
    from matplotlib import font_manager

    known = {font.fname for font in font_manager.fontManager.ttflist}
    for path in font_manager.findSystemFonts():
        if path not in known:
            with suppress(Exception):  # a font file that it cannot read is one it does not use
                font_manager.fontManager.addfont(path)
