"""The built-in optimizers, each imported on first use: `soundbench.optimizers.adam`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from soundbench_plugins.optimizer.adam import adam
    from soundbench_plugins.optimizer.adamw import adamw
    from soundbench_plugins.optimizer.sgd import sgd
    from soundbench_plugins.optimizer.torch_optim import torch_optim

__all__ = [
    "adam",
    "adamw",
    "sgd",
    "torch_optim",
]


def __getattr__(name: str) -> Any:
    from soundbench.recipe.catalogue import built_in

    return built_in("optimizer", name)


def __dir__() -> list[str]:
    return sorted(__all__)
