"""Built-in backbones without their batch norms: the scores of the network in float64, padded or not."""

from __future__ import annotations

import copy

import pytest
import torch
from helpers.small_backbones import SMALL_BACKBONES
from torch import nn

from soundbench import Recipe
from soundbench.model.assembly import assemble
from soundbench.model.folding.norms import folded

RATE = 16000


@pytest.mark.parametrize("name", SMALL_BACKBONES)
def test_scores_are_those_of_the_network_with_its_norms(name: str) -> None:
    torch.manual_seed(0)
    made = assemble(Recipe(dataset="tones", backbone={"use": name} | SMALL_BACKBONES[name]))
    network = made.network.train()
    with torch.no_grad():  # norms learn what they see
        network(0.1 * torch.randn(8, RATE // 4), torch.full((8,), RATE // 4))
    exact = copy.deepcopy(network.eval()).double()
    found = folded(network)
    count, left = (
        sum(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in one.modules()) for one in (network, found)
    )
    assert left < count
    size = RATE // 2
    sound = 0.1 * torch.randn(3, size, generator=torch.Generator().manual_seed(1))
    for lengths in (torch.full((3,), size), torch.tensor([size, 1700, size - 1])):
        with torch.inference_mode():
            scores = made.loss.scores(found(sound, lengths)).double()
            wanted = made.loss.scores(exact(sound.double(), lengths))
        torch.testing.assert_close(scores, wanted, rtol=0, atol=1e-5)
