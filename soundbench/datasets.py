"""The built-in datasets, each imported on first use: `soundbench.datasets.Annotations`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from soundbench_plugins.dataset.annotations import Annotations
    from soundbench_plugins.dataset.dialects_3dspeaker import Dialects3DSpeaker
    from soundbench_plugins.dataset.esc50 import ESC50
    from soundbench_plugins.dataset.folder import Folder
    from soundbench_plugins.dataset.manifest import Manifest
    from soundbench_plugins.dataset.speech_commands import SpeechCommands
    from soundbench_plugins.dataset.tones import Tones
    from soundbench_plugins.dataset.urbansound8k import UrbanSound8K
    from soundbench_plugins.dataset.voxceleb_cnceleb import VoxCelebCNCeleb

__all__ = [
    "Annotations",
    "Dialects3DSpeaker",
    "ESC50",
    "Folder",
    "Manifest",
    "SpeechCommands",
    "Tones",
    "UrbanSound8K",
    "VoxCelebCNCeleb",
]


def __getattr__(name: str) -> Any:
    from soundbench.recipe.catalogue import built_in

    return built_in("dataset", name)


def __dir__() -> list[str]:
    return sorted(__all__)
