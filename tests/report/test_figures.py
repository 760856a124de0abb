from __future__ import annotations

import io
import logging
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from matplotlib import font_manager, image

from soundbench.report import figures
from soundbench.report.figures import confusion_png, families

# In no font at all: private use.
NOWHERE = "\uf8fe\U0010fffd"


@pytest.fixture(autouse=True)
def quiet(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """No warning, raised or logged."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield
    assert [record.message for record in caplog.records if record.levelno >= logging.WARNING] == []


def pixels(png: bytes) -> np.ndarray:
    return image.imread(io.BytesIO(png))[..., :3]


def matrix(classes: int) -> np.ndarray:
    counts = np.random.default_rng(0).poisson(0.5, (classes, classes))
    return counts + np.diag(np.full(classes, 20))


@pytest.mark.parametrize("classes", [1, 2, 10, 30, 31, 60, 200])
def test_a_matrix_of_any_size_is_a_picture_of_bounded_size(classes: int) -> None:
    png, numbered = confusion_png(matrix(classes), [f"class {number}" for number in range(classes)])
    height, width, _ = pixels(png).shape

    assert not numbered
    assert 200 < height < 4500
    assert 200 < width < 5000


def test_rows_are_the_truth() -> None:
    # All clips of class 0 are answered with 1: the dark cell is in the upper row, at the right.
    dark = pixels(confusion_png([[0, 9], [0, 0]], ["a", "b"])[0]) @ [1.0, 1.0, 1.0] < 0.9
    blue = dark & (pixels(confusion_png([[0, 9], [0, 0]], ["a", "b"])[0])[..., 2] > 0.3)
    rows, columns = np.nonzero(blue[:, : blue.shape[1] * 3 // 5])
    empty = pixels(confusion_png([[0, 0], [9, 0]], ["a", "b"])[0])
    other = (empty @ [1.0, 1.0, 1.0] < 0.9) & (empty[..., 2] > 0.3)
    other_rows, other_columns = np.nonzero(other[:, : other.shape[1] * 3 // 5])

    assert rows.mean() < other_rows.mean()
    assert columns.mean() > other_columns.mean()


def test_labels_that_matplotlib_would_read_as_formulas_or_lines_are_drawn() -> None:
    names = ["$x", "$x^$", "a\nb\tc", "_hidden", "a, b", 'say "it"', "x" * 500, "", "%s {} \\alpha"]

    assert confusion_png(matrix(len(names)), names)[1] is False


def test_labels_without_a_glyph_become_numbers() -> None:
    png, numbered = confusion_png(matrix(3), ["dog", NOWHERE, "b"])

    assert numbered
    assert len(pixels(png))


def test_text_that_is_no_unicode_is_drawn() -> None:
    assert confusion_png(matrix(2), [b"caf\xe9".decode("utf-8", "surrogateescape"), "b"])[1] is False


def test_a_font_is_taken_only_where_it_has_glyphs_that_are_missing() -> None:
    assert families("dog Собака Ελληνικά") == ["DejaVu Sans"]
    assert families(NOWHERE) is None


def test_what_one_font_lacks_another_brings(monkeypatch: pytest.MonkeyPatch) -> None:
    glyphs = {"A": frozenset(map(ord, "ab")), "B": frozenset(map(ord, "a")), "C": frozenset(map(ord, "bc猫"))}
    monkeypatch.setattr(figures, "_installed", lambda: iter("ABC"))
    monkeypatch.setattr(figures, "_glyphs", glyphs.__getitem__)

    assert families("a b") == ["A"]
    assert families("猫 a") == ["A", "C"]
    assert families("猫狗") is None


def test_fonts_that_are_combined_draw_without_warning() -> None:
    own = frozenset(font_manager.get_font(font_manager.findfont("DejaVu Sans")).get_charmap())
    other = frozenset(font_manager.get_font(font_manager.findfont("STIXGeneral")).get_charmap())
    only = next(chr(code) for code in sorted(other - own) if chr(code).isprintable() and code < 0xE000)
    chosen = families("dog" + only)

    assert chosen is not None
    assert chosen[0] == "DejaVu Sans"
    assert len(chosen) == 2
    assert confusion_png(matrix(2), ["dog", only])[1] is False


def test_a_script_that_must_be_shaped_is_left_to_numbers_where_it_cannot_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(figures, "_shapes", lambda: False)

    assert families("شرطة") is None
    assert families("dog") == ["DejaVu Sans"]
    assert confusion_png(matrix(2), ["شرطة", "b"])[1] is True


def test_emoji_with_a_variation_selector_need_no_glyph_for_it() -> None:
    assert figures.shown("❤\ufe0f love") == "❤ love"


def test_a_users_settings_are_neither_used_nor_changed() -> None:
    plain = confusion_png(matrix(3), ["a", "b", "c"])[0]
    with matplotlib.rc_context({"text.usetex": True, "figure.facecolor": "red", "font.family": ["serif"]}):
        before = dict(matplotlib.rcParams)
        assert confusion_png(matrix(3), ["a", "b", "c"])[0] == plain
        assert dict(matplotlib.rcParams) == before


def test_neither_pyplot_nor_a_display_is_needed(tmp_path: Path) -> None:
    script = (
        "import sys; from soundbench.report import figures\n"
        "assert 'matplotlib' not in sys.modules\n"
        "figures.confusion_png([[1]], ['a'])\n"
        "assert 'matplotlib.pyplot' not in sys.modules and 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", script], check=True, cwd=tmp_path)
