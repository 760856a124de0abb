"""Resolve a draft: find components, fill in defaults, check keys and types, and collect all mistakes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import attrs

from soundbench import limits
from soundbench.contracts import KINDS
from soundbench.errors import BrokenPlugin, PluginError, Problem, RecipeError
from soundbench.messages import join, nearest, show
from soundbench.recipe.reading import Draft, merge_component, merge_tables
from soundbench.recipe.registry import Component, Registry, is_file
from soundbench.recipe.structuring import key_of, plain, structure
from soundbench.recipe.tables import CORE, DEFAULTS, MULTILABEL_DEFAULTS, OWN, RENAMED

__all__ = ["ComponentSpec", "Resolver"]


@attrs.frozen
class ComponentSpec:
    """A component with its options.

    Attributes:
        kind: its kind.
        use: its name in a recipe.
        options: every option that is not None, as the constructor takes it.
        component: the imported component.
        own: the framework's own keys in its table, of the class in `OWN`; None if its kind has none.
    """

    kind: str
    use: str
    options: dict[str, Any]
    component: Component = attrs.field(eq=False, repr=False)
    own: Any = None

    def table(self) -> dict[str, Any]:
        """The table of this component in a recipe."""
        return {"use": self.use, **({} if self.own is None else plain(self.own)), **plain(self.options)}


class Resolver:
    """Makes components and settings from the tables of one draft."""

    def __init__(self, draft: Draft, registry: Registry | None, trust_code: bool) -> None:
        self.draft = draft
        self.registry = registry if registry is not None else Registry()
        self.trust_code = trust_code
        self.cause: PluginError | None = None

    def resolve(self, known: Sequence[str], required: Sequence[str]) -> dict[str, Any]:
        """The values of all known tables.

        Raises:
            RecipeError: with all mistakes, in the order of the recipe.
        """
        tables = self.draft.tables
        for number, key in enumerate(key for key in tables if key not in known):
            near = nearest(key, known) if number < limits.MISTAKES else ""
            self._add(join("", key), f"unknown table{near or ';'} known: {', '.join(known)}")
        for key in required:
            if key not in tables:
                self._add(key, self._missing(key))
        backbone = self._table("backbone", {}) if "backbone" in tables else None
        made: dict[str, Any] = {}
        for key in known:
            if key == "backbone":
                made[key] = backbone
            elif key not in required or key in tables:
                made[key] = self._table(key, self._default(key, backbone, made.get("loss")))
        if self.draft.problems:
            place = {key: number for number, key in enumerate(tables)}
            problems = sorted(
                self.draft.problems, key=lambda problem: place.get(problem.key.split(".")[0].split("[")[0], -1)
            )
            found = [self.draft.located(_renamed(problem)) for problem in problems[: limits.MISTAKES]]
            if more := len(problems) - len(found):
                found.append(Problem("", f"and {more:,} more mistakes", all(one.plugin for one in problems)))
            raise RecipeError(self.draft.source, found) from self.cause
        return made

    def _add(self, key: str, message: str, plugin: bool = False) -> None:
        self.draft.problems.append(Problem(key, message, plugin))

    def _missing(self, key: str) -> str:
        if key not in KINDS:
            return "this table is missing"
        return f'this table is missing; write {key} = "NAME", known: {", ".join(self.registry.names(key)) or "none"}'

    def _default(self, key: str, backbone: ComponentSpec | None, loss: ComponentSpec | None) -> Any:
        """The default of a table: the core's, or the backbone's own for pooling and head; None without a backbone."""
        if key in MULTILABEL_DEFAULTS and loss is not None and _independent(loss):
            return MULTILABEL_DEFAULTS[key]
        if key not in ("pooling", "head"):
            return DEFAULTS.get(key, {})
        if backbone is None:
            return None
        default = getattr(backbone.component.obj, f"default_{key}", {})
        if isinstance(default, Mapping) and (key == "head" or not default or "use" in default):
            return default
        says = 'a table with "use"' if key == "pooling" else "a table"
        self._add(key, f"default_{key} of backbone {backbone.use} must be {says}, is {show(default)}", plugin=True)
        return None

    def _table(self, key: str, default: Any) -> Any:
        given = self.draft.tables.get(key)
        if key in CORE:
            return self._core(key, default, given)
        if not KINDS[key].many:
            if isinstance(given, ComponentSpec):
                return given
            if given is None and not default:
                if default is not None:  # else the missing backbone is reported already
                    self._add(key, self._missing(key))
                return None
            if isinstance(given, Mapping):
                given = merge_component(default or {}, given)
            return self._spec(key, key, default if given is None else given)
        listed = default if given is None else given
        if not isinstance(listed, list):
            self._add(key, f"must be a list, written [[{key}]], is {show(listed)}")
            return ()
        return tuple(self._spec(key, f"{key}[{number}]", table) for number, table in enumerate(listed))

    def _core(self, key: str, default: Mapping[str, Any], given: Any) -> Any:
        if attrs.has(type(given)):
            given = {key_of(field): getattr(given, field.name) for field in attrs.fields(type(given))}
        if given is None or isinstance(given, Mapping):
            given = merge_tables(default or {}, given or {})
            given = {name: value for name, value in given.items() if value is not None}
        made, problems = structure(CORE[key], given, key)
        self.draft.problems += problems
        return made

    def _spec(self, kind: str, key: str, table: Any) -> ComponentSpec | None:
        if isinstance(table, ComponentSpec):
            return table
        if not isinstance(table, Mapping):
            self._add(key, f'must be a table with "use", or a name, is {show(table)}')
            return None
        use = table.get("use")
        if use is None:
            self._add(f"{key}.use", f"is missing; known: {', '.join(self.registry.names(kind)) or 'none'}")
            return None
        component = self._component(kind, f"{key}.use", use)
        if component is None:
            return None
        own = OWN.get(kind)
        given = {name: item for name, item in table.items() if name != "use"}
        options, problems = component.structure(given, key, own)
        self.draft.problems += problems
        keep = isinstance(use, str) and not is_file(use)  # as written: it may name the distribution
        use = use if keep else component.name
        if own is None:
            return ComponentSpec(kind, use, options, component)
        names = {field.name for field in attrs.fields(own)}
        settings = own(**{name: value for name, value in options.items() if name in names})
        options = {name: value for name, value in options.items() if name not in names}
        return ComponentSpec(kind, use, options, component, settings)

    def _component(self, kind: str, key: str, use: Any) -> Component | None:
        if not isinstance(use, str) and not callable(use):
            self._add(key, f"must be a string, is {show(use)}")
            return None
        if isinstance(use, str) and is_file(use) and not self.trust_code:
            self._add(key, f'"{use}" is code from the run; add --trust-code (trust_code=True) to execute it')
            return None
        try:
            return self.registry.get(kind, use)
        except PluginError as error:
            self._add(key, str(error), plugin=error.exit_code == BrokenPlugin.exit_code)
            self.cause = self.cause or error
            return None


def _independent(loss: ComponentSpec) -> bool:
    """Whether a loss scores each class independently, as far as its class and its options say so."""
    return getattr(loss.component.obj, "multilabel", False) is True or loss.options.get("multilabel") is True


def _renamed(problem: Problem) -> Problem:
    """The problem of an unknown key, with its new name if it was renamed."""
    new = RENAMED.get(problem.key) if problem.message.startswith("unknown key") else None
    return attrs.evolve(problem, message=f"this key is now called {new}") if new else problem
