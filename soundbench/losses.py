"""The built-in losses, each imported on first use: `soundbench.losses.AAMSoftmax`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from soundbench_plugins.loss.aam_softmax import AAMSoftmax
    from soundbench_plugins.loss.bce import BCE
    from soundbench_plugins.loss.cross_entropy import CrossEntropy
    from soundbench_plugins.loss.focal import Focal

__all__ = [
    "AAMSoftmax",
    "BCE",
    "CrossEntropy",
    "Focal",
]


def __getattr__(name: str) -> Any:
    from soundbench.recipe.catalogue import built_in

    return built_in("loss", name)


def __dir__() -> list[str]:
    return sorted(__all__)
