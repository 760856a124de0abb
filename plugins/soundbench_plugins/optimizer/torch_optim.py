"""Any optimizer of `torch.optim` by name, with its own options in `args`."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import torch

__all__ = ["torch_optim"]

# LBFGS evaluates its loss several times per step, which the engine's accumulation and scaling do not allow.
_NAMES = sorted(
    name
    for name, member in vars(torch.optim).items()
    if inspect.isclass(member) and issubclass(member, torch.optim.Optimizer) and name not in ("Optimizer", "LBFGS")
)


def torch_optim(
    groups: Sequence[Mapping[str, Any]],
    *,
    name: str,
    lr: float = 1e-3,
    args: dict[str, Any] = {},  # noqa: B006
) -> torch.optim.Optimizer:
    """Any optimizer of torch.optim, by name.

    Args:
        groups: the parameter groups.
        name: name of the class, such as "RMSprop".
        lr: learning rate, for groups that set none.
        args: the class's other options, such as `{alpha = 0.95}`; a list is passed as a tuple.
    """
    if name not in _NAMES:
        nearest = difflib.get_close_matches(name, _NAMES, 1, 0.5)
        hint = f"did you mean {nearest[0]!r}? There are " if nearest else "there are "
        raise ValueError(f"torch.optim has no usable optimizer {name!r}; {hint}{', '.join(_NAMES)}")
    make = getattr(torch.optim, name)
    allowed = [option for option in inspect.signature(make).parameters if option not in ("params", "lr")]
    unknown = sorted(set(args) - set(allowed))
    if unknown:
        raise ValueError(f"torch.optim.{name} has no option {', '.join(unknown)}; it has {', '.join(allowed)}")
    options = {key: tuple(value) if isinstance(value, list) else value for key, value in args.items()}
    try:
        optimizer: torch.optim.Optimizer = make([dict(group) for group in groups], lr=lr, **options)
    except (TypeError, ValueError) as error:
        raise ValueError(f"torch.optim.{name} refuses its options: {error}") from error
    return optimizer


torch_optim.example = lambda folder: {"name": "RMSprop"}  # type: ignore[attr-defined]
