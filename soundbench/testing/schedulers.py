"""What a scheduler promises: it scales each group's learning rate in the whole run, and its state can be saved."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn
from torch.optim import SGD, Optimizer
from torch.optim.lr_scheduler import LRScheduler

from soundbench.testing.cases import Case
from soundbench.testing.optimizers import through_a_file
from soundbench.testing.results import Broken, Checks

__all__ = ["CHECKS"]

RATES = (0.1, 1e-4)
STEPS, STEPS_PER_EPOCH = 40, 8


def made(case: Case, steps: int = STEPS, steps_per_epoch: int = STEPS_PER_EPOCH) -> tuple[Optimizer, Any]:
    """An optimizer of two groups, and the scheduler for it."""
    optimizer = SGD([{"params": [nn.Parameter(torch.ones(2))], "lr": rate} for rate in RATES], lr=1.0, momentum=0.9)
    scheduler = case.make(optimizer, steps, steps_per_epoch)
    if not isinstance(scheduler, LRScheduler):
        raise Broken(f"returns a {type(scheduler).__name__}, not a torch.optim.lr_scheduler.LRScheduler")
    return optimizer, scheduler


def every(case: Case, scheduler: Any) -> str:
    """Whether it is stepped at each step or epoch."""
    found = getattr(scheduler, "every", getattr(case.component.obj, "every", "step"))
    if found not in ("step", "epoch"):
        raise Broken(f'every must be "step" or "epoch", is {found!r}')
    return str(found)


def run(case: Case, optimizer: Optimizer, scheduler: Any, calls: int) -> list[tuple[float, ...]]:
    """The groups' learning rates before each call and after the last."""
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
    """How many times a run steps it."""
    return steps if every(case, scheduler) == "step" else -(-steps // steps_per_epoch)


def whole_run(case: Case) -> str:
    """Learning rates are finite and at least 0 at every step of a run, however short."""
    summary = ""
    for steps, steps_per_epoch in ((STEPS, STEPS_PER_EPOCH), (1, 1), (3, 2)):
        optimizer, scheduler = made(case, steps, steps_per_epoch)
        seen = run(case, optimizer, scheduler, calls(case, scheduler, steps, steps_per_epoch))
        wrong = [rates for rates in seen if not all(math.isfinite(rate) and rate >= 0 for rate in rates)]
        if wrong:
            raise Broken(f"learning rates must be finite and at least 0; in a run of {steps} steps they are {wrong[0]}")
        shares = [rates[0] / RATES[0] for rates in seen]
        moment = every(case, scheduler)
        summary = summary or f"each {moment}, from {shares[0]:.3g} to {shares[-1]:.3g} of the learning rate"
    return summary


def scales(case: Case) -> str:
    """All groups get the same share of their own learning rate."""
    optimizer, scheduler = made(case)
    for number, rates in enumerate(run(case, optimizer, scheduler, calls(case, scheduler))):
        shares = [rate / own for rate, own in zip(rates, RATES, strict=True)]
        if not math.isclose(shares[0], shares[1], rel_tol=1e-5, abs_tol=1e-9):
            raise Broken(
                f"at call {number}, groups with learning rates of {RATES[0]:g} and {RATES[1]:g} get {rates[0]:.3g} and "
                f"{rates[1]:.3g}; the shares {shares[0]:.3g} and {shares[1]:.3g} must be equal"
            )
    return "the same share for each group"


def state(case: Case) -> str:
    """With its state saved and loaded into another scheduler, it continues the same."""
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
            raise Broken(
                f"with the state of call {half} loaded, learning rates at call {number} are {other}, not {one}"
            )
    return "continues the same"


CHECKS: Checks = {"whole run": whole_run, "learning rates": scales, "state": state}
