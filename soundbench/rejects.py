"""The built-in rejects, each imported on first use: `soundbench.rejects.Distance`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from soundbench_plugins.reject.distance import Distance
    from soundbench_plugins.reject.energy import Energy
    from soundbench_plugins.reject.max_logit import MaxLogit
    from soundbench_plugins.reject.none import NoReject

__all__ = [
    "Distance",
    "Energy",
    "MaxLogit",
    "NoReject",
]


def __getattr__(name: str) -> Any:
    from soundbench.recipe.catalogue import built_in

    return built_in("reject", name)


def __dir__() -> list[str]:
    return sorted(__all__)
