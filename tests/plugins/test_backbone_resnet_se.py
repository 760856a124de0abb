"""ResNetSE against a plain rendering of the papers, and its size."""

from __future__ import annotations

import pytest
import torch
from soundbench_plugins.backbone.resnet_se import Bottleneck, ResNetSE
from soundbench_plugins.pooling.asp import ASP
from torch import Tensor, nn
from torch.nn import functional as F


@pytest.mark.parametrize(("context", "count"), [(True, 9_125_826), (False, 7_815_106)])
def test_it_has_the_known_number_of_parameters(context: bool, count: int) -> None:
    backbone = ResNetSE(80)
    pooling = ASP(backbone.channels, context=context)
    width = pooling.features
    head = [nn.BatchNorm1d(width), nn.Linear(width, 192), nn.BatchNorm1d(192), nn.Linear(192, 10)]
    assert backbone.channels == 5120
    assert sum(p.numel() for p in nn.ModuleList([backbone, pooling, *head]).parameters()) == count


def test_its_defaults_are_attentive_pooling_and_an_embedding_between_norms() -> None:
    assert ResNetSE.default_pooling == {"use": "asp"}
    assert ResNetSE.default_head == {"embedding": 192, "norm_before": True, "norm_after": "affine"}


def plain_block(block: Bottleneck, x: Tensor) -> Tensor:
    """A bottleneck as the papers tell it: strided convolutions, and a mean over all that there is."""
    stride = 2 if block.halve else 1
    inner = block.reduce.norm(F.conv2d(x, block.reduce.conv.weight)).relu()
    inner = block.middle.norm(F.conv2d(inner, block.middle.conv.weight, stride=stride, padding=1)).relu()
    inner = block.expand.norm(F.conv2d(inner, block.expand.conv.weight))
    gate = block.gate.excite(block.gate.squeeze(inner.mean((2, 3))).relu()).sigmoid()[:, :, None, None]
    if block.shortcut is not None:
        x = block.shortcut.norm(F.conv2d(x, block.shortcut.conv.weight, stride=stride))
    return (inner * gate + x).relu()


@pytest.mark.parametrize(("bands", "frames"), [(24, 5), (24, 40), (19, 61)])
def test_it_computes_what_the_papers_say(bands: int, frames: int) -> None:
    torch.manual_seed(0)
    network = ResNetSE(bands, layers=[2, 1, 2], widths=[8, 12, 16]).double().train()
    x = torch.randn(3, bands, frames, dtype=torch.float64)
    y, lengths = network(x, torch.full((3,), frames))
    given = network.stem.norm(network.stem.conv(x[:, None])).relu()
    for stage in network.stages:
        for block in stage:
            given = plain_block(block, given)
    expected = given.flatten(1, 2)
    assert expected.shape == (3, network.channels, -(-frames // 4))
    assert lengths.tolist() == [expected.shape[2]] * 3
    y = y[..., : expected.shape[2]]
    torch.testing.assert_close(y, expected)
    parameters = list(network.parameters())
    wanted = torch.autograd.grad(expected.square().sum(), parameters)
    for got, want in zip(torch.autograd.grad(y.square().sum(), parameters), wanted, strict=True):
        torch.testing.assert_close(got, want)


def test_convolutions_are_drawn_for_their_fan_out() -> None:
    conv = ResNetSE(80).stages[3][1].middle.conv
    assert conv.weight.std().item() == pytest.approx((2 / (256 * 9)) ** 0.5, rel=0.02)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layers": []}, "layers must be a list of numbers from 1, one per stage, is []"),
        ({"layers": [3, 0, 1, 1]}, "layers must be a list of numbers from 1, one per stage, is [3, 0, 1, 1]"),
        ({"widths": [32, 64]}, "widths must be 4 numbers from 8, one per stage, is [32, 64]"),
        ({"widths": [4, 8, 8, 8]}, "widths must be 4 numbers from 8, one per stage, is [4, 8, 8, 8]"),
    ],
)
def test_an_option_out_of_range_is_refused(options: dict[str, list[int]], message: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        ResNetSE(80, **options)
    assert str(caught.value) == message
