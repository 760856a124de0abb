"""The built-in calibrations, each imported on first use: `soundbench.calibrations.NoCalibration`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from soundbench_plugins.calibration.none import NoCalibration
    from soundbench_plugins.calibration.platt import Platt
    from soundbench_plugins.calibration.temperature import Temperature

__all__ = [
    "NoCalibration",
    "Platt",
    "Temperature",
]


def __getattr__(name: str) -> Any:
    from soundbench.recipe.catalogue import built_in

    return built_in("calibration", name)


def __dir__() -> list[str]:
    return sorted(__all__)
