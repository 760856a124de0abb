"""The registry: finds a component by kind and name, among entry points, in a local file, or given from Python.

Listings read metadata and import nothing; a component is imported and checked when it is requested. A plugin that
cannot be used affects only recipes that use it. There are five errors: unknown, not installed, broken, made for another
version of the plugin API, claimed twice.
"""

from __future__ import annotations

import importlib
import inspect
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cached_property
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

import attrs

from soundbench.contracts import API_VERSION, KINDS
from soundbench.errors import BrokenPlugin, ClaimedTwice, OtherApi, Problem, UnknownPlugin
from soundbench.files import read_bytes
from soundbench.limits import TEXT, TIMES, WIDTH
from soundbench.messages import join, nearest, show, with_article
from soundbench.recipe.entry_points import (
    Listing,
    allowed,
    import_failure,
    listings_of,
    made_for,
    normal,
    only_allowed,
    unfit,
)
from soundbench.recipe.source_code import defined_in, import_file, line_of
from soundbench.recipe.tables import OWN

__all__ = ["Component", "Listing", "Registry", "is_file"]

# The kinds whose integers are sizes of something that is made; others have seeds, counts of clips and steps.
_SIZED = ("augmentation", "featurizer", "backbone", "pooling", "loss")


@attrs.frozen(eq=False)
class Component:
    """A component, imported and checked.

    Attributes:
        kind: one of `KINDS`.
        name: the value of `use` that finds it.
        distribution: the distribution that provides it; empty for a local file or a class given from Python.
        version: the version of the distribution; empty in the same cases.
        obj: the class or function.
        options: an attrs class of its options.
        source: the local file that contains it; None for an installed plugin.
    """

    kind: str
    name: str
    distribution: str
    version: str
    obj: Callable[..., Any]
    options: type
    source: Path | None = None

    def structure(
        self, table: Mapping[str, Any], key: str, own: type | None = None
    ) -> tuple[dict[str, Any], list[Problem]]:
        """The options of a table, checked, with every default; None is left out.

        Args:
            table: the options, without `use`.
            key: the table's dotted path, for the problems.
            own: an attrs class of the framework's own keys in the table; their values are among the options then.
        """
        from soundbench.recipe.structuring import structure  # its libraries take long to import; a listing needs none

        options = self.options if own is None else _joined(own, self.options)
        defaults = {field.name: field.default for field in attrs.fields(options)}
        unset = {name for name, value in table.items() if value is None}
        given = {name: value for name, value in table.items() if value is not None}
        problems = [
            Problem(f"{key}.{name}", "cannot be None; leave it out for the default, " + show(defaults[name]))
            for name in sorted(unset & defaults.keys())
            if defaults[name] is not None and defaults[name] is not attrs.NOTHING
        ]
        written = {name: value for name, value in defaults.items() if value not in (None, attrs.NOTHING)}
        if self.kind in _SIZED:
            problems += [
                Problem(place, text)
                for name in given
                for place, text in _too_large(join(key, name), given[name], defaults.get(name))
            ]
        made, faults = structure(options, written | given, key)
        values: dict[str, Any] = attrs.asdict(made, recurse=False) if made is not None else {}
        return {name: value for name, value in values.items() if value is not None}, problems + faults


def _joined(own: type, options: type) -> type:
    """One class of the framework's keys and a component's options, so that a mistake is answered with all of them."""
    attrs.resolve_types(own)
    fields = {
        field.name: attrs.field(type=field.type, default=field.default, validator=field.validator)
        for field in (*attrs.fields(own), *attrs.fields(options))
    }
    return attrs.make_class("Options", fields, frozen=True, kw_only=True)


def _too_large(key: str, value: Any, default: Any) -> Iterator[tuple[str, str]]:
    """The integers of an option that no network has, as a width or as the number of its layers."""
    if isinstance(value, int) and not isinstance(value, bool):
        most = max(WIDTH, TIMES * default if isinstance(default, int) else 0)
        if abs(value) > most:
            yield key, f"must be at most {most:,}, is {show(value)}"
    elif isinstance(value, list | tuple | Mapping):
        for name, item in value.items() if isinstance(value, Mapping) else enumerate(value):
            yield from _too_large(join(key, name), item, None)


