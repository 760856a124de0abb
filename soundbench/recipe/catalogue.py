"""What can be named in a recipe: tables of what is installed, and the whole of one component's documentation."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Sequence
from typing import Any

import attrs

from soundbench.contracts import KINDS
from soundbench.errors import CallError, PluginError
from soundbench.messages import nearest, show, spell
from soundbench.recipe.registry import Component, Listing, Registry
from soundbench.recipe.source_code import argument_docs
from soundbench.recipe.structuring import plain

__all__ = ["Details", "Entry", "as_table", "catalogue", "check_kind", "details"]


@attrs.frozen
class Entry:
    """A line of the catalogue.

    Attributes:
        listing: what the metadata says.
        checked: whether it was imported.
        error: why it cannot be used; None if it can, or was not imported.
        note: what else a user should know of it.
    """

    listing: Listing
    checked: bool = False
    error: str | None = None
    note: str = ""

    def to_dict(self) -> dict[str, Any]:
        """As `--json` prints it."""
        item = self.listing
        told = {"kind": item.kind, "name": item.name, "distribution": item.distribution, "version": item.version}
        told["summary"] = item.summary()
        return told | ({"ok": self.error is None, "error": self.error} if self.checked else {})


@attrs.frozen
class Details:
    """All that a component's own file says of it.

    Attributes:
        component: the component, imported.
        listing: what the metadata says; None for a component of a local file.
    """

    component: Component
    listing: Listing | None

    @property
    def doc(self) -> str:
        """The whole docstring."""
        return inspect.cleandoc(self.component.obj.__doc__ or "")

    def options(self) -> list[dict[str, Any]]:
        """Each option's name, type, default (absent where it must be given) and documentation."""
        docs = argument_docs(self.doc)
        options = []
        for field in attrs.fields(self.component.options):
            told: dict[str, Any] = {"name": field.name, "type": spell(field.type)}
            if field.default is not attrs.NOTHING:
                told["default"] = plain(field.default)
            options.append({**told, "doc": docs.get(field.name, "")})
        return options

    def to_dict(self) -> dict[str, Any]:
        """As `--json` prints it."""
        component, obj = self.component, self.component.obj
        return {
            "kind": component.kind,
            "name": self.listing.name if self.listing else component.name,
            "distribution": component.distribution,
            "version": component.version,
            "summary": self.doc.partition("\n")[0],
            "module": obj.__module__,
            "object": obj.__qualname__,
            "doc": self.doc,
            "options": self.options(),
        }

    def to_text(self) -> str:
        """As a page for people."""
        told = self.to_dict()
        origin = f"{told['distribution']} {told['version']}".strip() or str(self.component.source)
        lines = [f"{told['kind']} {told['name']}", f"{origin}, {told['module']}:{told['object']}", ""]
        lines += [self.doc or "It has no docstring.", ""]
        rows = [(o["name"], o["type"], _default(o), o["doc"]) for o in told["options"]]
        lines += as_columns([("OPTION", "TYPE", "DEFAULT", "MEANING"), *rows]) if rows else ["It has no options."]
        return "\n".join(lines)


def check_kind(kind: str | None) -> None:
    """Refuse what is no kind.

    Raises:
        CallError: naming the nearest kind, and all.
    """
    if kind is not None and kind not in KINDS:
        raise CallError(f'there is no kind "{kind}"{nearest(kind, KINDS) or ";"} known: {", ".join(KINDS)}')


def catalogue(registry: Registry, kind: str | None = None, check: bool = False) -> list[Entry]:
    """Everything installed of a kind, or of all.

    Args:
        registry: where to look.
        kind: one of `KINDS`; None for all.
        check: import each, to find out which are broken.
    """
    check_kind(kind)
    return [_entry(registry, listing, check) for listing in registry.listings(kind)]


def details(registry: Registry, kind: str, name: str) -> Details:
    """One component's documentation; it is imported.

    Raises:
        PluginError: it is unknown or cannot be used.
    """
    check_kind(kind)
    component = registry.get(kind, name)
    own = (component.distribution, name.rpartition("/")[2])
    listed = [item for item in registry.listings(kind) if (item.distribution, item.name) == own]
    return Details(component, listed[0] if component.distribution and listed else None)


def as_table(entries: Sequence[Entry]) -> str:
    """The catalogue in columns, and below them what is wrong."""
    if not entries:
        return "nothing is installed"
    header = ("KIND", "NAME", "DISTRIBUTION", "VERSION", "SUMMARY")
    checked = any(entry.checked for entry in entries)
    rows = [header[:4] + ("STATUS",) * checked + header[4:]]
    for entry in entries:
        item = entry.listing
        status = ("broken" if entry.error else "ok",) * checked
        rows.append((item.kind, item.name, item.distribution, item.version, *status, item.summary()))
    notes = dict.fromkeys(text for entry in entries for text in (entry.error, entry.note) if text)
    return "\n".join([*as_columns(rows), *([""] if notes else []), *notes])


def as_columns(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows as lines, the cells of each column beginning under each other."""
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    return ["  ".join(_pad(row, widths)).rstrip() for row in rows]


def _pad(row: Sequence[str], widths: Iterable[int]) -> list[str]:
    return [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]


def _default(option: dict[str, Any]) -> str:
    if "default" not in option:
        return "(required)"
    return "none" if option["default"] is None else show(option["default"])


def _entry(registry: Registry, listing: Listing, check: bool) -> Entry:
    same = [item for item in registry.listings(listing.kind) if item.name == listing.name]
    note = ""
    if len(same) > 1:
        uses = " or ".join(f"use = {show(item.full_name)}" for item in same)
        note = f'{listing.kind} "{listing.name}" is offered by {len(same)} distributions: say which, {uses}'
    error = None
    if check:
        try:
            registry.load(listing)
        except PluginError as broken:
            error = str(broken)
    return Entry(listing, check, error, note)
