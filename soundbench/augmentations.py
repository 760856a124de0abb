"""The built-in augmentations, each imported on first use: `soundbench.augmentations.Background`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from soundbench_plugins.augmentation.background import Background
    from soundbench_plugins.augmentation.crop import Crop
    from soundbench_plugins.augmentation.filter import Filter
    from soundbench_plugins.augmentation.gain import Gain
    from soundbench_plugins.augmentation.mixup import Mixup
    from soundbench_plugins.augmentation.noise import Noise
    from soundbench_plugins.augmentation.outlier_exposure import OutlierExposure
    from soundbench_plugins.augmentation.pitch import Pitch
    from soundbench_plugins.augmentation.polarity import Polarity
    from soundbench_plugins.augmentation.reverb import Reverb
    from soundbench_plugins.augmentation.spec_augment import SpecAugment
    from soundbench_plugins.augmentation.speed import Speed
    from soundbench_plugins.augmentation.tempo import Tempo
    from soundbench_plugins.augmentation.time_shift import TimeShift

__all__ = [
    "Background",
    "Crop",
    "Filter",
    "Gain",
    "Mixup",
    "Noise",
    "OutlierExposure",
    "Pitch",
    "Polarity",
    "Reverb",
    "SpecAugment",
    "Speed",
    "Tempo",
    "TimeShift",
]


def __getattr__(name: str) -> Any:
    from soundbench.recipe.catalogue import built_in

    return built_in("augmentation", name)


def __dir__() -> list[str]:
    return sorted(__all__)
