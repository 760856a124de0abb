"""A network of toys."""

from __future__ import annotations

import torch
from torch import nn

from helpers.toys import ToyBackbone, ToyFeaturizer, ToyPooling
from soundbench.model.network import Head, Network


def toy_network(featurizer: nn.Module | None = None, head: Head | None = None) -> Network:
    """Of five classes at 8 kHz, with the same weights each time."""
    torch.manual_seed(0)
    return Network(featurizer or ToyFeaturizer(8000), ToyBackbone(32), ToyPooling(16), head or Head(16, 5, embedding=8))
