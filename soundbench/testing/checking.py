"""Check one component against the contract of its kind."""

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
from soundbench.testing.calibrations import CHECKS as CALIBRATION
from soundbench.testing.cases import Case, without_logs_of_torch
from soundbench.testing.datasets import CHECKS as DATASET
from soundbench.testing.declared import CHECKS as DECLARED
from soundbench.testing.exporters import CHECKS as EXPORTER
from soundbench.testing.featurizers import CHECKS as FEATURIZER
from soundbench.testing.importers import CHECKS as IMPORTER
from soundbench.testing.losses import CHECKS as LOSS
from soundbench.testing.observers import CHECKS as OBSERVER
from soundbench.testing.optimizers import CHECKS as OPTIMIZER
from soundbench.testing.poolings import CHECKS as POOLING
from soundbench.testing.rejects import CHECKS as REJECT
from soundbench.testing.results import Checks, ContractError, Report, Result, run_checks
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
    "calibration": CALIBRATION,
    "reject": REJECT,
    "observer": OBSERVER,
    "importer": IMPORTER,
    "exporter": EXPORTER,
}


def check_component(
    kind: str,
    component: str | Callable[..., Any],
    *,
    options: Mapping[str, Any] | None = None,
    thorough: bool = False,
) -> Report:
    """Check every promise of a component's contract.

    Args:
        kind: one of `soundbench.contracts.KINDS`.
        component: the class or function, or its name as in a recipe's `use`.
        options: options to make it with, as in a recipe. By default those of its `example`, or its defaults.
        thorough: also run the slow checks: `torch.export` with any batch and length; a dataset's order in other
            processes.

    Returns:
        The results; every promise is kept or not applicable.

    Raises:
        ContractError: promises are broken; it lists all of them, with the numbers.
        PluginError: there is no such component, or a package that it needs is not installed.
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
    """Like `check_component`, but return the results when promises are broken too.

    Raises:
        PluginError: there is no such component, or a package that it needs is not installed.
    """
    check_kind(kind)
    try:
        registry = Registry()
        found = registry.get(kind, component)
    except BrokenPlugin as error:
        name = component if isinstance(component, str) else getattr(component, "__qualname__", repr(component))
        return Report(kind, name, (Result("signature", "broken", str(error)),), 0.0)
    return examine_loaded(found, registry, options=options, thorough=thorough)


def examine_loaded(
    component: Component, registry: Registry, *, options: Mapping[str, Any] | None = None, thorough: bool = False
) -> Report:
    """The results for a component that the registry has already loaded."""
    began = time.perf_counter()
    with (
        tempfile.TemporaryDirectory(prefix="soundbench-") as folder,
        _global_random_states_kept(),
        without_logs_of_torch(),
    ):
        case = Case(component, Path(folder).resolve(), options, thorough, registry)
        results = [Result("signature", "ok", ""), *run_checks(DECLARED, case)]
        if results[-1].state != "broken":  # it could be made
            results += run_checks(CHECKS[component.kind], case)
    return Report(component.kind, component.name, tuple(results), time.perf_counter() - began)


@contextmanager
def _global_random_states_kept() -> Iterator[None]:
    """Restore the global random states: a check in a test suite must not change other tests."""
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])
