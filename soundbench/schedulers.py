"""The built-in schedulers, each imported on first use: `soundbench.schedulers.constant`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from soundbench_plugins.scheduler.constant import constant
    from soundbench_plugins.scheduler.torch_scheduler import torch_scheduler
    from soundbench_plugins.scheduler.warmup_cosine import warmup_cosine

__all__ = [
    "constant",
    "torch_scheduler",
    "warmup_cosine",
]


def __getattr__(name: str) -> Any:
    from soundbench.recipe.catalogue import built_in

    return built_in("scheduler", name)


def __dir__() -> list[str]:
    return sorted(__all__)
