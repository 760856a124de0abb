"""One component held to the contract of its kind: how it is made, and what is then asked of it."""

from __future__ import annotations

import random
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from soundbench.errors import BrokenPlugin
from soundbench.recipe.catalogue import check_kind
from soundbench.recipe.registry import Component, Registry
from soundbench.testing.augmentations import CHECKS as AUGMENTATION
from soundbench.testing.backbones import CHECKS as BACKBONE
from soundbench.testing.cases import Case
from soundbench.testing.datasets import CHECKS as DATASET
from soundbench.testing.declared import CHECKS as DECLARED
from soundbench.testing.featurizers import CHECKS as FEATURIZER
from soundbench.testing.findings import Checks, ContractError, Finding, Report, prove
from soundbench.testing.importers import CHECKS as IMPORTER
from soundbench.testing.losses import CHECKS as LOSS
from soundbench.testing.observers import CHECKS as OBSERVER
from soundbench.testing.optimizers import CHECKS as OPTIMIZER
from soundbench.testing.poolings import CHECKS as POOLING
from soundbench.testing.schedulers import CHECKS as SCHEDULER

__all__ = ["check_component", "examine", "examine_loaded"]

CHECKS: dict[str, Checks] = {
    "dataset": DATASET,
    "augmentation": AUGMENTATION,
    "featurizer": FEATURIZER,
    "backbone": BACKBONE,
    "pooling": POOLING,
    "loss": LOSS,
    "optimizer": OPTIMIZER,
    "scheduler": SCHEDULER,
    "observer": OBSERVER,
    "importer": IMPORTER,
}


def check_component(
    kind: str,
    component: str | Callable[..., Any],
    *,
    options: Mapping[str, Any] | None = None,
    thorough: bool = False,
) -> Report:
    """Hold a component to every promise of its kind's contract.

    Args:
        kind: one of `soundbench.contracts.KINDS`.
        component: the class or function, or what a recipe's `use` would say.
        options: what to make it with, as a recipe would give it; without it, what its `example` gives, or its defaults.
        thorough: also prove what takes long: `torch.export` with any batch and length; a dataset's order in other
            processes.

    Returns:
        What was found, every promise kept or not applicable.

    Raises:
        ContractError: promises are broken; it lists all of them, with the numbers.
        PluginError: there is no such component, or what it needs is not installed.
    """
    report = examine(kind, component, options=options, thorough=thorough)
    if report.broken:
        raise ContractError(report)
    return report


def examine(
    kind: str,
    component: str | Callable[..., Any],
    *,
    options: Mapping[str, Any] | None = None,
    thorough: bool = False,
) -> Report:
    """What `check_component` found, broken promises and all; the arguments are the same.

    Raises:
        PluginError: there is no such component, or what it needs is not installed.
    """
    check_kind(kind)
    try:
        registry = Registry()
        found = registry.get(kind, component)
    except BrokenPlugin as error:
        name = component if isinstance(component, str) else getattr(component, "__qualname__", repr(component))
        return Report(kind, name, (Finding("signature", "broken", str(error)),), 0.0)
    return examine_loaded(found, registry, options=options, thorough=thorough)


def examine_loaded(
    component: Component, registry: Registry, *, options: Mapping[str, Any] | None = None, thorough: bool = False
) -> Report:
    """What was found of a component that the registry has loaded, its signature with it."""
    began = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="soundbench-") as folder, _global_chance_kept():
        case = Case(component, Path(folder).resolve(), options, thorough, registry)
        findings = [Finding("signature", "ok", ""), *prove(DECLARED, case)]
        if findings[-1].state != "broken":  # it could be made
            findings += prove(CHECKS[component.kind], case)
    return Report(component.kind, component.name, tuple(findings), time.perf_counter() - began)


@contextmanager
def _global_chance_kept() -> Iterator[None]:
    """Leave the global states of chance as they were: a check in somebody's tests must not change the others."""
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])
