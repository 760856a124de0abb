"""The built-in poolings, each imported on first use: `soundbench.poolings.ASP`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from soundbench_plugins.pooling.asp import ASP
    from soundbench_plugins.pooling.max_mean import MaxMean
    from soundbench_plugins.pooling.sap import SAP
    from soundbench_plugins.pooling.tap import TAP
    from soundbench_plugins.pooling.tsp import TSP

__all__ = [
    "ASP",
    "MaxMean",
    "SAP",
    "TAP",
    "TSP",
]


def __getattr__(name: str) -> Any:
    from soundbench.recipe.catalogue import built_in

    return built_in("pooling", name)


def __dir__() -> list[str]:
    return sorted(__all__)
