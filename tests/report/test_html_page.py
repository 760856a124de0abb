"""The skeleton of a page in HTML, its blocks, and its colours."""

from __future__ import annotations

import base64
import hashlib
import re
from pathlib import Path

import pytest
from helpers.html import parsed

import soundbench.report.html
from soundbench.report.html import charts
from soundbench.report.html.page import Markup, Section, code, figure, items, page, paragraph, side_by_side, table

EVIL = "<script>alert(1)</script>\"'&amp;\u202e\n\x1b\ud800"
STYLE = (Path(soundbench.report.html.__file__).parent / "templates" / "style.css").read_text()


BODY = Markup("<p>x</p>")


def whole(body: Markup = BODY) -> str:
    return page("A page", [Section("First part", body), Section("Empty", Markup(""))], lead="It was run.", notes=["n"])


def test_a_page_has_landmarks_headings_and_a_link_to_each_section() -> None:
    root = parsed(whole())
    (html,) = root.each("html")
    assert html.attributes["lang"] == "en"
    for tag in ("header", "nav", "main", "h1", "title"):
        assert len(list(root.each(tag))) == 1
    assert [one.text for one in root.each("h2")] == ["First part"]  # one without a body is left out
    anchors = {one.attributes["id"] for one in root.each() if "id" in one.attributes}
    links = [one.attributes["href"] for one in root.each("a")]
    assert links == ["#main", "#first-part"]
    assert {link[1:] for link in links} <= anchors
    assert next(root.each("section")).attributes["aria-labelledby"] == "first-part"


def test_whatever_is_text_is_escaped_wherever_it_stands() -> None:
    lines = [charts.Line(EVIL, [(1.0, 2.0)])]
    body = (
        paragraph(EVIL)
        + items([EVIL])
        + code(EVIL)
        + table([EVIL], [[EVIL]], caption=EVIL, kind="")
        + figure(charts.curves(lines, title=EVIL, across="x"), EVIL)
        + side_by_side([paragraph(EVIL)])
    )
    text = page(EVIL, [Section("One", body)], lead=EVIL, notes=[EVIL])
    root = parsed(text)
    assert len(list(root.each("script"))) == 1
    shown = "<script>alert(1)</script>\"'&amp;\\u202e \\u001b\\ud800"
    for tag in ("h1", "title", "p", "li", "code", "th", "caption", "figcaption", "bdi"):
        assert any(one.text == shown for one in root.each(tag)), tag
    text.encode("utf-8")


def test_the_policy_of_a_page_allows_its_own_script_and_no_other() -> None:
    root = parsed(whole())
    (script,) = root.each("script")
    digest = base64.b64encode(hashlib.sha256(script.children[0].encode()).digest()).decode()
    policies = [one.attributes["content"] for one in root.each("meta") if "http-equiv" in one.attributes]
    (policy,) = policies
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == "'none'"
    assert rules["script-src"] == f"'sha256-{digest}'"
    assert rules["img-src"] == rules["media-src"] == "data:"


def test_a_table_names_its_columns_and_rows_for_a_screen_reader() -> None:
    root = parsed(whole(table(["class", "clips"], [["猫", 3], ["b", None]], caption="All of them", sortable=True)))
    (found,) = root.each("table")
    assert next(found.each("caption")).text == "All of them"
    assert [(one.text, one.attributes["scope"]) for one in found.each("th")] == [
        ("class", "col"),
        ("clips", "col"),
        ("猫", "row"),
        ("b", "row"),
    ]
    assert found.rows()[1:] == [["猫", "3"], ["b", "-"]]
    (region,) = root.each("div", role="region")
    assert (region.attributes["tabindex"], region.attributes["aria-label"]) == ("0", "All of them")


def test_a_chart_leaves_out_what_is_no_number_and_is_none_where_nothing_is_left() -> None:
    lines = [charts.Line("loss", [(1.0, float("nan")), (2.0, 0.5), (3.0, None), (4.0, 0.25)])]
    (line,) = parsed(str(charts.curves(lines, title="t", across="epoch"))).each("polyline")
    assert len(line.attributes["points"].split()) == 2
    assert charts.curves([charts.Line("loss", [(1.0, float("inf"))])], title="t", across="epoch") == ""


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (-3.0, 7.0), (2.2, 2.2), (0.0, 0.0), (1e-9, 3e-9), (5.0, 1e6)])
def test_the_steps_of_an_axis_enclose_all_values(low: float, high: float) -> None:
    steps = charts._steps(low, high)
    assert 2 <= len(steps) <= 8
    assert steps[0] <= low
    assert steps[-1] >= high


# Colours


def luminance(colour: str) -> float:
    """WCAG 2.2, relative luminance."""
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(first: str, second: str) -> float:
    """WCAG 2.2, contrast ratio."""
    high, low = sorted([luminance(first), luminance(second)], reverse=True)
    return (high + 0.05) / (low + 0.05)


def mixed(colour: str, paper: str, share: float) -> str:
    places = (1, 3, 5)
    parts = [share * int(colour[at : at + 2], 16) + (1 - share) * int(paper[at : at + 2], 16) for at in places]
    return "#" + "".join(f"{round(part):02x}" for part in parts)


PALETTES = [dict(re.findall(r"--(\w+): (#\w{6})", block)) for block in re.findall(r":root {[^}]+}", STYLE)]


@pytest.mark.parametrize("palette", PALETTES, ids=["light", "dark", "print"])
def test_text_has_a_contrast_that_anybody_can_read(palette: dict[str, str]) -> None:
    """WCAG 2.2, 1.4.3: at least 4.5; of what is no text (1.4.11), 3."""
    for name in ("ink", "soft", "first"):
        assert contrast(palette[name], palette["paper"]) >= 4.5
        assert contrast(palette[name], palette["shade"]) >= 4.5
    for name in ("first", "second", "third"):
        assert contrast(palette[name], palette["paper"]) >= 3
    for name in ("right", "wrong"):
        for share in range(0, 101, 5):
            assert contrast(palette["ink"], mixed(palette[name], palette["paper"], share / 100)) >= 4.5
