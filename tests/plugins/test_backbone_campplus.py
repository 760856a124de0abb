"""CAM++ against a plain rendering of the paper, and its promises to the rows of a batch."""

from __future__ import annotations

import copy

import pytest
import torch
from soundbench_plugins.backbone.campplus import CAMPPlus, DenseLayer, Residual
from soundbench_plugins.pooling.tsp import TSP
from torch import Tensor, nn
from torch.export import Dim, export
from torch.nn import functional as F

SMALL = {"growth": 4, "width": 8, "front": 4, "layers": [2, 3, 2]}


def _lived_in(module: nn.Module) -> nn.Module:
    """The module in evaluation, with running statistics as training leaves them, not zeros and ones."""
    torch.manual_seed(3)
    for name, buffer in module.named_buffers():
        if name.endswith("running_mean"):
            buffer.normal_(0.0, 0.3)
        if name.endswith("running_var"):
            buffer.uniform_(0.5, 2.0)
    return module.eval()


def _small(bands: int = 20) -> CAMPPlus:
    torch.manual_seed(0)
    return CAMPPlus(bands, **SMALL)


def test_it_has_the_published_number_of_parameters() -> None:
    backbone = CAMPPlus(80)
    pooling = TSP(backbone.channels)
    head = [nn.Linear(pooling.features, 512, bias=False), nn.BatchNorm1d(512, affine=False), nn.Linear(512, 10)]
    parts = nn.ModuleList([backbone, pooling, *head])
    assert backbone.channels == 512
    assert sum(p.numel() for p in parts.parameters()) == 7_181_354


def test_its_defaults_are_the_papers_pooling_and_head() -> None:
    assert CAMPPlus.default_pooling == {"use": "tsp"}
    assert CAMPPlus.default_head == {"embedding": 512, "bias": False, "norm_after": "plain"}


class Plain:
    """The network of one row as in the paper: contiguous layouts, a mask a frame, nothing batched."""

    def __init__(self, network: CAMPPlus) -> None:
        self.net = network

    def __call__(self, features: Tensor) -> Tensor:
        net = self.net
        x = net.front.first_norm(net.front.first(features[None, None])).relu()
        for stage in net.front.stages:
            x = self.residual(stage, x)
        x = net.front.last_norm(net.front.last(x)).relu().flatten(1, 2)
        x = net.entry_norm(net.entry(x)).relu()
        for block in net.blocks:
            for layer in block.layers:
                x = torch.cat([x, self.dense(layer, x)], 1)
            x = F.conv1d(block.norm(x).relu(), block.reduce.weight[..., None])
        return net.exit_norm(x).relu()[0]

    def residual(self, stage: Residual, x: Tensor) -> Tensor:
        inner = stage.second_norm(stage.second(stage.first_norm(stage.first(x)).relu()))
        if stage.shortcut is not None:
            x = stage.shortcut_norm(F.conv2d(x, stage.shortcut.weight, stride=(2, 1)))
        return (inner + x).relu()

    def dense(self, layer: DenseLayer, x: Tensor) -> Tensor:
        x = layer.inner_norm(F.conv1d(layer.norm(x).relu(), layer.reduce.weight[..., None])).relu()
        parts = x.split(100, -1)
        segments = torch.cat([part.mean(-1, keepdim=True).expand_as(part) for part in parts], -1)
        context = (x.mean(-1, keepdim=True) + segments).transpose(1, 2)
        mask = layer.expand(layer.squeeze(context).relu()).sigmoid().transpose(1, 2)
        local = layer.local
        return F.conv1d(x, local.weight, padding=local.padding, dilation=local.dilation) * mask


