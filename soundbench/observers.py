"""The built-in observers, each imported on first use: `soundbench.observers.CsvLog`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from soundbench_plugins.observer.csv_log import CsvLog
    from soundbench_plugins.observer.mlflow import MLflow
    from soundbench_plugins.observer.progress import Progress
    from soundbench_plugins.observer.tensorboard import TensorBoard

__all__ = [
    "CsvLog",
    "MLflow",
    "Progress",
    "TensorBoard",
]


def __getattr__(name: str) -> Any:
    from soundbench.recipe.catalogue import built_in

    return built_in("observer", name)


def __dir__() -> list[str]:
    return sorted(__all__)
