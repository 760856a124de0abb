"""How large a network may become while it is made: a hostile `model.toml` must not fill the memory, or take hours.

Components are the plugins' own, with any options, so their size is not known before. It is counted as they register
their layers and numbers, which they do before the numbers are filled: the memory of a huge layer is promised then, but
not used. An integer option is limited as well (`limits.WIDTH`), against tables and loops without layers.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn
from torch.nn.modules import module as hooks

from soundbench import limits

__all__ = ["bounded"]


@contextmanager
def bounded() -> Iterator[None]:
    """Count the layers and numbers of the modules that are made in the body.

    Raises:
        ValueError: there are more than `limits.MODULES` or `limits.NUMBERS`.
    """
    modules = numbers = 0

    def count_module(_owner: nn.Module, _name: str, _inner: nn.Module | None) -> None:
        nonlocal modules
        modules += 1
        if modules > limits.MODULES:
            raise ValueError(f"would have more than {limits.MODULES:,} layers; lower its options")

    def count_numbers(_owner: nn.Module, _name: str, tensor: Any) -> None:
        nonlocal numbers
        numbers += tensor.numel() if isinstance(tensor, Tensor) and not _lazy(tensor) else 0
        if numbers > limits.NUMBERS:
            raise ValueError(f"would have more than {limits.NUMBERS:,} numbers; lower its options")

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


def _lazy(tensor: Tensor) -> bool:
    return nn.parameter.is_lazy(tensor)