class Registry:
    """Finds components by kind and name.

    Args:
        entry_points: the entry points to use; None for all that are installed, or those of the distributions in the
            environment variable `SOUNDBENCH_PLUGINS`, separated by commas, if it is set.
    """

    def __init__(self, entry_points: Iterable[EntryPoint] | None = None) -> None:
        self._given_entry_points = None if entry_points is None else list(entry_points)
        self._loaded: dict[Listing, Component] = {}

    @cached_property
    def _listings(self) -> list[Listing]:
        found = self._given_entry_points
        if found is None:
            installed = entry_points()  # reads those of all distributions; once, not once a kind
            found = allowed(entry for kind in KINDS.values() for entry in installed.select(group=kind.group))
        listings, order = listings_of(found), list(KINDS)
        return sorted(listings, key=lambda item: (order.index(item.kind), item.name, item.distribution, item.value))

    def listings(self, kind: str | None = None) -> list[Listing]:
        """The installed components, in the order of `KINDS`, then by name."""
        return [item for item in self._listings if kind in (None, item.kind)]

    def names(self, kind: str) -> list[str]:
        """The names of the components of a kind."""
        return list(dict.fromkeys(item.name for item in self.listings(kind)))

    def get(self, kind: str, use: str | Callable[..., Any], base: Path | None = None) -> Component:
        """The component for a value of `use`.

        Args:
            kind: one of `KINDS`.
            use: `name`, `distribution/name`, `./file.py:Name`, or the class or function itself.
            base: the folder that a file's path is relative to; None for the working directory.

        Raises:
            UnknownPlugin: there is no such component; also if a file does not exist or does not define it.
            NotInstalled: a package that it needs is not installed.
            BrokenPlugin: its import fails, or its signature does not follow the contract.
            OtherApi: it is made for another version of the plugin API.
            ClaimedTwice: two distributions provide that name.
        """
        if not isinstance(use, str):
            return self._given(kind, use)
        if is_file(use):
            return _from_file(kind, use, base)
        return self.load(self._find(kind, use))

    def load(self, listing: Listing) -> Component:
        """Import the component of a listing, once."""
        if listing not in self._loaded:
            if reason := unfit(listing):
                raise OtherApi(reason)
            unique = len([item for item in self.listings(listing.kind) if item.name == listing.name]) <= 1
            name = listing.name if unique else listing.full_name
            self._loaded[listing] = _load(listing, name)
        return self._loaded[listing]

    def _find(self, kind: str, use: str) -> Listing:
        distribution, _, name = use.rpartition("/")
        found = [item for item in self.listings(kind) if item.name == name]
        if distribution:
            found = [item for item in found if normal(item.distribution) == normal(distribution)]
        if not found:
            raise UnknownPlugin(self._unknown(kind, use))
        if len(found) > 1:
            origins = " and ".join(f"{item.distribution} {item.version}".strip() for item in found)
            cure = " or ".join(f"use = {show(item.full_name)}" for item in found)
            raise ClaimedTwice(f'{with_article(kind)} "{name}" is provided by {origins}; choose one: {cure}')
        return found[0]

    def _unknown(self, kind: str, use: str) -> str:
        names = self.names(kind)
        known = [*names, *(item.full_name for item in self.listings(kind))] if "/" in use else names
        other = next((item.kind for item in self._listings if item.name == use), None)
        hint = nearest(use, known) or (f'; "{use}" is {with_article(other)};' if other else ";")
        return f'there is no {kind} "{use}"{hint} known: {", ".join(names) or "none"}{only_allowed()}'

    def _given(self, kind: str, obj: Any) -> Component:
        """A class or function given from Python; that of an installed plugin gets its name."""
        if not (inspect.isclass(obj) or inspect.isroutine(obj)):
            raise BrokenPlugin(f"{with_article(kind)} must be given as a class or a function, not as {obj!r:.60}")
        for listing in self.listings(kind):
            if _reached(sys.modules.get(listing.module), listing.attribute) is obj:
                return self.load(listing)
        try:
            source = Path(inspect.getsourcefile(obj) or "").resolve()
        except TypeError:
            source = Path()
        path = source if source.is_file() else None
        name = f"{path or '<python>'}:{obj.__qualname__}"
        return _check(f"{kind} {name}", kind, name, obj, "", "", path)


