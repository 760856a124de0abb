"""What the metadata of installed distributions says of components, and what it means when one cannot be imported."""

from __future__ import annotations

import importlib.util
import re
import sys
from importlib.metadata import EntryPoint

import attrs

from soundbench.errors import BrokenPlugin, NotInstalled, PluginError
from soundbench.recipe.source_code import summary_of

__all__ = ["Listing", "import_failure", "listing_of", "normal"]


@attrs.frozen
class Listing:
    """What the metadata says of a component; nothing is imported.

    Attributes:
        kind: one of `KINDS`.
        name: the name that recipes use.
        distribution: the distribution that offers it.
        version: that distribution's version.
        value: where it is, `module:attribute`.
    """

    kind: str
    name: str
    distribution: str
    version: str
    value: str
    requires: tuple[str, ...] = attrs.field(default=(), eq=False, repr=False)

    @property
    def module(self) -> str:
        """The module that holds it."""
        return self.value.partition(":")[0].strip()

    @property
    def attribute(self) -> str:
        """Its name inside the module, dotted where it is nested."""
        return re.sub(r"\s*\[.*\]\s*$", "", self.value.partition(":")[2]).strip()

    @property
    def full_name(self) -> str:
        """`distribution/name`, which is never claimed twice."""
        return f"{self.distribution}/{self.name}"

    def summary(self) -> str:
        """The first line of its docstring, read from the source; empty if there is none."""
        return summary_of(self.module, self.attribute)

    def __str__(self) -> str:
        origin = f"{self.distribution} {self.version}".strip()
        return f'{self.kind} "{self.name}" ({origin}, module {self.module})'


def listing_of(entry: EntryPoint, kind: str) -> Listing:
    """The listing of an entry point."""
    distribution = entry.dist
    if distribution is None:
        return Listing(kind, entry.name, "", "", entry.value)
    requires = tuple(distribution.requires or ())
    return Listing(kind, entry.name, distribution.name, distribution.version or "", entry.value, requires)


def import_failure(what: str, error: BaseException, module: str, listing: Listing | None = None) -> PluginError:
    """What an exception in importing or making a component means to a user.

    Args:
        what: the component, as messages call it.
        error: what was raised.
        module: the component's own module.
        listing: what its distribution says, to name the extra that would bring a missing package.
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
    """How to install a missing package: by the smallest extra that brings it, where the metadata says so.

    A package of an extra is often in another for developers too, among much else.
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
    """A distribution's name, so that two spellings of it are equal."""
    return re.sub(r"[-_.]+", "-", distribution).lower()
