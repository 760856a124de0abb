"""Decides whether sound is of none of the classes, from the evidence of its windows."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import attrs
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from soundbench.errors import RunError
from soundbench.model.rejecting.rule import Rule
from soundbench.recipe.tables import Reject

__all__ = ["Rejector", "computed", "fill", "state_of"]

_BLOCK = 1 << 14  # windows whose scores are computed at a time


@attrs.frozen(eq=False)
class Rejector(Rule):
    """What rejects sound.

    Attributes:
        module: the component that gives the reject scores of windows.
        clip: sound whose mean score over its windows is lower is rejected; None where no threshold was fitted.
        window: the same for a single window.
        silence: whether digital silence is rejected.
    """

    module: nn.Module
    clip: float | None = None
    window: float | None = None
    silence: bool = True

    @classmethod
    def of(cls, module: Any, own: Reject, device: torch.device) -> Rejector:
        """A component on a device, with the thresholds of the table `[reject]`."""
        module.to(device).eval()
        return cls(module, own.clip_threshold, own.window_threshold, own.silence)

    @property
    def embeddings(self) -> bool:
        """Whether the component needs embeddings."""
        return bool(getattr(self.module, "embeddings", False))

    def scores(self, logits: Tensor, embeddings: Tensor | None) -> Tensor:
        """The reject scores `(B,)` of logits `(B, K)` and embeddings `(B, D)`."""
        found: Tensor = self.module(logits, embeddings)
        return found


def state_of(module: nn.Module) -> dict[str, Tensor]:
    """What a component has been fitted to: its tensors, by their names."""
    return {name: tensor.detach().cpu().contiguous() for name, tensor in module.state_dict().items()}


def fill(module: nn.Module, state: Mapping[str, Tensor], source: str) -> None:
    """Give a component what it was fitted to. Tensors may have another shape than in one that is not fitted.

    Raises:
        RunError: the names of the tensors are not those of the component, or a value is not finite.
    """
    wanted = set(module.state_dict())
    if others := sorted(wanted ^ set(state)):
        raise RunError(f"{source}: damaged: its tensors do not fit the component: {', '.join(others[:5])}")
    for name, tensor in state.items():
        if tensor.is_floating_point() and not math.isfinite(float(tensor.double().abs().sum())):
            raise RunError(f"{source}: damaged: {name} has values that are not finite")
        place, _, own = name.rpartition(".")
        owner = module.get_submodule(place)
        if isinstance(getattr(owner, own), nn.Parameter):
            getattr(owner, own).data = tensor
        else:
            owner.register_buffer(own, tensor)
    module.requires_grad_(False)


def computed(
    rejector: Rejector, logits: NDArray[np.float32], embeddings: NDArray[np.float32] | None
) -> NDArray[np.float32]:
    """The reject scores `(V,)` of arrays of logits `(V, K)` and embeddings `(V, D)`."""
    device = next(rejector.module.buffers(), torch.empty(0)).device
    found = [np.empty(0, np.float32)]
    for own in (slice(first, first + _BLOCK) for first in range(0, len(logits), _BLOCK)):
        with torch.inference_mode():
            vectors = None
            if embeddings is not None and rejector.embeddings:
                vectors = torch.from_numpy(embeddings[own]).to(device)
            scores = rejector.scores(torch.from_numpy(logits[own]).to(device), vectors)
            found.append(scores.float().cpu().numpy())
    return np.concatenate(found)
