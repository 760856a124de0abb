"""The built-in backbones, each imported on first use: `soundbench.backbones.CAMPPlus`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from soundbench_plugins.backbone.campplus import CAMPPlus
    from soundbench_plugins.backbone.ecapa_tdnn import EcapaTdnn
    from soundbench_plugins.backbone.eres2net import ERes2Net
    from soundbench_plugins.backbone.eres2netv2 import ERes2NetV2
    from soundbench_plugins.backbone.identity import Identity
    from soundbench_plugins.backbone.mobilenet import MobileNet
    from soundbench_plugins.backbone.panns import CNN6, CNN10, CNN14
    from soundbench_plugins.backbone.res2net import Res2Net
    from soundbench_plugins.backbone.resnet_se import ResNetSE
    from soundbench_plugins.backbone.tdnn import TDNN

__all__ = [
    "CAMPPlus",
    "CNN10",
    "CNN14",
    "CNN6",
    "ERes2Net",
    "ERes2NetV2",
    "EcapaTdnn",
    "Identity",
    "MobileNet",
    "Res2Net",
    "ResNetSE",
    "TDNN",
]


def __getattr__(name: str) -> Any:
    from soundbench.recipe.catalogue import built_in

    return built_in("backbone", name)


def __dir__() -> list[str]:
    return sorted(__all__)