def is_file(use: str) -> bool:
    """Whether a `use` names a component in a local file, not an installed one."""
    return use.startswith((".", "/", "~")) or use.endswith(".py") or ".py:" in use


def _reserved(kind: str) -> list[str]:
    """The framework's own keys in the tables of a kind."""
    return [field.name for field in attrs.fields(OWN[kind])] if kind in OWN else []


def _reached(module: Any, attribute: str) -> Any:
    """A dotted attribute of a module; None if it does not exist."""
    for part in attribute.split("."):
        module = getattr(module, part, None)
    return module


def _load(listing: Listing, name: str) -> Component:
    """The component of a listing; one that cannot be used may have been made for what is no longer there."""
    try:
        obj = _import(listing)
        return _check(str(listing), listing.kind, name, obj, listing.distribution, listing.version, None)
    except BrokenPlugin as error:
        api = made_for(listing)
        if api in ("", API_VERSION):
            raise
        raise OtherApi(f"{error}; it is made for plugin API {api}, and this is {API_VERSION}") from error


def _import(listing: Listing) -> Any:
    if not listing.attribute:
        raise BrokenPlugin(f'{listing} cannot be used: its entry point "{listing.value}" names no attribute')
    try:
        module = importlib.import_module(listing.module)
    except (Exception, SystemExit) as error:
        raise import_failure(str(listing), error, listing.module, listing) from error
    obj = _reached(module, listing.attribute)
    if obj is None:
        hint = nearest(listing.attribute, [name for name in vars(module) if not name.startswith("_")])
        raise BrokenPlugin(f'{listing} cannot be used: the module has no "{listing.attribute}"{hint}')
    return obj


def _from_file(kind: str, use: str, base: Path | None) -> Component:
    """A component of a local file. Errors in it are the user's, so the message names the line."""
    file, colon, name = use.rpartition(":")
    path = Path(os.path.normpath((base or Path()) / os.path.expanduser(file if colon else use))).absolute()
    if not os.path.exists(path):
        beside = [item.name for item in path.parent.glob("*.py")] if os.path.isdir(path.parent) else []
        raise UnknownPlugin(f"{use}: there is no file {path}{nearest(path.name, beside)}")
    try:
        names = defined_in(read_bytes(path, TEXT).decode("utf-8", errors="replace"))
    except OSError as error:
        raise UnknownPlugin(f"{use}: cannot be read: {error.strerror}") from None
    if not colon or not name:
        raise UnknownPlugin(f"{use}: write {show(use + ':NAME')}; {path} defines {_list(names)}")
    what = f"{kind} {path}:{name}"
    try:
        module = import_file(path)
    except (Exception, SystemExit) as error:
        line, missing = line_of(error, path), getattr(error, "name", None)
        where = f"{what}{f', line {line},' if line else ''}"
        if isinstance(error, ModuleNotFoundError) and (path.parent / f"{missing}.py").exists():
            raise BrokenPlugin(f"{where} cannot import {missing}: a local component must be a single file") from error
        raise import_failure(where, error, path.stem) from error
    obj = _reached(module, name)
    if obj is None:
        raise UnknownPlugin(f'{use}: {path} defines no "{name}"{nearest(name, names) or ";"} it defines {_list(names)}')
    return _check(what, kind, f"{path}:{name}", obj, "", "", path)


def _list(names: list[str]) -> str:
    return ", ".join(names) or "nothing"


def _check(
    what: str, kind: str, name: str, obj: Any, distribution: str, version: str, source: Path | None
) -> Component:
    """The component, if its signature follows the contract of its kind."""
    from soundbench.recipe.signatures import options_of
    from soundbench.recipe.structuring import unfit_fields

    if not callable(obj):
        raise BrokenPlugin(f"{what} cannot be used: it is not a class or function")
    options, faults = options_of(obj, KINDS[kind].supplied)
    faults += [
        f'option "{field.name}" has a reserved name: in a recipe, this key is the framework\'s'
        for field in attrs.fields(options)
        if field.name in _reserved(kind)
    ]
    faults += unfit_fields(options)
    if faults:
        raise BrokenPlugin(f"{what} cannot be used: {'; '.join(faults)}")
    return Component(kind, name, distribution, version, obj, options, source)
