"""Any scheduler of `torch.optim.lr_scheduler` that plain options can describe, by name."""

from __future__ import annotations

import difflib
import inspect
from typing import Any, Literal

from torch.optim import Optimizer, lr_scheduler

__all__ = ["torch_scheduler"]

# Schedulers made of functions or other schedulers, or that depend on a metric, cannot be described in a recipe.
_OTHERS = ("LRScheduler", "LambdaLR", "MultiplicativeLR", "SequentialLR", "ChainedScheduler", "ReduceLROnPlateau")
_NAMES = sorted(
    name
    for name, member in vars(lr_scheduler).items()
    if inspect.isclass(member)
    and issubclass(member, lr_scheduler.LRScheduler)
    and not name.startswith("_")
    and name not in _OTHERS
)


def torch_scheduler(
    optimizer: Optimizer,
    steps: int,
    steps_per_epoch: int,
    *,
    name: str,
    args: dict[str, Any] = {},  # noqa: B006
    every: Literal["step", "epoch"] = "epoch",
) -> lr_scheduler.LRScheduler:
    """Any scheduler of torch.optim.lr_scheduler, by name.

    The returned scheduler has the attribute `every`, set to this option; it overrides the function's own.

    Args:
        optimizer: the optimizer whose learning rates are scaled.
        steps: number of steps of the whole run.
        steps_per_epoch: number of steps of one epoch.
        name: name of the class, such as "CosineAnnealingLR".
        args: the class's options, such as `{T_max = "epochs"}`; "steps" and "epochs" stand for the run's numbers.
        every: when the scheduler is stepped: at each "step", or at the end of each "epoch".
    """
    if name not in _NAMES:
        nearest = difflib.get_close_matches(name, _NAMES, 1, 0.5)
        hint = f"did you mean {nearest[0]!r}? There are " if nearest else "there are "
        raise ValueError(f"torch.optim.lr_scheduler has no usable scheduler {name!r}; {hint}{', '.join(_NAMES)}")
    if every not in ("step", "epoch"):
        raise ValueError(f'every must be "step" or "epoch", is {every!r}')
    make = getattr(lr_scheduler, name)
    allowed = [option for option in inspect.signature(make).parameters if option not in ("optimizer", "last_epoch")]
    unknown = sorted(set(args) - set(allowed))
    if unknown:
        raise ValueError(f"{name} has no option {', '.join(unknown)}; it has {', '.join(allowed)}")
    words = {"steps": steps, "epochs": -(-steps // steps_per_epoch)}
    options = {key: words.get(value, value) if isinstance(value, str) else value for key, value in args.items()}
    try:
        schedule: lr_scheduler.LRScheduler = make(optimizer, **options)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} refuses its options: {error}") from error
    schedule.every = every  # type: ignore[attr-defined]
    return schedule


torch_scheduler.example = lambda folder: {"name": "CosineAnnealingLR", "args": {"T_max": "epochs"}}  # type: ignore[attr-defined]
