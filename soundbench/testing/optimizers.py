"""What an optimizer promises: its steps obey the groups that it is given, and its state can be saved."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from soundbench.testing.cases import Case
from soundbench.testing.findings import Broken, Checks

__all__ = ["CHECKS", "through_a_file"]

SLOWER = 1e-3  # the own rate of a group, as a share of the others'


def weights(count: int = 4) -> list[nn.Parameter]:
    """Matrices of ones."""
    return [nn.Parameter(torch.ones(4, 4)) for _ in range(count)]


def made(case: Case, groups: Sequence[dict[str, Any]]) -> Optimizer:
    """An optimizer over groups."""
    optimizer = case.make(groups)
    if not isinstance(optimizer, Optimizer):
        raise Broken(f"gives a {type(optimizer).__name__}, not a torch.optim.Optimizer")
    return optimizer


def feed(parameters: Sequence[Tensor], step: int) -> None:
    """Gradients that are the same for each parameter, and a function of the step."""
    drawn = torch.randn(4, 4, generator=torch.Generator().manual_seed(step))
    for parameter in parameters:
        parameter.grad = drawn.clone()


def moved(parameter: Tensor) -> float:
    """How far a parameter went from where it began."""
    return float((parameter.detach() - 1.0).abs().mean())


def groups_kept(case: Case) -> str:
    """The groups that it was given, each with what it brought."""
    a, b, c, _ = weights()
    given: list[dict[str, Any]] = [{"params": [a]}, {"params": [b], "weight_decay": 0.0}, {"params": [c], "lr": 1e-5}]
    found = made(case, given).param_groups
    if [[id(p) for p in group["params"]] for group in found] != [[id(p) for p in group["params"]] for group in given]:
        raise Broken(f"of {len(given)} groups of 1 parameter it makes {[len(group['params']) for group in found]}")
    for own, group in zip(given, found, strict=True):
        for name in own.keys() - {"params"}:
            if group.get(name) != own[name]:
                raise Broken(f"a group's own {name} of {own[name]:g} becomes {group.get(name)}")
    return "rates and decay as they were given"


def step(case: Case) -> str:
    """A step moves every parameter that has a gradient, and no other."""
    one, other, idle, _ = weights()
    optimizer = made(case, [{"params": [one, idle]}, {"params": [other], "weight_decay": 0.0}])
    feed([one, other], 0)
    optimizer.step()
    far = moved(one), moved(other)
    if not all(distance > 0 for distance in far):
        raise Broken(f"a step moves parameters with a gradient by {far[0]:.1e} and {far[1]:.1e}")
    if not all(bool(parameter.isfinite().all()) for parameter in (one, other)):
        raise Broken("after one step parameters are not finite")
    if moved(idle) > 0:
        raise Broken(f"a step moves a parameter without gradient by {moved(idle):.1e}")
    return f"by {far[0]:.1e}"


def rates(case: Case) -> str:
    """A group's own rate is what its steps are scaled by."""
    usual, slow, *_ = weights()
    rate = float(made(case, [{"params": weights(1)}]).param_groups[0]["lr"])
    optimizer = made(case, [{"params": [usual]}, {"params": [slow], "lr": SLOWER * rate}])
    feed([usual, slow], 0)
    optimizer.step()
    share = moved(slow) / max(moved(usual), 1e-30)
    if share > 0.1:
        raise Broken(f"at {SLOWER:g} of the other group's rate, a step is {share:.2g} of the other's (allowed 0.1)")
    return f"{SLOWER:g} of the rate, {share:.1g} of the step"


def decay(case: Case) -> str:
    """Where a group says no decay, nothing but the gradient moves it."""
    (spared,) = weights(1)
    optimizer = made(case, [{"params": weights(1)}, {"params": [spared], "weight_decay": 0.0}])
    for _ in range(3):
        spared.grad = torch.zeros_like(spared)
        optimizer.step()
    if moved(spared) > 0:
        raise Broken(f"gradients of zero move a group of weight_decay = 0 by {moved(spared):.1e}")
    return "none where weight_decay = 0"


def state(case: Case) -> str:
    """Saved and loaded into another, it goes on the same."""
    ends = []
    for resumed in (False, True):
        one, other, *_ = parameters = weights(2)
        optimizer = _two(case, one, other)
        for number in range(6):
            if resumed and number == 3:
                saved = through_a_file(optimizer.state_dict())
                one, other = parameters = [nn.Parameter(parameter.detach().clone()) for parameter in parameters]
                optimizer = _two(case, one, other)
                optimizer.load_state_dict(saved)
            feed(parameters, number)
            optimizer.step()
        ends.append(torch.stack([parameter.detach() for parameter in parameters]))
    apart = float((ends[0] - ends[1]).abs().max())
    if apart > 0:
        raise Broken(f"three steps after its state was loaded, parameters are {apart:.1e} off (allowed 0)")
    return "goes on bit for bit"


def _two(case: Case, one: Tensor, other: Tensor) -> Optimizer:
    return made(case, [{"params": [one]}, {"params": [other], "weight_decay": 0.0}])


def through_a_file(saved: Any) -> Any:
    """A state as a checkpoint keeps it: loaded without executing anything."""
    file = io.BytesIO()
    torch.save(saved, file)
    file.seek(0)
    try:
        return torch.load(file, weights_only=True)
    except Exception as error:
        text = str(error).splitlines()[0]
        raise Broken(f"its state cannot be loaded from a checkpoint, which holds plain values: {text}") from error


CHECKS: Checks = {"groups": groups_kept, "step": step, "rates": rates, "decay": decay, "state": state}
