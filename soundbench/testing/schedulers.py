"""What a scheduler promises: it scales each group's own rate through the whole run, and its state can be saved."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn
from torch.optim import SGD, Optimizer
from torch.optim.lr_scheduler import LRScheduler

from soundbench.testing.cases import Case
from soundbench.testing.findings import Broken, Checks
from soundbench.testing.optimizers import through_a_file

__all__ = ["CHECKS"]

RATES = (0.1, 1e-4)
STEPS, STEPS_PER_EPOCH = 40, 8


def made(case: Case, steps: int = STEPS, steps_per_epoch: int = STEPS_PER_EPOCH) -> tuple[Optimizer, Any]:
    """An optimizer of two groups, and a scheduler of it."""
    optimizer = SGD([{"params": [nn.Parameter(torch.ones(2))], "lr": rate} for rate in RATES], lr=1.0, momentum=0.9)
    scheduler = case.make(optimizer, steps, steps_per_epoch)
    if not isinstance(scheduler, LRScheduler):
        raise Broken(f"gives a {type(scheduler).__name__}, not a torch.optim.lr_scheduler.LRScheduler")
    return optimizer, scheduler


def every(case: Case, scheduler: Any) -> str:
    """When it is stepped."""
    found = getattr(scheduler, "every", getattr(case.component.obj, "every", "step"))
    if found not in ("step", "epoch"):
        raise Broken(f'every must be "step" or "epoch", is {found!r}')
    return str(found)


def run(case: Case, optimizer: Optimizer, scheduler: Any, calls: int) -> list[tuple[float, ...]]:
    """The groups' rates before each call and after the last."""
    seen = [tuple(float(group["lr"]) for group in optimizer.param_groups)]
    for number in range(calls):
        try:
            optimizer.step()
            scheduler.step()
        except Exception as error:
            text = " ".join(str(error).split())
            raise Broken(f"call {number + 1} of {calls} raised {type(error).__name__}: {text}") from error
        seen.append(tuple(float(group["lr"]) for group in optimizer.param_groups))
    return seen


def calls(case: Case, scheduler: Any, steps: int = STEPS, steps_per_epoch: int = STEPS_PER_EPOCH) -> int:
    """How often a run steps it."""
    return steps if every(case, scheduler) == "step" else -(-steps // steps_per_epoch)


def lasts(case: Case) -> str:
    """It gives a finite rate of at least 0 through every step of the run, however short the run is."""
    told = ""
    for steps, steps_per_epoch in ((STEPS, STEPS_PER_EPOCH), (1, 1), (3, 2)):
        optimizer, scheduler = made(case, steps, steps_per_epoch)
        seen = run(case, optimizer, scheduler, calls(case, scheduler, steps, steps_per_epoch))
        wrong = [rates for rates in seen if not all(math.isfinite(rate) and rate >= 0 for rate in rates)]
        if wrong:
            raise Broken(f"in a run of {steps} steps, rates of {wrong[0]}")
        shares = [rates[0] / RATES[0] for rates in seen]
        told = told or f"every {every(case, scheduler)}, from {shares[0]:.3g} to {shares[-1]:.3g} of the rate"
    return told


def scales(case: Case) -> str:
    """All groups have the same share of their own rate."""
    optimizer, scheduler = made(case)
    for number, rates in enumerate(run(case, optimizer, scheduler, calls(case, scheduler))):
        shares = [rate / own for rate, own in zip(rates, RATES, strict=True)]
        if not math.isclose(shares[0], shares[1], rel_tol=1e-5, abs_tol=1e-9):
            raise Broken(
                f"at call {number} groups with rates of {RATES[0]:g} and {RATES[1]:g} get {rates[0]:.3g} and "
                f"{rates[1]:.3g}, which is {shares[0]:.3g} and {shares[1]:.3g} of their own"
            )
    return "each group's own rate"


def state(case: Case) -> str:
    """Saved and loaded into another, it goes on the same."""
    optimizer, scheduler = made(case)
    total = calls(case, scheduler)
    whole = run(case, optimizer, scheduler, total)
    optimizer, scheduler = made(case)
    half = total // 2
    run(case, optimizer, scheduler, half)
    saved = through_a_file({"optimizer": optimizer.state_dict(), "scheduler": scheduler.state_dict()})
    optimizer, scheduler = made(case)
    optimizer.load_state_dict(saved["optimizer"])
    scheduler.load_state_dict(saved["scheduler"])
    rest = run(case, optimizer, scheduler, total - half)
    for number, (one, other) in enumerate(zip(whole[half:], rest, strict=True), start=half):
        if one != other:
            raise Broken(f"loaded after call {half}, at call {number} its rates are {other}, not {one}")
    return "goes on the same"


CHECKS: Checks = {"lasts": lasts, "rates": scales, "state": state}
