"""Res2Net against a plain rendering of the paper, its size, and the network of macls that it can be."""

from __future__ import annotations

import pytest
import torch
from soundbench_plugins.backbone.res2net import Bottleneck, Res2Net
from soundbench_plugins.layers.images import ConvNorm
from soundbench_plugins.pooling.asp import ASP
from torch import Tensor, nn
from torch.nn import functional as F

MACLS = {"scale": 2, "base_width": 32}


def parameters(context: bool, **options: int) -> int:
    backbone = Res2Net(80, **options)
    pooling = ASP(backbone.channels, context=context)
    width = pooling.features
    head = [nn.BatchNorm1d(width), nn.Linear(width, 192), nn.BatchNorm1d(192), nn.Linear(192, 10)]
    assert backbone.channels == 2048
    return sum(p.numel() for p in nn.ModuleList([backbone, pooling, *head]).parameters())


@pytest.mark.parametrize(("context", "count"), [(True, 5_613_770), (False, 5_089_482)])
def test_it_is_as_large_as_that_of_macls_or_within_a_hundredth(context: bool, count: int) -> None:
    assert parameters(context, **MACLS) == count
    assert parameters(context) == pytest.approx(count, rel=0.01)


def test_its_defaults_are_attentive_pooling_and_an_embedding_between_norms() -> None:
    assert Res2Net.default_pooling == {"use": "asp"}
    assert Res2Net.default_head == {"embedding": 192, "norm_before": True, "norm_after": "affine"}


def norm(layer: ConvNorm, x: Tensor, stride: int = 1) -> Tensor:
    weight = layer.conv.weight
    return layer.norm(F.conv2d(x, weight, stride=stride, padding=weight.shape[-1] // 2))


def plain_block(block: Bottleneck, x: Tensor, first: bool) -> Tensor:
    stride = 2 if block.halve else 1
    *parts, last = norm(block.reduce, x).relu().chunk(len(block.groups) + 1, 1)
    made = []
    for layer, part in zip(block.groups, parts, strict=True):
        made.append(norm(layer, part if first or not made else part + made[-1], stride).relu())
    made.append(F.avg_pool2d(last, 3, stride, padding=1) if first else last)
    return (norm(block.expand, torch.cat(made, 1)) + (norm(block.shortcut, x, stride) if first else x)).relu()


def plain(network: Res2Net, features: Tensor) -> Tensor:
    x = F.conv2d(features[:, None], network.stem.weight, stride=3, padding=1)
    x = F.max_pool2d(network.stem_norm(x).relu(), 3, stride=2, padding=1)
    for stage in network.stages:
        for place, block in enumerate(stage):
            x = plain_block(block, x, first=place == 0)
    return x.flatten(1, 2)


@pytest.mark.parametrize("scale", [2, 4])
@pytest.mark.parametrize(("bands", "frames"), [(32, 60), (23, 83)])
def test_it_computes_what_the_paper_says(scale: int, bands: int, frames: int) -> None:
    torch.manual_seed(0)
    network = Res2Net(bands, layers=[2, 1, 2], width=8, base_width=16, scale=scale).double().train()
    x = torch.randn(3, bands, frames, dtype=torch.float64)
    y, lengths = network(x, torch.full((3,), frames))
    expected = plain(network, x)
    assert expected.shape == (3, network.channels, y.shape[2])
    assert lengths.tolist() == [expected.shape[2]] * 3
    torch.testing.assert_close(y, expected)
    parameters = list(network.parameters())
    wanted = torch.autograd.grad(expected.square().sum(), parameters)
    for got, want in zip(torch.autograd.grad(y.square().sum(), parameters), wanted, strict=True):
        torch.testing.assert_close(got, want)


@pytest.mark.parametrize("frames", [5, 6, 20, 52])
def test_padding_a_short_batch_changes_nothing(frames: int) -> None:
    torch.manual_seed(0)
    network = Res2Net(80, layers=[1, 1, 1, 1], width=8).double().eval()
    x = torch.randn(2, 80, frames, dtype=torch.float64)
    y, lengths = network(x, torch.full((2,), frames))
    assert lengths.tolist() == [1, 1]
    torch.testing.assert_close(y[..., :1], plain(network, x))


@pytest.mark.parametrize("frames", [1, 4])
def test_a_row_shorter_than_five_frames_is_one_of_five_that_ends_in_zeros(frames: int) -> None:
    torch.manual_seed(0)
    network = Res2Net(40, layers=[1, 1, 1, 1], width=8).eval()
    x = torch.randn(1, 40, frames)
    y, lengths = network(x, torch.tensor([frames]))
    extended, _ = network(F.pad(x, (0, 5 - frames)), torch.tensor([5]))
    assert lengths.tolist() == [1]
    assert torch.equal(y, extended)


def test_convolutions_are_drawn_for_their_fan_out() -> None:
    conv = Res2Net(80).stages[3][1].groups[0].conv
    assert conv.weight.std().item() == pytest.approx((2 / (68 * 9)) ** 0.5, rel=0.02)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layers": []}, "layers must be a list of numbers from 1, one per stage, is []"),
        ({"layers": [3, 0]}, "layers must be a list of numbers from 1, one per stage, is [3, 0]"),
        ({"width": 0}, "width must be at least 1, is 0"),
        ({"scale": 1}, "scale must be at least 2, is 1"),
        ({"base_width": 1}, "base_width must be at least 2 where width is 32, is 1"),
    ],
)
def test_an_option_out_of_range_is_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        Res2Net(80, **options)
    assert str(caught.value) == message
