"""One HTML page that asks nothing of the network: its skeleton, and the blocks that its sections are made of.

A page is complete without JavaScript, which only sorts tables. Its policy (`Content-Security-Policy`) lets a browser
load nothing that is not in the file itself, and run no script but that one, whatever names are on the page. What is not
`Markup` is escaped, on one line, its control characters shown.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any

import attrs
import jinja2
from markupsafe import Markup

from soundbench.messages import printable

__all__ = [
    "Markup",
    "Section",
    "code",
    "data_address",
    "figure",
    "items",
    "one_line",
    "page",
    "paragraph",
    "side_by_side",
    "table",
]

_NUMBER = re.compile(r"[-+−]?[\d.,]+(e[-+]?\d+)?%?( (\(.*\)|± .*|to .*))?|-")


@attrs.frozen
class Section:
    """A section of a page.

    Attributes:
        title: its heading.
        body: what is in it, made by the functions of this module; several blocks are joined with `+`.
    """

    title: str
    body: Markup

    @property
    def anchor(self) -> str:
        """The name by which a link finds it."""
        return re.sub(r"[^a-z0-9]+", "-", self.title.lower()).strip("-") or "section"


def page(title: str, sections: Sequence[Section], *, lead: str = "", notes: Sequence[str] = ()) -> str:
    """A whole page.

    Args:
        title: of the page; names and other text are given as they are, and escaped here.
        sections: in their order, each with a title of its own; those with an empty body are left out.
        lead: a sentence under the title.
        notes: lines under the lead that a reader must not miss, such as that the page holds sound.

    Returns:
        HTML as text, to be written with `files.write_text`.
    """
    shown = [section for section in sections if section.body]
    return _template("page.html").render(title=title, sections=shown, lead=lead, notes=notes, script_digest=_digest())


def paragraph(text: str) -> Markup:
    """A paragraph of text, or of `Markup`."""
    return Markup("<p>{}</p>\n").format(one_line(text))


def items(texts: Iterable[str]) -> Markup:
    """A list of lines."""
    return Markup("<ul>{}</ul>\n").format(
        Markup("").join(Markup("<li>{}</li>").format(one_line(text)) for text in texts)
    )


def code(text: str) -> Markup:
    """A command, or another text in letters of one width."""
    return Markup('<pre tabindex="0"><code>{}</code></pre>\n').format(one_line(text))


def table(
    head: Sequence[str], rows: Iterable[Sequence[Any]], *, caption: str, sortable: bool = False, kind: str = ""
) -> Markup:
    """A table; the first cell of each row is its header.

    Args:
        head: the names of the columns.
        rows: text, numbers or `Markup`; None is shown as `-`.
        caption: what the table shows, in a few words.
        sortable: whether a click on a column's name sorts the rows, where there is JavaScript.
        kind: a class for `style.css`.
    """
    cells = [[_cell(value) for value in row] for row in rows]
    columns = range(len(head))
    numeric = [bool(cells) and all(_NUMBER.fullmatch(str(row[column])) for row in cells) for column in columns]
    text = _template("table.html").render(
        head=head, rows=cells, numeric=numeric, caption=caption, sortable=sortable, kind=kind
    )
    return Markup(text)


def figure(drawing: Markup, caption: str | Markup) -> Markup:
    """A drawing with its caption."""
    return Markup("<figure>{}<figcaption>{}</figcaption></figure>\n").format(drawing, one_line(caption))


def side_by_side(blocks: Iterable[Markup]) -> Markup:
    """Blocks beside each other where the page is wide enough."""
    return Markup('<div class="beside">{}</div>\n').format(Markup("").join(blocks))


def data_address(kind: str, data: bytes) -> str:
    """Bytes as an address (RFC 2397) inside the page, such as `data:image/png;base64,...`."""
    return f"data:{kind};base64,{base64.b64encode(data).decode('ascii')}"


def _cell(value: Any) -> Any:
    if value is None:
        return "-"
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value))
    return value if isinstance(value, Markup) else str(value)


def one_line(value: Any) -> Any:
    """Text on one line, its control characters and lone surrogates escaped; any other value as it is."""
    return printable(" ".join(value.split())) if isinstance(value, str) and not isinstance(value, Markup) else value


@cache
def _environment() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.PackageLoader("soundbench.report.html"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=one_line,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _template(name: str) -> jinja2.Template:
    return _environment().get_template(name)


@cache
def _digest() -> str:
    """The digest by which the policy of a page knows its only script."""
    script = _template("sort.js").render()
    return "sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
