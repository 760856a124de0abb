"""Metadata of installed components, and the errors for those that cannot be imported."""

from __future__ import annotations

import importlib.util
import os
import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import suppress
from functools import cache
from importlib.metadata import Distribution, EntryPoint, PackageNotFoundError, version
from typing import TYPE_CHECKING

import attrs

from soundbench.contracts import API_VERSION, KINDS
from soundbench.errors import BrokenPlugin, NotInstalled, PluginError
from soundbench.recipe.source_code import summary_of

if TYPE_CHECKING:
    from packaging.specifiers import SpecifierSet

__all__ = [
    "MODELS",
    "ALLOW",
    "Listing",
    "allowed",
    "import_failure",
    "listings_of",
    "made_for",
    "normal",
    "only_allowed",
    "origins_of",
    "unfit",
]

MODELS = "soundbench.model"
"""The group of installed models, which are folders and no components."""

ALLOW = "SOUNDBENCH_PLUGINS"
"""The environment variable with the distributions whose components and models are used; all, where it is not set."""

Origin = tuple[str, str, tuple[str, ...]]


@attrs.frozen
class Listing:
    """The metadata of a component, which is not imported.

    Attributes:
        kind: one of `KINDS`.
        name: the name that recipes use.
        distribution: the distribution that provides it.
        version: the version of the distribution.
        value: its location, `module:attribute`.
    """

    kind: str
    name: str
    distribution: str
    version: str
    value: str
    requires: tuple[str, ...] = attrs.field(default=(), eq=False, repr=False)

    @property
    def module(self) -> str:
        """The module that contains it."""
        return self.value.partition(":")[0].strip()

    @property
    def attribute(self) -> str:
        """Its name in the module, dotted if nested."""
        return re.sub(r"\s*\[.*\]\s*$", "", self.value.partition(":")[2]).strip()

    @property
    def full_name(self) -> str:
        """`distribution/name`, which is unique."""
        return f"{self.distribution}/{self.name}"

    def summary(self) -> str:
        """The first line of its docstring, read from the source; empty if there is none."""
        return summary_of(self.module, self.attribute)

    def __str__(self) -> str:
        origin = f"{self.distribution} {self.version}".strip()
        return f'{self.kind} "{self.name}" ({origin}, module {self.module})'


def listings_of(entries: Iterable[EntryPoint]) -> set[Listing]:
    """The components among entry points."""
    kinds = {kind.group: kind.name for kind in KINDS.values()}
    ours = (entry for entry in entries if entry.group in kinds)
    return {
        Listing(kinds[entry.group], entry.name, name, version, entry.value, requires)
        for entry, (name, version, requires) in origins_of(ours)
    }


def allowed(entries: Iterable[EntryPoint]) -> list[EntryPoint]:
    """Those entry points of the distributions that the environment variable `SOUNDBENCH_PLUGINS` names; all without."""
    if ALLOW not in os.environ:
        return list(entries)
    names = {normal(name.strip()) for name in os.environ[ALLOW].split(",")}
    return [entry for entry, (name, *_) in origins_of(entries) if normal(name) in names]


def only_allowed() -> str:
    """For a message about what is not found: which distributions are allowed; empty if all are."""
    return f" ({ALLOW} allows {os.environ[ALLOW] or 'none'})" if ALLOW in os.environ else ""


def origins_of(entries: Iterable[EntryPoint]) -> Iterator[tuple[EntryPoint, Origin]]:
    """Entry points, each with the name, the version and the requirements of its distribution.

    The metadata of a distribution, its README included, is parsed at every access of one of its properties, which takes
    longer than all else; here once.
    """
    origins: dict[int, Origin] = {}
    for entry in entries:
        if id(entry.dist) not in origins:
            origins[id(entry.dist)] = _origin(entry.dist)
        yield entry, origins[id(entry.dist)]


def _origin(distribution: Distribution | None) -> Origin:
    """Name, version and requirements of a distribution."""
    metadata = None if distribution is None else distribution.metadata
    if metadata is None:
        return "", "", ()
    return metadata["Name"] or "", metadata["Version"] or "", tuple(metadata.get_all("Requires-Dist") or ())


