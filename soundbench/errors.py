"""The exceptions of soundbench and the exit code of each.

    SoundbenchError            1   a failure
    ├── CallError              2   an invalid argument
    │   └── RecipeError        2   all mistakes in a recipe (3 if every one is the fault of a plugin)
    ├── DataError              1   sound or a table that cannot be used
    │   ├── MissingDataError   2   a file or folder named by the recipe or the call does not exist
    │   └── SoundError         1   one sound file that cannot be used: its path and the reason
    ├── DeviceError            1   an audio device that cannot be used
    ├── RunError               1   a run directory, checkpoint or model that cannot be used
    │   ├── RunPlaceError      2   not a run directory, or not an empty folder for a new one
    │   └── LostProcess        1   another process of a distributed run has ended
    └── PluginError            3   a plugin that cannot be used
        ├── UnknownPlugin      2   no plugin of that kind and name
        ├── NotInstalled       3   a package that it needs is not installed
        ├── BrokenPlugin       3   its import fails, or it does not follow its contract
        ├── OtherApi           3   it is made for another version of the plugin API
        └── ClaimedTwice       3   two distributions provide the same name

    UserWarning
    └── SoundWarning               a sound file that can be used, and is odd
        └── CancellationWarning    its channels cancel each other when they are mixed to one

The command line prints the message of these exceptions, and a traceback for any other exception.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import attrs

__all__ = [
    "BrokenPlugin",
    "CallError",
    "CancellationWarning",
    "ClaimedTwice",
    "DataError",
    "DeviceError",
    "LostProcess",
    "MissingDataError",
    "NotInstalled",
    "OtherApi",
    "PluginError",
    "Problem",
    "RecipeError",
    "RunError",
    "RunPlaceError",
    "SoundError",
    "SoundWarning",
    "SoundbenchError",
    "Source",
    "UnknownPlugin",
]


class SoundbenchError(Exception):
    """The base class. `exit_code` is the exit code of the command line."""

    exit_code = 1


class CallError(SoundbenchError):
    """An invalid argument, or one that does not fit the others."""

    exit_code = 2


@attrs.frozen
class Problem:
    """One mistake in a recipe.

    Attributes:
        key: the dotted path, such as `train.epochs` or `augmentation[0].chance`; empty for the file as a whole.
        message: the given value, what is allowed, and the nearest known name if there is one.
        plugin: whether the cause is a plugin that cannot be used, not the recipe.
    """

    key: str
    message: str
    plugin: bool = False

    def __str__(self) -> str:
        return f"{self.key}: {self.message}" if self.key else self.message


class Source(str):
    """The name of a recipe in messages, which knows the keys that the command line gave it.

    Attributes:
        given: the argument of `--set`, such as `train.epochs=3`, by the dotted path of each key that it set.
    """

    given: Mapping[str, str]

    def __new__(cls, name: str, given: Mapping[str, str]) -> Source:
        """A name, and what the command line gave."""
        made = super().__new__(cls, name)
        made.given = dict(given)
        return made

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (str(self), self.given)


class RecipeError(CallError):
    """All mistakes in a recipe.

    Attributes:
        source: the recipe's file, or `<python>`.
        problems: the mistakes, in the order of the recipe.
        lines: a message for each of them.
    """

    def __init__(self, source: str, problems: Sequence[Problem]) -> None:
        self.source = source
        self.problems = tuple(problems)
        if all(problem.plugin for problem in self.problems):
            self.exit_code = PluginError.exit_code
        self.lines = tuple(_line(source, problem) for problem in self.problems)
        super().__init__("\n".join(self.lines))

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.source, self.problems), vars(self)  # exceptions travel between processes


def _line(source: str, problem: Problem) -> str:
    """The line about a mistake: it blames the command line for what `--set` gave, the recipe for all else."""
    given: Mapping[str, str] = getattr(source, "given", {})
    above = [key for key in given if problem.key == key or problem.key.startswith((f"{key}.", f"{key}["))]
    if not above:
        return f"{source}: {problem}"
    text = given[max(above, key=len)]
    own = problem.key in (text, text.partition("=")[0].strip())
    return f"--set {text}: {problem.message if own else problem}"


class DataError(SoundbenchError):
    """Sound, or a table of clips, that cannot be used."""


class MissingDataError(DataError):
    """A file or folder named by the recipe or the call does not exist."""

    exit_code = 2


class _OfSound(Exception):
    """What is said of one sound file: its path and the reason."""

    def __init__(self, path: str, reason: str) -> None:
        self.path, self.reason = str(path), reason
        super().__init__(f"{path}: {reason}")

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.path, self.reason), vars(self)


class SoundError(_OfSound, DataError):
    """One sound file that cannot be used.

    Attributes:
        path: the file.
        reason: why it cannot be used.
    """


class SoundWarning(_OfSound, UserWarning):
    """A sound file that can be used, and is odd.

    Attributes:
        path: the file.
        reason: what is odd about it.
    """


class CancellationWarning(SoundWarning):
    """The channels of a sound file cancel each other when they are mixed to one."""


class DeviceError(SoundbenchError):
    """An audio device that cannot be used, or none found."""


class RunError(SoundbenchError):
    """A run directory, checkpoint or model that cannot be used."""


class RunPlaceError(RunError):
    """Not a run directory, or not an empty folder for a new one."""

    exit_code = 2


class LostProcess(RunError):
    """Another process of a distributed run has ended; that process or its launcher reports the cause."""


class PluginError(SoundbenchError):
    """A plugin that cannot be used."""

    exit_code = 3


class UnknownPlugin(PluginError):
    """There is no plugin of that kind and name."""

    exit_code = 2


class NotInstalled(PluginError):
    """The plugin needs a package that is not installed."""


class BrokenPlugin(PluginError):
    """The import of the plugin fails, or it does not follow its contract."""


class OtherApi(PluginError):
    """The plugin is made for another version of the plugin API."""


class ClaimedTwice(PluginError):
    """Two distributions provide a plugin of the same kind and name."""
