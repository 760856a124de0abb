"""What a component is made with while it is proved."""

from __future__ import annotations

import random
import shutil
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, get_args, get_origin

import attrs
import numpy as np
import torch

from soundbench.recipe.registry import Component, Registry
from soundbench.testing.findings import Broken

__all__ = ["RATE", "Case", "global_states", "is_path"]

RATE = 16000
"""Samples a second of every sound here."""


def is_path(kind: Any) -> bool:
    """Whether an option's type names a path, a list of paths, or perhaps a path."""
    return kind is Path or any(is_path(part) for part in get_args(kind))


def global_states() -> dict[str, object]:
    """The states of chance that all code of a process shares."""
    numpy = repr(np.random.get_state(legacy=False))
    return {"torch": torch.get_rng_state().tolist(), "random": random.getstate(), "NumPy": numpy}


@attrs.define(slots=False)
class Case:
    """A component, and what to make it with.

    Attributes:
        component: loaded.
        folder: an empty folder of its own.
        given: options, where the caller gave some.
        thorough: whether to prove what takes long too.
        registry: where what it names is found.
        memory: what one promise leaves for the next.
    """

    component: Component
    folder: Path
    given: Mapping[str, Any] | None = None
    thorough: bool = False
    registry: Registry = attrs.field(factory=Registry)
    memory: dict[str, Any] = attrs.field(factory=dict)

    @property
    def fields(self) -> tuple[attrs.Attribute[Any], ...]:
        """Its options: names, types, defaults."""
        return tuple(attrs.fields(self.component.options))

    @property
    def exemplified(self) -> bool:
        """Whether what its options name was written by its own `example`."""
        return self.given is None and hasattr(self.component.obj, "example")

    @property
    def nowhere(self) -> Path:
        """A place at which nothing is."""
        return self.folder / "nowhere" / "there"

    @cached_property
    def options(self) -> dict[str, Any]:
        """What to make it with, checked as a recipe's table is.

        Raises:
            Broken: it cannot be made with defaults alone and gives no example, or its example is wrong.
        """
        if self.given is not None:
            table = dict(self.given)
        elif self.exemplified:
            folder = self.folder / "example"
            folder.mkdir()
            table = dict(self.component.obj.example(folder))  # type: ignore[attr-defined]
        elif self.component.kind == "dataset":
            table = {field.name: self.missing(field.type) for field in self.paths}
        else:
            table = {}
        needed = [field.name for field in self.fields if field.default is attrs.NOTHING and field.name not in table]
        if needed:
            raise Broken(f"it cannot be made without {', '.join(needed)}: offer example(folder), see docs/plugins.md")
        options, problems = self.component.structure(table, "")
        if problems:
            raise Broken("; ".join(str(problem).lstrip(".") for problem in problems))
        return options

    @property
    def paths(self) -> tuple[attrs.Attribute[Any], ...]:
        """The options that name data, always or by default."""
        return tuple(field for field in self.fields if is_path(field.type) and field.default is not None)

    def missing(self, kind: Any) -> Any:
        """A value for an option that names a path: nothing is there."""
        return [self.nowhere] if get_origin(kind) is list else self.nowhere

    def bereft(self) -> dict[str, Any]:
        """Changes to the options, so that no data is there; what the example wrote is taken away for good."""
        if self.exemplified:
            shutil.rmtree(self.folder / "example")
            return {}
        return {field.name: self.missing(field.type) for field in self.paths}

    def make(self, *supplied: Any, seed: int = 0, **changed: Any) -> Any:
        """The component, its weights drawn from a seed."""
        torch.manual_seed(seed)
        return self.component.obj(*supplied, **self.options | changed)