@pytest.mark.parametrize("frames", [3, 50, 200, 201, 450])
def test_it_computes_what_the_paper_says(frames: int) -> None:
    network = _lived_in(_small().double())
    x = torch.randn(2, 20, frames, dtype=torch.float64)
    with torch.no_grad():
        y, lengths = network(x, torch.tensor([frames, frames]))
        assert lengths.tolist() == [-(-frames // 2)] * 2
        for row, given in zip(y, x, strict=True):
            torch.testing.assert_close(row, Plain(network)(given))


@pytest.mark.parametrize("network", ["small", "full"])
def test_a_row_is_the_same_alone_padded_and_in_any_batch(network: str) -> None:
    backbone = _lived_in(_small(80) if network == "small" else CAMPPlus(80))
    pooling = TSP(backbone.channels)
    lengths = torch.tensor([298, 1, 2, 3, 99, 200, 201, 256])
    features = torch.randn(8, 80, 298)  # what is beyond the lengths is not zero
    with torch.no_grad():
        pooled = pooling(*backbone(features, lengths))
        for i, length in enumerate(lengths.tolist()):
            alone = pooling(*backbone(features[i : i + 1, :, :length], lengths[i : i + 1]))
            torch.testing.assert_close(pooled[i : i + 1], alone, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("bands", [16, 17, 23, 64, 80, 129])
@pytest.mark.parametrize("frames", [1, 2, 3, 8, 131])
def test_any_number_of_bands_and_frames_will_do(bands: int, frames: int) -> None:
    network = _small(bands)
    for mode in (True, False):
        network.train(mode)
        y, lengths = network(torch.randn(1, bands, frames), torch.tensor([frames]))
        assert y.shape == (1, network.channels, -(-max(frames, 3) // 2))
        assert lengths.item() == y.shape[2]
        assert torch.isfinite(y).all()


@pytest.mark.parametrize(("batch", "frames"), [(1, 1), (3, 40)])
def test_every_parameter_gets_a_gradient(batch: int, frames: int) -> None:
    network = _small()
    y, lengths = network(torch.randn(batch, 20, frames), torch.full((batch,), frames))
    TSP(network.channels)(y, lengths).square().sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
        assert frames == 1 or parameter.grad.any(), name


def test_full_rows_are_trained_alike_with_and_without_masks(monkeypatch: pytest.MonkeyPatch) -> None:
    one = _small()
    other = copy.deepcopy(one)
    x, lengths = torch.randn(4, 20, 60), torch.full((4,), 60)
    one(x, lengths)[0].square().sum().backward()
    monkeypatch.setattr("soundbench.masks.full", lambda lengths, size: False)
    other(x, lengths)[0].square().sum().backward()
    for (name, a), b in zip(one.named_parameters(), other.parameters(), strict=True):
        assert torch.equal(a.grad, b.grad), name


def test_it_stays_near_itself_in_bfloat16() -> None:
    network = _lived_in(_small(80))
    x, lengths = torch.randn(3, 80, 200), torch.tensor([200, 120, 60])
    pooling = TSP(network.channels)
    with torch.no_grad():
        expected = pooling(*network(x, lengths))
        with torch.autocast("cpu", torch.bfloat16):
            got = pooling(*network(x, lengths))
    assert F.cosine_similarity(expected, got.float()).min() > 0.999


def test_training_runs_in_bfloat16() -> None:
    network = _small()
    with torch.autocast("cpu", torch.bfloat16):
        y, _ = network(torch.randn(2, 20, 50), torch.tensor([50, 30]))
    y.float().square().sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in network.parameters())


def test_weights_are_drawn_as_its_authors_draw_them() -> None:
    network = CAMPPlus(80)
    reduce, squeeze = network.blocks[1].layers[20].reduce, network.blocks[1].layers[20].squeeze
    assert reduce.weight.std().item() == pytest.approx((2 / reduce.in_features) ** 0.5, rel=0.05)
    assert not squeeze.bias.any()
    # torch's default for the front: uniform up to 1 / sqrt(fan-in).
    assert network.front.last.weight.abs().max().item() == pytest.approx((1 / (32 * 9)) ** 0.5, rel=0.02)


@pytest.mark.slow
def test_a_network_learns_to_distinguish_rising_from_falling() -> None:
    torch.manual_seed(0)
    network = _small(16)
    classifier = nn.Linear(2 * network.channels, 2)
    optimizer = torch.optim.Adam([*network.parameters(), *classifier.parameters()], lr=3e-3)
    pooling = TSP(network.channels)
    for _ in range(60):
        target = torch.randint(0, 2, (16,))
        slope = torch.where(target == 1, 1, -1)[:, None] * torch.arange(16)
        starts = torch.randint(0, 16, (16, 1)) + slope
        x = 0.1 * torch.randn(16, 16, 16)
        x.scatter_(1, (starts % 16)[:, None], 3.0)
        loss = F.cross_entropy(classifier(pooling(*network(x, torch.full((16,), 16)))), target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.2


@pytest.mark.slow
def test_it_is_exported_with_any_batch_and_length() -> None:
    network = _lived_in(_small())
    sizes = ({0: Dim.DYNAMIC, 2: Dim.DYNAMIC}, {0: Dim.DYNAMIC})
    exported = export(network, (torch.randn(4, 20, 98), torch.tensor([98, 5, 60, 98])), dynamic_shapes=sizes).module()
    for batch, size in ((1, 50), (3, 2), (2, 500)):
        x, lengths = torch.randn(batch, 20, size), torch.randint(1, size + 1, (batch,))
        y, counts = exported(x, lengths)
        expected, known = network(x, lengths)
        assert torch.equal(counts, known)
        torch.testing.assert_close(y, expected)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"growth": 0}, "growth must be at least 1, is 0"),
        ({"front": 0}, "front must be at least 1, is 0"),
        ({"layers": []}, "layers must be a list of numbers from 1, one per block, is []"),
        ({"layers": [4, 0]}, "layers must be a list of numbers from 1, one per block, is [4, 0]"),
    ],
)
def test_an_option_out_of_range_is_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        CAMPPlus(80, **options)
    assert str(caught.value) == message
