"""What every component promises: documentation, typed options, and that it can be made."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import nn

from soundbench.contracts import RunInfo
from soundbench.recipe.source_code import argument_docs
from soundbench.testing.cases import RATE, Case
from soundbench.testing.exporters import example_program
from soundbench.testing.results import Broken, Checks, NotApplicable

__all__ = ["CHECKS", "run_info", "supplied"]


def supplied(case: Case) -> tuple[Any, ...]:
    """The positional arguments that the framework supplies, with ordinary values."""
    kind = case.component.kind
    if kind == "observer":
        return (run_info(case),)
    if kind == "importer":
        return (case.missing_path,)
    if kind == "exporter":
        return (example_program(),)
    groups = [{"params": [nn.Parameter(torch.ones(2, 2))]}]
    values: dict[str, tuple[Any, ...]] = {
        "dataset": (),
        "augmentation": (RATE,),
        "featurizer": (RATE,),
        "backbone": (80,),
        "pooling": (24,),
        "loss": (10,),
        "calibration": (10,),
        "reject": (10,),
        "optimizer": (groups,),
        "scheduler": (torch.optim.SGD(groups, lr=0.1), 10, 5),
    }
    return values[kind]


def run_info(case: Case, start_step: int = 0) -> RunInfo:
    """A run of two epochs of ten steps, in an empty directory."""
    directory = case.folder / "run"
    directory.mkdir(exist_ok=True)
    recipe = {"dataset": {"use": "none"}, "train": {"epochs": 2, "batch_size": 8, "seed": 1}}
    clips = {"train": 80, "validation": 10, "test": 10, "purged": 0}
    return RunInfo(directory, "contract", recipe, ("a", "b"), clips, 2, 10, start_step)


def summary(case: Case) -> str:
    """The docstring's first line."""
    first = inspect.cleandoc(case.component.obj.__doc__ or "").partition("\n")[0].strip()
    if not first:
        raise Broken("no docstring; its first line is the summary in listings")
    return first


def documented(case: Case) -> str:
    """Every option is explained."""
    names = [field.name for field in case.fields]
    docs = argument_docs(case.component.obj.__doc__)
    parameters = inspect.signature(case.component.obj).parameters
    if unknown := [name for name in docs if name not in parameters]:
        raise Broken(f"the docstring's Args: section explains {', '.join(unknown)}, which it does not have")
    if not names:
        raise NotApplicable("it has no options")
    missing = [name for name in names if not docs.get(name)]
    if missing:
        raise Broken(f"the docstring's Args: section does not explain {', '.join(missing)}")
    return f"{len(names)} documented"


def made(case: Case) -> str:
    """It can be made, and accepts its own defaults."""
    if case.component.kind == "importer":
        raise NotApplicable("an importer needs a model to import")
    try:
        case.memory["made"] = case.make(*supplied(case))
    except ValueError as error:
        raise Broken(f"it refuses {case.options or 'its defaults'}: {error}") from error
    if not case.options:
        return "with no options"
    return "with " + ", ".join(f"{name} = {value}" for name, value in case.options.items())


CHECKS: Checks = {"summary": summary, "options": documented, "made": made}
