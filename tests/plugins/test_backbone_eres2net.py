"""ERes2Net and ERes2NetV2 against a plain rendering of the papers, and their sizes."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from soundbench_plugins.backbone.eres2net import ERes2Net
from soundbench_plugins.backbone.eres2netv2 import ERes2NetV2
from soundbench_plugins.layers.eres2 import AttentiveFusion, Block
from soundbench_plugins.layers.images import ConvNorm
from soundbench_plugins.pooling.tsp import TSP
from torch import Tensor, nn
from torch.nn import functional as F

SMALL = {"layers": [1, 2, 2, 1], "width": 8}


@pytest.mark.parametrize(("kind", "count"), [(ERes2Net, 6_612_618), (ERes2NetV2, 5_460_132)])
def test_it_has_the_published_number_of_parameters(kind: type[nn.Module], count: int) -> None:
    backbone = kind(80)
    pooling = TSP(backbone.channels)
    head = [nn.Linear(pooling.features, 192), nn.Linear(192, 10)]
    assert backbone.channels == 5120
    assert sum(p.numel() for p in nn.ModuleList([backbone, pooling, *head]).parameters()) == count
    assert kind.default_pooling == {"use": "tsp"}
    assert kind.default_head == {"embedding": 192}


def norm(layer: ConvNorm, x: Tensor, stride: int = 1) -> Tensor:
    weight = layer.conv.weight
    return layer.norm(F.conv2d(x, weight, stride=stride, padding=weight.shape[-1] // 2))


def fuse(layer: AttentiveFusion, x: Tensor, y: Tensor) -> Tensor:
    hidden = F.silu(layer.squeeze_norm(layer.squeeze(torch.cat([x, y], 1))))
    weight = layer.excite_norm(layer.excite(hidden)).tanh()
    return x * (1 + weight) + y * (1 - weight)


def plain_block(block: Block, x: Tensor, attentive: bool) -> Tensor:
    stride = 2 if block.halve else 1
    parts = norm(block.reduce, x, stride).clamp(0, 20).chunk(len(block.groups), 1)
    made = [norm(block.groups[0], parts[0]).clamp(0, 20)]
    for i, part in enumerate(parts[1:]):
        part = fuse(block.fusions[i], made[-1], part) if attentive else made[-1] + part
        made.append(norm(block.groups[i + 1], part).clamp(0, 20))
    shortcut = x if block.shortcut is None else norm(block.shortcut, x, stride)
    return (norm(block.expand, torch.cat(made, 1)) + shortcut).clamp(0, 20)


def plain(network: ERes2Net | ERes2NetV2, features: Tensor) -> Tensor:
    x = norm(network.trunk.stem, features[:, None]).relu()
    stages = []
    for place, stage in enumerate(network.trunk.stages):
        for block in stage:
            x = plain_block(block, x, attentive=place >= 2)
        stages.append(x)
    if isinstance(network, ERes2NetV2):
        lower = F.conv2d(stages[-2], network.downsample.weight, stride=2, padding=1)
        return fuse(network.fusion, stages[-1], lower).flatten(1, 2)
    fused = stages[0]
    for x, downsample, fusion in zip(stages[1:], network.downsamples, network.fusions, strict=True):
        fused = fuse(fusion, x, F.conv2d(fused, downsample.weight, stride=2, padding=1))
    return fused.flatten(1, 2)


@pytest.mark.parametrize("kind", [ERes2Net, ERes2NetV2])
@pytest.mark.parametrize("scale", [2, 3])
@pytest.mark.parametrize(("bands", "frames"), [(24, 40), (19, 61)])
def test_it_computes_what_the_papers_say(
    kind: type[ERes2Net] | type[ERes2NetV2], scale: int, bands: int, frames: int
) -> None:
    torch.manual_seed(0)
    network = kind(bands, **SMALL, scale=scale).double().train()
    nn.init.constant_(network.trunk.stages[1][0].expand.norm.weight, 15.0)  # so that the cut at 20 is felt
    x = torch.randn(3, bands, frames, dtype=torch.float64)
    y, lengths = network(x, torch.full((3,), frames))
    expected = plain(network, x)
    assert expected.shape == (3, network.channels, -(-frames // 8))
    assert lengths.tolist() == [expected.shape[2]] * 3
    torch.testing.assert_close(y, expected)
    parameters = list(network.parameters())
    wanted = torch.autograd.grad(expected.square().sum(), parameters)
    for got, want in zip(torch.autograd.grad(y.square().sum(), parameters), wanted, strict=True):
        torch.testing.assert_close(got, want)


def test_the_second_version_rounds_its_groups_down() -> None:
    stages = ERes2NetV2(80).trunk.stages
    assert [stage[0].groups[0].conv.out_channels for stage in stages] == [13, 26, 52, 104]


def test_widths_double_from_stage_to_stage() -> None:
    assert all(2 * a == b for a, b in pairwise(ERes2Net(16, **SMALL, expansion=4).trunk.widths))
    assert ERes2Net(16, **SMALL, expansion=4).channels == 8 * 8 * 4 * 2


@pytest.mark.parametrize("kind", [ERes2Net, ERes2NetV2])
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layers": [3]}, "layers must be at least two numbers from 1, one per stage, is [3]"),
        ({"layers": [3, 0]}, "layers must be at least two numbers from 1, one per stage, is [3, 0]"),
        ({"width": 0}, "width must be at least 1, is 0"),
        ({"scale": 1}, "scale must be at least 2, is 1"),
        ({"expansion": 0}, "expansion must be at least 1, is 0"),
        ({"base_width": 1}, "base_width must be at least 2 where width is 32, is 1"),
    ],
)
def test_an_option_out_of_range_is_refused(kind: type[nn.Module], options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        kind(80, **options)
    assert str(caught.value) == message
