"""Any schedule of `torch.optim.lr_scheduler` that plain options can describe, by its name."""

from __future__ import annotations

import difflib
import inspect
from typing import Any, Literal

from torch.optim import Optimizer, lr_scheduler

__all__ = ["torch_scheduler"]

# Those that are made of functions or of other schedules, or that wait for a score, cannot be told in a recipe.
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
    """Any schedule of torch.optim.lr_scheduler, by name.

    The schedule that comes back has an attribute `every`, this option: it stands above the function's own.

    Args:
        optimizer: whose rates are scaled.
        steps: of the whole run.
        steps_per_epoch: of one epoch.
        name: the class, such as "CosineAnnealingLR".
        args: the class's options, such as `{T_max = "epochs"}`: the words "steps" and "epochs" stand for the run's.
        every: whether it is stepped at each step or at the end of each epoch.
    """
    if name not in _NAMES:
        nearest = difflib.get_close_matches(name, _NAMES, 1, 0.5)
        hint = f"did you mean {nearest[0]!r}? There are " if nearest else "there are "
        raise ValueError(f"torch.optim.lr_scheduler has no {name!r} that could be used here; {hint}{', '.join(_NAMES)}")
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
