"""What an optimizer promises: its steps follow the settings of each group, and its state can be saved."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from soundbench.testing.cases import Case
from soundbench.testing.results import Broken, Checks

__all__ = ["CHECKS", "through_a_file"]

SLOWER = 1e-3  # the learning rate of one group, as a share of the others'


def weights(count: int = 4) -> list[nn.Parameter]:
    """Matrices of ones."""
    return [nn.Parameter(torch.ones(4, 4)) for _ in range(count)]


def made(case: Case, groups: Sequence[dict[str, Any]]) -> Optimizer:
    """An optimizer over groups."""
    optimizer = case.make(groups)
    if not isinstance(optimizer, Optimizer):
        raise Broken(f"returns a {type(optimizer).__name__}, not a torch.optim.Optimizer")
    return optimizer


def set_gradients(parameters: Sequence[Tensor], step: int) -> None:
    """Set the same gradient for each parameter, a function of the step."""
    drawn = torch.randn(4, 4, generator=torch.Generator().manual_seed(step))
    for parameter in parameters:
        parameter.grad = drawn.clone()


def moved(parameter: Tensor) -> float:
    """How far a parameter is from its initial value."""
    return float((parameter.detach() - 1.0).abs().mean())


def groups_kept(case: Case) -> str:
    """It keeps the groups that it is given, each with its own settings."""
    a, b, c, _ = weights()
    given: list[dict[str, Any]] = [{"params": [a]}, {"params": [b], "weight_decay": 0.0}, {"params": [c], "lr": 1e-5}]
    found = made(case, given).param_groups
    if [[id(p) for p in group["params"]] for group in found] != [[id(p) for p in group["params"]] for group in given]:
        raise Broken(
            f"given {len(given)} groups of 1 parameter, it has groups of {[len(group['params']) for group in found]}"
        )
    for own, group in zip(given, found, strict=True):
        for name in own.keys() - {"params"}:
            if group.get(name) != own[name]:
                raise Broken(f"a group's own {name} of {own[name]:g} becomes {group.get(name)}")
    return "learning rates and weight decay kept"


def step(case: Case) -> str:
    """A step changes every parameter that has a gradient, and no other."""
    one, other, idle, _ = weights()
    optimizer = made(case, [{"params": [one, idle]}, {"params": [other], "weight_decay": 0.0}])
    set_gradients([one, other], 0)
    optimizer.step()
    far = moved(one), moved(other)
    if not all(distance > 0 for distance in far):
        raise Broken(f"a step must change parameters with a gradient; it changes them by {far[0]:.1e} and {far[1]:.1e}")
    if not all(bool(parameter.isfinite().all()) for parameter in (one, other)):
        raise Broken("parameters are not finite after one step")
    if moved(idle) > 0:
        raise Broken(f"a step must not change a parameter without gradient; it changes one by {moved(idle):.1e}")
    return f"changes parameters by {far[0]:.1e}"


def rates(case: Case) -> str:
    """The steps of a group are scaled by its own learning rate."""
    usual, slow, *_ = weights()
    rate = float(made(case, [{"params": weights(1)}]).param_groups[0]["lr"])
    optimizer = made(case, [{"params": [usual]}, {"params": [slow], "lr": SLOWER * rate}])
    set_gradients([usual, slow], 0)
    optimizer.step()
    share = moved(slow) / max(moved(usual), 1e-30)
    if share > 0.1:
        raise Broken(
            f"a group with {SLOWER:g} of the learning rate takes steps of {share:.2g} of the size (allowed 0.1)"
        )
    return f"{SLOWER:g} of the learning rate, {share:.1g} of the step"


def decay(case: Case) -> str:
    """A group without weight decay changes only by its gradient."""
    (spared,) = weights(1)
    optimizer = made(case, [{"params": weights(1)}, {"params": [spared], "weight_decay": 0.0}])
    for _ in range(3):
        spared.grad = torch.zeros_like(spared)
        optimizer.step()
    if moved(spared) > 0:
        raise Broken(f"with weight_decay = 0 and gradients of zero, parameters change by {moved(spared):.1e}")
    return "none with weight_decay = 0"


def state(case: Case) -> str:
    """With its state saved and loaded into another optimizer, training continues the same."""
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
            set_gradients(parameters, number)
            optimizer.step()
        ends.append(torch.stack([parameter.detach() for parameter in parameters]))
    apart = float((ends[0] - ends[1]).abs().max())
    if apart > 0:
        raise Broken(f"three steps after loading its state, parameters differ by {apart:.1e} (allowed 0)")
    return "continues bit for bit"


def _two(case: Case, one: Tensor, other: Tensor) -> Optimizer:
    return made(case, [{"params": [one]}, {"params": [other], "weight_decay": 0.0}])


def through_a_file(saved: Any) -> Any:
    """Save a state and load it as a checkpoint is loaded, without executing code."""
    file = io.BytesIO()
    torch.save(saved, file)
    file.seek(0)
    try:
        return torch.load(file, weights_only=True)
    except Exception as error:
        text = str(error).splitlines()[0]
        raise Broken(f"its state must contain only tensors and plain values; it cannot be loaded: {text}") from error


CHECKS: Checks = {"groups": groups_kept, "step": step, "learning rates": rates, "decay": decay, "state": state}
