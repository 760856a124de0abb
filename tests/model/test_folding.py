"""A network without its batch norms computes what the network does, whatever uses its layers and norms have."""

from __future__ import annotations

import copy
import os
import subprocess
import sys
from collections.abc import Callable

import pytest
import torch
from helpers import TESTS
from helpers.networks import toy_network
from torch import Tensor, nn

from soundbench.model.folding.norms import folded
from soundbench.model.network import Network


class _Frames(nn.Module):
    """A backbone of one part, between two that are the same for all: `(B, F, T)` to the same."""

    channels = 16

    def __init__(self, part: nn.Module) -> None:
        super().__init__()
        self.part = part

    def forward(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        return self.part(features)[:, :16], lengths


class Plain(nn.Sequential):
    def __init__(self) -> None:
        super().__init__(nn.Conv1d(32, 16, 3, padding=1, bias=False), nn.BatchNorm1d(16), nn.ReLU())


class Large(nn.Sequential):
    """A layer of 4,128 products for each value, whose weights are not copied."""

    def __init__(self) -> None:
        super().__init__(nn.Conv1d(32, 16, 129, padding=64, bias=False), nn.BatchNorm1d(16))


class Image(nn.Module):
    """A norm of images, with channels innermost, whose convolution has a bias."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.norm = nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16, affine=False)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.layer(x.unsqueeze(1))).mean(2)


class Matrix(nn.Module):
    """Norms of rows: after a linear layer, and before one."""

    def __init__(self) -> None:
        super().__init__()
        self.before, self.layer, self.after = nn.BatchNorm1d(32), nn.Linear(32, 16, bias=False), nn.BatchNorm1d(16)

    def forward(self, x: Tensor) -> Tensor:
        rows = x.transpose(1, 2).flatten(0, 1)
        return self.after(self.layer(self.before(rows))).unflatten(0, (len(x), -1)).transpose(1, 2)


class Twice(Plain):
    """The output of the convolution goes around the norm, too."""

    def forward(self, x: Tensor) -> Tensor:
        inner = self[0](x)
        return self[1](inner) + inner


class Changed(Plain):
    """The output of the convolution is changed in place before the norm."""

    def forward(self, x: Tensor) -> Tensor:
        return self[1](self[0](x).relu_())


class OtherAxis(nn.Module):
    """The norm is over frames' places, of which there are as many as channels."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.norm = nn.Linear(32, 16), nn.BatchNorm1d(16)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.layer(x[:, :, :16].transpose(1, 2)))


class Shared(nn.Module):
    """Two layers of one weight, each with a norm of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.other = nn.Conv1d(32, 16, 1), nn.Conv1d(32, 16, 1)
        self.other.weight = self.one.weight
        self.norms = nn.ModuleList([nn.BatchNorm1d(16), nn.BatchNorm1d(16)])

    def forward(self, x: Tensor) -> Tensor:
        return self.norms[0](self.one(x)) + self.norms[1](self.other(x))


class Half(nn.Conv1d):
    """A convolution of its own kind, which ignores any bias."""

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.conv1d(x, self.weight / 2)


class OfItsOwn(nn.Sequential):
    def __init__(self) -> None:
        super().__init__(Half(32, 16, 1, bias=False), nn.BatchNorm1d(16))


class Looked(Plain):
    """A constant of the norm is read beside it, after each of its calls."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * self[1].running_var.mean()


def network_of(part: nn.Module) -> Network:
    """A network with such a part, whose norms have learnt."""
    network = toy_network()
    network.backbone = _Frames(part)  # type: ignore[assignment]
    network.train()
    generator = torch.Generator().manual_seed(1)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.running_mean.normal_(generator=generator)  # type: ignore[union-attr]
            module.running_var.uniform_(0.1, 4, generator=generator)  # type: ignore[union-attr]
            if module.affine:
                nn.init.normal_(module.weight, generator=generator)
                nn.init.normal_(module.bias, generator=generator)
    return network.eval()


def norms_of(network: nn.Module) -> int:
    return sum(isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d) for module in network.modules())


def apart(one: Network, exact: Network) -> float:
    """How far the logits of sounds of several lengths are from those of a network in float64."""
    sound = 0.1 * torch.randn(3, 4000, generator=torch.Generator().manual_seed(2))
    lengths = torch.tensor([4000, 1500, 3999])
    with torch.inference_mode():
        return float((one(sound, lengths) - exact(sound.double(), lengths)).abs().max())


@pytest.mark.parametrize(
    ("part", "left"),
    [
        (Plain, 0),
        (Large, 1),
        (Image, 0),
        (Matrix, 0),
        (Twice, 1),
        (Changed, 1),
        (OtherAxis, 1),
        (Shared, 2),
        (OfItsOwn, 1),
    ],
)
def test_logits_are_those_of_the_network_with_its_norms(part: Callable[[], nn.Module], left: int) -> None:
    network = network_of(part())
    exact = copy.deepcopy(network).double()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    found = folded(network)
    assert (norms_of(network.backbone), norms_of(found.backbone)) == (max(left, norms_of(network.backbone)), left)
    assert apart(found, exact) < 1e-5
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    assert found.head.classify.weight is network.head.classify.weight


def test_a_network_that_reads_its_norms_is_left_as_it_is() -> None:
    network = network_of(Looked())
    assert folded(network) is network


def test_a_network_without_norms_is_itself() -> None:
    network = toy_network().eval()
    network.backbone = _Frames(nn.Conv1d(32, 16, 1))  # type: ignore[assignment]
    assert folded(network) is network


def test_the_compiler_of_pytorch_is_not_imported_for_it() -> None:
    program = """
import sys
from helpers.networks import toy_network
from soundbench.model.folding.norms import folded
folded(toy_network().eval())
assert "torch._dynamo" not in sys.modules
"""
    path = os.pathsep.join([str(TESTS), *sys.path])
    command = [sys.executable, "-c", program]
    found = subprocess.run(command, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True)
    assert found.returncode == 0, found.stderr
