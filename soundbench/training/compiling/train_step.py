"""What one optimizer step computes, from waveforms to losses, as one module, which is wrapped by DDP and compiled."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import attrs
import torch
from torch import Tensor, nn

from soundbench.chance import Chance, Keyed, Noted
from soundbench.contracts import Augmentation, Batch, Loss
from soundbench.model.network import Network

__all__ = ["Placed", "TrainStep", "tensors_of"]

Placed = Sequence[tuple[str, Augmentation]]
"""Augmentations with their place in the recipe, which addresses their random draws."""


class TrainStep(nn.Module):
    """Network, augmentations on features, and loss as one module.

    It takes the tensors of a `Batch` of waveforms, and returns the loss of each row `(B,)` and the targets `(B, K)`
    after the augmentations.

    Attributes:
        draws: what `keys` are for: the place of a component, and what it draws; `note_draws` finds them out.
        compute: `losses`, compiled; None where they are not. It is no module, so that no weight has another name.
    """

    def __init__(self, network: Network, augmentations: Placed, loss: Loss, seed: int) -> None:
        super().__init__()
        self.network = network
        self.loss = loss
        self.seed = seed
        self.places = [place for place, _ in augmentations]
        self.augmentations = nn.ModuleList([module for _, module in augmentations])  # type: ignore[misc]
        self.draws: list[tuple[str, str]] = []
        self.compute: Callable[..., tuple[Tensor, Tensor]] | None = None

    def forward(self, *given: Any) -> tuple[Tensor, Tensor]:
        """See `losses`."""
        return (self.compute or self.losses)(*given)

    def losses(
        self,
        data: Tensor,
        lengths: Tensor,
        target: Tensor,
        index: Tensor,
        position: Tensor,
        epoch: int,
        keys: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Losses and targets of a batch of waveforms.

        Args:
            data: these five are those of a `Batch`.
            lengths: see there.
            target: see there.
            index: see there.
            position: see there.
            epoch: random draws are those of this epoch.
            keys: those of the epoch, on the device; where there are some, the epoch is not looked at.
        """
        features, frames = self.network.features(data, lengths)
        batch = Batch(features, frames, target, index, position)
        for place in self.places:
            batch = self.augmented(place, batch, epoch, keys)
        logits = self.network.classify(batch.data, batch.lengths)
        return self.loss(logits.float(), batch.target), batch.target

    def augmented(self, place: str, batch: Batch, epoch: int, keys: Tensor | None) -> Batch:
        """A batch of features after the augmentation at a place; the last two are those of `losses`."""
        chance = Chance(self.seed, epoch, place) if keys is None else Keyed(keys, self.draws, place)
        augmented: Batch = self.augmentations[self.places.index(place)](batch, chance)
        return augmented

    def note_draws(self, batch: Batch) -> None:
        """Find out what the augmentations draw, by augmenting the features of a batch once."""
        found: list[tuple[str, str]] = []
        with torch.no_grad():
            features, lengths = self.network.features(batch.data, batch.lengths)
            batch = attrs.evolve(batch, data=features, lengths=lengths)
            for place, augment in zip(self.places, self.augmentations, strict=True):
                chance = Noted(self.seed, 1, place)
                batch = augment(batch, chance)
                found += [(place, draw) for draw in chance.draws]
        self.draws = found

    def keys(self, epoch: int) -> Tensor:
        """The keys of an epoch for all that is drawn, `(N,)` int64 on the CPU."""
        return torch.tensor(
            [Chance(self.seed, epoch, place).key(draw) for place, draw in self.draws], dtype=torch.int64
        )


def tensors_of(batch: Batch) -> tuple[Tensor, ...]:
    """What a step takes of a batch, in its order."""
    return batch.data, batch.lengths, batch.target, batch.index, batch.position
