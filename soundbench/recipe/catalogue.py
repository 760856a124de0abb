"""Listings of the installed components, and the documentation of one component."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Sequence
from functools import cache
from importlib import import_module
from typing import Any

import attrs

from soundbench.contracts import KINDS
from soundbench.errors import CallError, OtherApi, PluginError
from soundbench.messages import nearest, printable, show, spell
from soundbench.recipe.entry_points import unfit
from soundbench.recipe.registry import Component, Listing, Registry
from soundbench.recipe.source_code import argument_docs

__all__ = ["Details", "Entry", "as_table", "built_in", "catalogue", "check_kind", "details", "list_components"]

# The distribution of the built-in components.
OWN = "soundbench"


@attrs.frozen
class Entry:
    """One line of the catalogue.

    Attributes:
        listing: the metadata.
        status: "ok", "broken" or "other API"; empty if the component was not imported.
        error: why it cannot be used; None if it can, or was not imported.
        note: further information for the user.
    """

    listing: Listing
    status: str = ""
    error: str | None = None
    note: str = ""

    def to_dict(self) -> dict[str, Any]:
        """As `--json` prints it."""
        item = self.listing
        entry = {"kind": item.kind, "name": item.name, "distribution": item.distribution, "version": item.version}
        entry["summary"] = item.summary()
        checked = {"ok": self.error is None, "status": self.status, "error": self.error}
        return entry | (checked if self.status else {})


@attrs.frozen
class Details:
    """The documentation of a component, from its docstring and signature.

    Attributes:
        component: the component, imported.
        listing: the metadata; None for a component of a local file.
    """

    component: Component
    listing: Listing | None

    @property
    def doc(self) -> str:
        """The whole docstring."""
        return inspect.cleandoc(self.component.obj.__doc__ or "")

    def options(self) -> list[dict[str, Any]]:
        """The name, type, default (absent if the option is required) and documentation of each option."""
        from soundbench.recipe.structuring import plain  # it takes long to import, and a listing needs it not

        docs = argument_docs(self.doc)
        options = []
        for field in attrs.fields(self.component.options):
            option: dict[str, Any] = {"name": field.name, "type": spell(field.type)}
            if field.default is not attrs.NOTHING:
                option["default"] = plain(field.default)
            options.append({**option, "doc": docs.get(field.name, "")})
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
        """As readable text."""
        found = self.to_dict()
        origin = f"{found['distribution']} {found['version']}".strip() or str(self.component.source)
        lines = [f"{found['kind']} {found['name']}", f"{origin}, {found['module']}:{found['object']}", ""]
        lines += [self.doc or "It has no docstring.", ""]
        rows = [(o["name"], o["type"], _default(o), o["doc"]) for o in found["options"]]
        lines += as_columns([("OPTION", "TYPE", "DEFAULT", "MEANING"), *rows]) if rows else ["It has no options."]
        return "\n".join(lines)


def check_kind(kind: str | None) -> None:
    """Raise an error if `kind` is not a kind of component.

    Raises:
        CallError: with the nearest kind and the list of kinds.
    """
    if kind is not None and kind not in KINDS:
        raise CallError(f'there is no kind "{kind}"{nearest(kind, KINDS) or ";"} known: {", ".join(KINDS)}')


def catalogue(registry: Registry, kind: str | None = None, check: bool = False) -> list[Entry]:
    """The installed components of one kind, or of all kinds.

    Args:
        registry: where components are found.
        kind: one of `KINDS`; None for all.
        check: import each component to find those that are broken.
    """
    check_kind(kind)
    return [_entry(registry, listing, check) for listing in registry.listings(kind)]


def details(registry: Registry, kind: str, name: str) -> Details:
    """The documentation of one component, which is imported.

    Raises:
        PluginError: it is unknown or cannot be used.
    """
    check_kind(kind)
    component = registry.get(kind, name)
    own = (component.distribution, name.rpartition("/")[2])
    listed = [item for item in registry.listings(kind) if (item.distribution, item.name) == own]
    return Details(component, listed[0] if component.distribution and listed else None)


def list_components(kind: str) -> list[str]:
    """The names of the installed components of a kind, as recipes and `soundbench.create` take them; imports none.

        soundbench.list_components("backbone")  # ['campplus', 'ecapa-tdnn', ...]

    A name that two distributions have stands there as `distribution/name`, once for each.

    Raises:
        CallError: there is no such kind; with the nearest one and all.
    """
    check_kind(kind)
    listings = Registry().listings(kind)
    names = [item.name for item in listings]
    return [item.name if names.count(item.name) == 1 else item.full_name for item in listings]


def built_in(kind: str, name: str) -> Any:
    """A built-in component by the name of its class or function, imported: `soundbench.backbones.CAMPPlus`.

    Raises:
        AttributeError: there is none; with the nearest name.
    """
    places = _built_ins(kind)
    if name not in places:
        face = "losses" if kind == "loss" else f"{kind}s"
        raise AttributeError(f"module 'soundbench.{face}' has no attribute {name!r}{nearest(name, places)}")
    return getattr(import_module(places[name]), name)


@cache
def _built_ins(kind: str) -> dict[str, str]:
    """The module of each built-in component of a kind, by the name of its class or function."""
    return {item.attribute: item.module for item in Registry().listings(kind) if item.distribution == OWN}


def as_table(entries: Sequence[Entry]) -> str:
    """The catalogue in columns, followed by errors and notes."""
    if not entries:
        return "nothing is installed"
    header = ("KIND", "NAME", "DISTRIBUTION", "VERSION", "SUMMARY")
    checked = any(entry.status for entry in entries)
    rows = [header[:4] + ("STATUS",) * checked + header[4:]]
    for entry in entries:
        item = entry.listing
        status = (entry.status,) * checked
        rows.append((item.kind, item.name, item.distribution, item.version, *status, item.summary()))
    notes = dict.fromkeys(text for entry in entries for text in (entry.error, entry.note) if text)
    return "\n".join([*as_columns(rows), *([""] if notes else []), *notes])


def as_columns(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows as lines with aligned columns."""
    rows = [[printable(cell) for cell in row] for row in rows]
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
    notes = [reason] if (reason := unfit(listing)) else []
    if len(same) > 1:
        uses = " or ".join(f"use = {show(item.full_name)}" for item in same)
        notes += [f'{listing.kind} "{listing.name}" is provided by {len(same)} distributions; choose one: {uses}']
    note = "\n".join(notes)
    if not check:
        return Entry(listing, note=note)
    try:
        registry.load(listing)
    except PluginError as error:
        return Entry(listing, "other API" if isinstance(error, OtherApi) else "broken", str(error), note)
    return Entry(listing, "ok", note=note)
