"""The observers of one run: they are notified of what happens, and an observer that fails does not end the run."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import attrs
import pluggy

from soundbench.contracts import Hooks, RunInfo
from soundbench.errors import BrokenPlugin, Problem, RecipeError
from soundbench.messages import nearest
from soundbench.model.assembly import make_component
from soundbench.recipe import Recipe
from soundbench.recipe.source_code import place_of

__all__ = ["Dropped", "Observers", "make_observers"]


@attrs.frozen
class Dropped:
    """Why an observer was dropped.

    Attributes:
        text: its name, the hook and the error.
        error: the error.
        module: the module of its author.
    """

    text: str
    error: Exception
    module: str

    def __str__(self) -> str:
        return self.text + place_of(self.error, self.module)


class Observers:
    """Notifies observers of what happens; one that raises is logged and dropped.

    Args:
        say: receives messages for the log.

    Attributes:
        dropped: the observers that were dropped, by name.
    """

    def __init__(self, say: Callable[[str], None]) -> None:
        self.say = say
        self.dropped: dict[str, Dropped] = {}
        self.manager = pluggy.PluginManager("soundbench")
        self.manager.add_hookspecs(Hooks)

    def add(self, name: str, observer: object) -> None:
        """Attach an observer.

        Raises:
            BrokenPlugin: it implements a hook that does not exist, or asks for an argument that a hook does not have.
        """
        try:
            self.manager.register(observer, name=name)
            self.manager.check_pending()
        except pluggy.PluginValidationError as error:
            raise BrokenPlugin(
                f"observer {name!r} ({type(observer).__module__}): {_mistake(observer, error)}"
            ) from error

    def notify(self, hook: str, **arguments: Any) -> None:
        """Call a hook of every observer with its arguments."""
        for name, observer in list(self.manager.list_name_plugin()):
            others = [other for other in self.manager.get_plugins() if other is not observer]
            try:
                self.manager.subset_hook_caller(hook, others)(**arguments)
            except Exception as error:  # an observer is third-party code: no error of its may end the run
                self.manager.unregister(name=name)
                text = " ".join(f"{type(error).__name__}: {error}".split())
                found = Dropped(f"observer {name!r} is dropped: {hook} raised {text}", error, type(observer).__module__)
                self.dropped[name] = found
                self.say(str(found))

    def recall(self) -> None:
        """Say again which observers were dropped, at the end of a run whose log is long."""
        for one in self.dropped.values():
            self.say(str(one))


def _mistake(observer: object, error: pluggy.PluginValidationError) -> str:
    """What is wrong with an observer that cannot be attached: a hook or an argument that does not exist."""
    hooks = {name: _arguments(hook) for name, hook in inspect.getmembers(Hooks, inspect.isfunction)}
    for name, method in inspect.getmembers(type(observer), inspect.isfunction):
        if not hasattr(method, "soundbench_impl"):
            continue
        if name not in hooks:
            return f'there is no hook "{name}"{nearest(name, hooks) or ";"} known: {", ".join(hooks)}'
        for argument in _arguments(method):
            if argument not in hooks[name]:
                known = ", ".join(hooks[name]) or "none"
                return f'hook {name} has no argument "{argument}"{nearest(argument, hooks[name]) or ";"} known: {known}'
    return " ".join(str(error).split())


def _arguments(method: Callable[..., Any]) -> list[str]:
    return list(inspect.signature(method).parameters)[1:]


def make_observers(recipe: Recipe, info: RunInfo, say: Callable[[str], None]) -> Observers:
    """Create the observers of a run and attach them.

    Raises:
        RecipeError: an option is out of range.
        BrokenPlugin: a hook that does not exist.
    """
    observers = Observers(say)
    problems: list[Problem] = []
    for number, spec in enumerate(recipe.observer):
        observer = make_component(problems, f"observer[{number}]", spec, info)
        if observer is not None:
            observers.add(f"{spec.use}[{number}]", observer)
    if problems:
        raise RecipeError(recipe.source, problems)
    return observers
