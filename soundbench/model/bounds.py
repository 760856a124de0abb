"""How large a network may become while it is made: a hostile `model.toml` must not fill the memory, or take hours.

Components are the plugins' own, with any options, so their size is not known before. It is counted as they register
their layers and numbers, which torch's layers do before they fill them: the memory of a huge layer is promised by then,
but not used. Integer options are limited as well (`limits.WIDTH`), against loops and tables without layers. (To make a
component on torch's meta device first would cost nothing, but constants of modules that it imports, and what it caches,
would stay there.)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

from torch import Tensor, nn
from torch.nn.modules import module as hooks

from soundbench import limits

__all__ = ["made_within_bounds"]

T = TypeVar("T")


def made_within_bounds(make: Callable[..., T], supplied: tuple[Any, ...], options: Mapping[str, Any]) -> T:
    """The component `make(*supplied, **options)`.

    Raises:
        ValueError: it would have more than `limits.MODULES` layers or `limits.NUMBERS` numbers, or with an unusually
            large option more than `limits.SIZED`; or what `make` raises.
    """
    odd = any(_is_odd(value) for value in options.values())
    with _counted(limits.SIZED if odd else limits.NUMBERS):
        return make(*supplied, **options)


def _is_odd(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return any(_is_odd(item) for item in value)
    return isinstance(value, int | float) and abs(value) >= limits.ODD


@contextmanager
def _counted(most: int) -> Iterator[None]:
    """Count the layers and numbers of the modules that are made in the body."""
    modules = numbers = 0

    def count_module(_owner: nn.Module, _name: str, _inner: nn.Module | None) -> None:
        nonlocal modules
        modules += 1
        if modules > limits.MODULES:
            raise ValueError(f"would have more than {limits.MODULES:,} layers; lower its options")

    def count_numbers(_owner: nn.Module, _name: str, tensor: Any) -> None:
        nonlocal numbers
        numbers += tensor.numel() if isinstance(tensor, Tensor) and not nn.parameter.is_lazy(tensor) else 0
        if numbers > most:
            raise ValueError(f"would have more than {most:,} numbers; lower its options")

    handles = [
        hooks.register_module_module_registration_hook(count_module),
        hooks.register_module_parameter_registration_hook(count_numbers),
        hooks.register_module_buffer_registration_hook(count_numbers),
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