def unfit(listing: Listing) -> str:
    """Why a component is not made for this version of soundbench, by what its distribution requires; else empty."""
    if f"soundbench>={API_VERSION}" in listing.requires:
        return ""  # the usual line; the library that reads any other takes as long to import as all the rest
    wanted = _wanted(listing.requires)
    if wanted is None or _meets(_own_version(), wanted):
        return ""
    cure = f"install another version of {listing.distribution}, or of soundbench"
    return f"{listing} is made for soundbench{wanted}, and this is {_own_version()}, plugin API {API_VERSION}: {cure}"


def _meets(own: str, wanted: SpecifierSet) -> bool:
    """Whether a version of soundbench is wanted; 0.2.0.dev1, before a release, has the API of that release."""
    from packaging.version import Version

    return wanted.contains(own, prereleases=True) or wanted.contains(Version(own).base_version)


def made_for(listing: Listing) -> str:
    """The version of the plugin API that a distribution is made for: the least that it requires; empty if none is."""
    from packaging.version import InvalidVersion, Version

    least = []
    for part in _wanted(listing.requires) or ():
        if part.operator in (">=", ">", "~=", "==", "==="):
            with suppress(InvalidVersion):  # === compares texts, which need not be versions
                found = Version(part.version.removesuffix(".*"))
                least.append((found.major, found.minor))
    return "{}.{}".format(*max(least)) if least else ""


@cache
def _wanted(requires: tuple[str, ...]) -> SpecifierSet | None:
    """The versions of soundbench that the requirements of a distribution allow; None if none is about soundbench.

    Several may be, such as one for each version of Python; all that count here must allow it.
    """
    found: SpecifierSet | None = None
    for line in requires:
        if re.match(r"soundbench(?![\w.-])", line, re.IGNORECASE):
            from packaging.requirements import InvalidRequirement, Requirement  # only where a stranger's is installed

            try:
                requirement = Requirement(line)
            except InvalidRequirement:
                continue
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                found = requirement.specifier if found is None else found & requirement.specifier
    return found


@cache
def _own_version() -> str:
    try:
        return version("soundbench")
    except PackageNotFoundError:  # it runs from a folder where nothing is installed
        return API_VERSION


def import_failure(what: str, error: BaseException, module: str, listing: Listing | None = None) -> PluginError:
    """The error for a component whose import or constructor raised an exception.

    Args:
        what: the component, for the message.
        error: the exception.
        module: the module of the component.
        listing: the metadata of the component, to name the extra that installs a missing package.
    """
    missing = (getattr(error, "name", None) or "") if isinstance(error, ModuleNotFoundError) else ""
    top = missing.partition(".")[0]
    if top and top not in (module.partition(".")[0], "soundbench") and not _installed(top):
        return NotInstalled(f"{what} needs {top}, which is not installed{_cure(top, listing)}")
    cause = " ".join((error.msg if isinstance(error, SyntaxError) else str(error)).split())
    return BrokenPlugin(f"{what} cannot be imported: {type(error).__name__}{f': {cause}' if cause else ''}")


def _installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):
        return module in sys.modules


def _cure(package: str, listing: Listing | None) -> str:
    """How to install a missing package: with the smallest extra that contains it, if the metadata lists one.

    A package is often in a large extra for developers as well.
    """
    if listing is None:
        return ""
    brought: dict[str, list[str]] = {}
    for requirement in listing.requires:
        name, _, marker = requirement.partition(";")
        extra = re.search(r"extra\s*==\s*['\"]([^'\"]+)", marker)
        brought.setdefault(extra[1] if extra else "", []).append(re.split(r"[\s\[<>=!~(]", name.strip())[0])
    bringing = {extra: names for extra, names in brought.items() if normal(package) in {normal(name) for name in names}}
    if "" in bringing:
        return f": pip install {package}"
    extras = sorted(bringing, key=lambda extra: len(bringing[extra]))
    return f': pip install "{listing.distribution}[{extras[0]}]"' if extras else ""


def normal(distribution: str) -> str:
    """A distribution's name in normal form, so that two spellings of it are equal."""
    return re.sub(r"[-_.]+", "-", distribution).lower()
