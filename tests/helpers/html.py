"""A page in HTML as a browser reads it: its elements, their attributes and their text."""

from __future__ import annotations

from collections.abc import Iterator
from html.parser import HTMLParser
from typing import Any

import attrs

VOID = {"meta", "link", "img", "br", "hr", "input", "rect", "line", "polyline", "circle", "path"}


@attrs.define
class Element:
    tag: str
    attributes: dict[str, str]
    children: list[Any] = attrs.field(factory=list)

    def each(self, tag: str = "", **wanted: str) -> Iterator[Element]:
        """The elements inside, in order, with a tag and attributes."""
        for child in self.children:
            if isinstance(child, Element):
                fits = not tag or child.tag == tag
                if fits and all(child.attributes.get(name.rstrip("_")) == value for name, value in wanted.items()):
                    yield child
                yield from child.each(tag, **wanted)

    @property
    def text(self) -> str:
        """All text inside, on one line."""
        return " ".join("".join(one if isinstance(one, str) else one.text for one in self.children).split())

    def section(self, title: str) -> Element:
        """The section under a heading."""
        return next(one for one in self.each("section") if next(one.each("h2")).text == title)

    def rows(self) -> list[list[str]]:
        """The text of a table's cells, the names of its columns first."""
        return [[one.text for one in row.children if isinstance(one, Element)] for row in self.each("tr")]


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.stack = [Element("", {})]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len({name for name, _ in attrs}) == len(attrs), (tag, attrs)
        element = Element(tag, {name: value or "" for name, value in attrs})
        self.stack[-1].children.append(element)
        if tag not in VOID:
            self.stack.append(element)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.stack[-1].children.append(Element(tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self.stack.pop().tag == tag, tag

    def handle_data(self, data: str) -> None:
        self.stack[-1].children.append(data)


def parsed(text: str) -> Element:
    """The elements of a page, each closed where it must be."""
    reader = _Reader()
    reader.feed(text)
    reader.close()
    (root,) = reader.stack
    return root
