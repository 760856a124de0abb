"""A component under check, and the options that it is made with."""

from __future__ import annotations

import io
import logging
import pickle
import random
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from functools import cached_property
from pathlib import Path
from typing import Any, get_args, get_origin

import attrs
import numpy as np
import torch

from soundbench.recipe.registry import Component, Registry
from soundbench.testing.results import Broken

__all__ = ["RATE", "Case", "is_path", "quiet", "seeded_states", "watched_states", "without_logs_of_torch"]

RATE = 16000
"""Sample rate of all test signals, in Hz."""

_UNUSUAL = 2_718_281_828  # a seed that no component chooses


def is_path(kind: Any) -> bool:
    """Whether an option's type is a path, an optional path or a list of paths."""
    return kind is Path or any(is_path(part) for part in get_args(kind))


@contextmanager
def watched_states() -> Iterator[list[str]]:
    """Which of the random states that all code of a process shares change in the body; filled in at its end.

    The body begins with states that no seed gives: code that seeds them alike at each call would leave those that its
    call before has left.
    """
    before = _begin(_UNUSUAL)
    touched = list[str]()
    yield touched
    after = _states()
    touched += [name for name in before if before[name] != after[name]]


@contextmanager
def quiet() -> Iterator[None]:
    """Discard what is printed in the body."""
    with redirect_stderr(io.StringIO()), redirect_stdout(io.StringIO()):
        yield


@contextmanager
def without_logs_of_torch() -> Iterator[None]:
    """Silence torch's loggers in the body: a test runner keeps what they say, and shows hundreds of lines of it."""
    loggers = [logging.getLogger(name) for name in ("torch", "torch.__trace")]  # the second has a level of its own
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.CRITICAL + 1)
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def seeded_states(call: Callable[[], object]) -> list[str]:
    """Which of the shared random states a call sets: they end alike, however they began."""
    ends = []
    for start in (_UNUSUAL, _UNUSUAL + 1):
        _begin(start)
        call()
        ends.append(_states())
    return [name for name in ends[0] if ends[0][name] == ends[1][name]]


def _begin(start: int) -> dict[str, bytes]:
    """Seed the shared random states, draw once from each, and give them."""
    torch.manual_seed(start)
    random.seed(start)
    np.random.seed(start)
    torch.rand(1), random.random(), np.random.rand()
    return _states()


def _states() -> dict[str, bytes]:
    """The random states that all code of a process shares; torch's is that of the CPU."""
    shared = {"torch": torch.get_rng_state().numpy(), "random": random.getstate(), "NumPy": np.random.get_state()}
    return {name: pickle.dumps(state) for name, state in shared.items()}


@attrs.define(slots=False)
class Case:
    """A component, and what to make it with.

    Attributes:
        component: the loaded component.
        folder: an empty folder for its files.
        given: the caller's options, if any.
        thorough: whether to run the slow checks too.
        registry: where components that it names are found.
        memory: values that one check keeps for the next.
    """

    component: Component
    folder: Path
    given: Mapping[str, Any] | None = None
    thorough: bool = False
    registry: Registry = attrs.field(factory=Registry)
    memory: dict[str, Any] = attrs.field(factory=dict)

    @property
    def fields(self) -> tuple[attrs.Attribute[Any], ...]:
        """Its options, with names, types and defaults."""
        return tuple(attrs.fields(self.component.options))

    @property
    def has_example(self) -> bool:
        """Whether its own `example` writes the files that its options name."""
        return self.given is None and hasattr(self.component.obj, "example")

    @property
    def missing_path(self) -> Path:
        """A path that does not exist."""
        return self.folder / "nowhere" / "there"

    @cached_property
    def options(self) -> dict[str, Any]:
        """The options to make it with, checked like a recipe's table.

        Raises:
            Broken: it cannot be made with its defaults and has no example, or its example is wrong.
        """
        if self.given is not None:
            table = dict(self.given)
        elif self.has_example:
            folder = self.folder / "example"
            folder.mkdir()
            table = dict(self.component.obj.example(folder))  # type: ignore[attr-defined]
        elif self.component.kind == "dataset":
            table = {field.name: self.missing_value(field.type) for field in self.paths}
        else:
            table = {}
        needed = [field.name for field in self.fields if field.default is attrs.NOTHING and field.name not in table]
        if needed:
            raise Broken(f"it cannot be made without {', '.join(needed)}: add example(folder), see docs/plugins.md")
        options, problems = self.component.structure(table, "")
        if problems:
            raise Broken("; ".join(str(problem).lstrip(".") for problem in problems))
        return options

    @property
    def paths(self) -> tuple[attrs.Attribute[Any], ...]:
        """The options that name data and are not None by default."""
        return tuple(field for field in self.fields if is_path(field.type) and field.default is not None)

    def missing_value(self, kind: Any) -> Any:
        """A value for an option that names a path: one that does not exist."""
        return [self.missing_path] if get_origin(kind) is list else self.missing_path

    def without_data(self) -> dict[str, Any]:
        """Changes to the options so that the data is missing; files that the example wrote are deleted."""
        if self.has_example:
            shutil.rmtree(self.folder / "example")
            return {}
        return {field.name: self.missing_value(field.type) for field in self.paths}

    def make(self, *supplied: Any, seed: int = 0, **changed: Any) -> Any:
        """The component, with weights drawn from a seed."""
        torch.manual_seed(seed)
        return self.component.obj(*supplied, **self.options | changed)
