"""What one training step computes, as one module: the network, augmentations on its features, the loss."""

from __future__ import annotations

from collections.abc import Sequence

import attrs
from torch import Tensor, nn

from soundbench.chance import Chance
from soundbench.contracts import Augmentation, Batch, Loss
from soundbench.network import Network

__all__ = ["Placed", "TrainStep"]

Placed = Sequence[tuple[str, Augmentation]]
"""Augmentations with their place in the recipe, by which their chance is addressed."""


class TrainStep(nn.Module):
    """Network, augmentations on features, and loss as one module, which DDP and `torch.compile` wrap.

    Its output is the loss of each row `(B,)`, and the targets `(B, K)` as the augmentations left them.
    """

    def __init__(self, network: Network, augmentations: Placed, loss: Loss, seed: int) -> None:
        super().__init__()
        self.network = network
        self.loss = loss
        self.seed = seed
        self.places = [place for place, _ in augmentations]
        self.augmentations = nn.ModuleList([module for _, module in augmentations])  # type: ignore[misc]

    def forward(self, batch: Batch, epoch: int) -> tuple[Tensor, Tensor]:
        """Losses and targets of a batch of waveforms."""
        features, lengths = self.network.features(batch.data, batch.lengths)
        batch = attrs.evolve(batch, data=features, lengths=lengths)
        for place, augment in zip(self.places, self.augmentations, strict=True):
            batch = augment(batch, Chance(self.seed, epoch, place))
        logits = self.network.classify(batch.data, batch.lengths)
        return self.loss(logits.float(), batch.target), batch.target
