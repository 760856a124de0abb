"""Every error that soundbench raises at a user, and the exit code that each one means.

    SoundbenchError            1   failed while working
    ├── CallError              2   a mistake in the call
    │   └── RecipeError        2   the mistakes of a recipe, all at once (3 if every one is a plugin's)
    ├── DataError              1   sound or a table that cannot be used
    │   ├── MissingDataError   2   what the recipe or the call points at is not there
    │   └── SoundError         1   one sound: its path and what is wrong with it
    ├── DeviceError            1   a device that sound cannot be recorded from
    ├── RunError               1   a run directory, checkpoint or model that cannot be used
    │   ├── RunPlaceError      2   what the call names is no run directory, or no place for a new one
    │   └── LostProcess        1   another process of the same work is gone
    └── PluginError            3   a plugin that cannot be used
        ├── UnknownPlugin      2   no plugin of that kind and name
        ├── NotInstalled       3   it needs a package that is not there
        ├── BrokenPlugin       3   importing it fails, or it does not keep to its contract
        └── ClaimedTwice       3   two distributions offer the same name

Nothing else is raised at a user: the command line prints the message of these, and a traceback of anything else.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs

__all__ = [
    "BrokenPlugin",
    "CallError",
    "ClaimedTwice",
    "DataError",
    "DeviceError",
    "LostProcess",
    "MissingDataError",
    "NotInstalled",
    "PluginError",
    "Problem",
    "RecipeError",
    "RunError",
    "RunPlaceError",
    "SoundError",
    "SoundbenchError",
    "UnknownPlugin",
]


class SoundbenchError(Exception):
    """The root. `exit_code` is what the command line ends with."""

    exit_code = 1


class CallError(SoundbenchError):
    """A mistake in the call: an argument that does not exist, or that does not fit the others."""

    exit_code = 2


@attrs.frozen
class Problem:
    """One mistake of a recipe.

    Attributes:
        key: the dotted path, such as `train.epochs` or `augmentation[0].chance`; empty for the file as a whole.
        message: what was given, what is allowed, and the nearest known name where there is one.
        plugin: whether the cause is a plugin that cannot be used rather than the recipe.
    """

    key: str
    message: str
    plugin: bool = False

    def __str__(self) -> str:
        return f"{self.key}: {self.message}" if self.key else self.message


class RecipeError(CallError):
    """All mistakes of a recipe.

    Attributes:
        source: the recipe's file, or `<python>`.
        problems: the mistakes, in the order of the recipe.
    """

    def __init__(self, source: str, problems: Sequence[Problem]) -> None:
        self.source = source
        self.problems = tuple(problems)
        if all(problem.plugin for problem in self.problems):
            self.exit_code = PluginError.exit_code
        super().__init__("\n".join(f"{source}: {problem}" for problem in self.problems))

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.source, self.problems), vars(self)  # exceptions travel between processes


class DataError(SoundbenchError):
    """Sound, or a table about it, that cannot be used."""


class MissingDataError(DataError):
    """What the recipe or the call points at is not there."""

    exit_code = 2


class SoundError(DataError):
    """One sound that cannot be used.

    Attributes:
        path: which sound.
        reason: what is wrong with it.
    """

    def __init__(self, path: str, reason: str) -> None:
        self.path, self.reason = str(path), reason
        super().__init__(f"{path}: {reason}")

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.path, self.reason), vars(self)


class DeviceError(SoundbenchError):
    """A device that sound cannot be recorded from, or none at all."""


class RunError(SoundbenchError):
    """A run directory, checkpoint or model that cannot be used."""


class RunPlaceError(RunError):
    """What the call names is no run directory, or no place for a new one."""

    exit_code = 2


class LostProcess(RunError):
    """Another process of the same work is gone; what ended it is told by it, or by who has started both."""


class PluginError(SoundbenchError):
    """A plugin that cannot be used."""

    exit_code = 3


class UnknownPlugin(PluginError):
    """No plugin of that kind has that name."""

    exit_code = 2


class NotInstalled(PluginError):
    """The plugin needs a package that is not installed."""


class BrokenPlugin(PluginError):
    """Importing the plugin fails, or what it holds does not keep to its contract."""


class ClaimedTwice(PluginError):
    """Two distributions offer a plugin of the same kind and name."""
