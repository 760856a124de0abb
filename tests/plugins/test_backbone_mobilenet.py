"""MobileNetV3 against a plain rendering of its papers, and its promises to the rows of a batch."""

from __future__ import annotations

import copy

import pytest
import torch
from soundbench_plugins.backbone.mobilenet import Block, ConvNorm, MobileNet
from soundbench_plugins.pooling.tap import TAP
from torch import Tensor, nn
from torch.export import Dim, export
from torch.nn import functional as F


def _lived_in(module: nn.Module) -> nn.Module:
    """The module in evaluation, with norms as training leaves them and gates that are not all alike."""
    torch.manual_seed(3)
    module.train()
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if parameter.ndim == 1:
                parameter.add_(0.2 * torch.randn_like(parameter))
            if "gate" in name or name.startswith("last"):
                parameter.mul_(10)
        for part in module.modules():
            if isinstance(part, nn.BatchNorm2d):
                part.momentum = 1.0
        module(torch.randn(4, 80, 200), torch.tensor([200, 150, 100, 200]))
    return module.eval()


def _small(bands: int = 80) -> MobileNet:
    torch.manual_seed(0)
    return MobileNet(bands, width=0.1)


@pytest.mark.parametrize(("width", "published"), [(0.4, 0.983e6), (0.5, 1.43e6), (1.0, 4.88e6), (2.0, 17.91e6)])
def test_it_has_the_published_number_of_parameters(width: float, published: float) -> None:
    with torch.device("meta"):
        backbone = MobileNet(128, width=width)
        parts = nn.ModuleList([backbone, TAP(backbone.channels), nn.Linear(backbone.channels, 527)])
    assert sum(p.numel() for p in parts.parameters()) == pytest.approx(published, rel=0.001)


def test_its_defaults_are_the_papers_pooling_and_head() -> None:
    assert MobileNet.default_pooling == {"use": "tap"}
    assert MobileNet.default_head == {"embedding": 0, "dropout": 0.2}


def test_widths_are_multiples_of_eight_and_no_tenth_too_narrow() -> None:
    # MobileNetV3-Large's own widths, and those of its published 0.75 version.
    for width, expected in ((1.0, [16, 24, 40, 80, 112, 160]), (0.75, [16, 24, 32, 64, 88, 120])):
        network = MobileNet(80, width=width)
        outs = [block.narrow[0].out_channels for block in network.blocks]
        assert sorted(set(outs)) == expected
        assert network.exit[0].out_channels == 6 * expected[-1]


class Plain:
    """The network of one row as in the papers: functions, contiguous layouts, nothing masked or batched."""

    def __init__(self, network: MobileNet) -> None:
        self.net = network

    def __call__(self, features: Tensor) -> Tensor:
        x = self.conv(self.net.entry, features[None, None], F.hardswish, stride=2)
        strides = [1, 2, 1, 2, 1, 1, 2, 1, 1, 1, 1, 1, 2, 1, 1]
        gated = [False] * 3 + [True] * 3 + [False] * 4 + [True] * 5
        for place, block in enumerate(self.net.blocks):
            act = F.relu if place < 6 else F.hardswish
            x = self.block(block, x, act, strides[place], gated[place])
        x = self.conv(self.net.exit, x, F.hardswish)
        last = self.net.last
        return F.hardswish(torch.einsum("oc,bcft->bot", last.weight, x) / x.shape[2] + last.bias[:, None])[0]

    def conv(self, part: ConvNorm, x: Tensor, act: object, stride: int = 1, groups: int = 1) -> Tensor:
        kernel, norm = part[0].weight.contiguous(), part[1]
        x = F.conv2d(x, kernel, stride=stride, padding=kernel.shape[-1] // 2, groups=groups)
        x = F.batch_norm(x, norm.running_mean, norm.running_var, norm.weight, norm.bias, eps=0.001)
        return act(x) if callable(act) else x

    def block(self, block: Block, x: Tensor, act: object, stride: int, gated: bool) -> Tensor:
        inner = x if isinstance(block.widen, nn.Identity) else self.conv(block.widen, x, act)
        inner = self.conv(block.convolve, inner, act, stride, groups=inner.shape[1])
        if gated:
            weights = F.linear(inner.mean((2, 3)), block.gate.squeeze.weight, block.gate.squeeze.bias).relu()
            weights = F.linear(weights, block.gate.excite.weight, block.gate.excite.bias).sigmoid()
            inner = inner * weights[:, :, None, None]
        out = self.conv(block.narrow, inner, None)
        return out + x if stride == 1 and out.shape == x.shape else out


@pytest.mark.parametrize("width", [0.1, 0.4])
@pytest.mark.parametrize("frames", [8, 33, 64, 201])
def test_it_computes_what_the_papers_say(width: float, frames: int) -> None:
    network = _lived_in(MobileNet(80, width=width)).double()
    x = torch.randn(2, 80, frames, dtype=torch.float64)
    with torch.no_grad():
        y, lengths = network(x, torch.tensor([frames, frames]))
        assert lengths.tolist() == [-(-frames // 32)] * 2
        for row, given in zip(y, x, strict=True):
            assert row.std() > 0.01
            torch.testing.assert_close(row, Plain(network)(given))


def test_a_row_is_the_same_alone_padded_and_in_any_batch() -> None:
    network = _lived_in(_small())
    pooling = TAP(network.channels)
    lengths = torch.tensor([298, 1, 2, 31, 32, 33, 99, 256])
    features = torch.randn(8, 80, 298)
    features[1, :, 1:] = float("nan")  # whatever stands beyond the lengths
    with torch.no_grad():
        pooled = pooling(*network(features, lengths))
        for i, length in enumerate(lengths.tolist()):
            alone = pooling(*network(features[i : i + 1, :, :length], lengths[i : i + 1]))
            torch.testing.assert_close(pooled[i : i + 1], alone, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("bands", [16, 17, 64, 129])
@pytest.mark.parametrize("frames", [1, 2, 32, 33, 65])
def test_any_number_of_bands_and_frames_will_do(bands: int, frames: int) -> None:
    network = _small(bands)
    for mode in (True, False):
        network.train(mode)
        y, lengths = network(torch.randn(1, bands, frames), torch.tensor([frames]))
        size = -(-frames // 32)
        # In training there is room for two, so that norms have something to compute statistics of.
        assert y.shape == (1, network.channels, max(size, 2) if mode else size)
        assert lengths.tolist() == [size]
        assert torch.isfinite(y).all()


@pytest.mark.parametrize(("batch", "frames"), [(1, 1), (3, 140)])
def test_every_parameter_gets_a_gradient(batch: int, frames: int) -> None:
    network = _lived_in(_small()).train()
    y, lengths = network(torch.randn(batch, 80, frames), torch.full((batch,), frames))
    TAP(network.channels)(y, lengths).square().sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
        assert frames == 1 or parameter.grad.any(), name


def test_full_rows_are_trained_alike_with_and_without_masks(monkeypatch: pytest.MonkeyPatch) -> None:
    one = _small().double()
    other = copy.deepcopy(one)
    x, lengths = torch.randn(4, 80, 64, dtype=torch.float64), torch.full((4,), 64)
    one(x, lengths)[0].square().sum().backward()
    monkeypatch.setattr("soundbench.masks.full", lambda lengths, size: False)
    other(x, lengths)[0].square().sum().backward()
    for a, b in zip(one.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad)


def test_it_stays_near_itself_in_bfloat16() -> None:
    network = _lived_in(_small())
    x, lengths = torch.randn(3, 80, 200), torch.tensor([200, 120, 60])
    pooling = TAP(network.channels)
    with torch.no_grad():
        expected = pooling(*network(x, lengths))
        with torch.autocast("cpu", torch.bfloat16):
            got = pooling(*network(x, lengths))
    assert F.cosine_similarity(expected, got.float()).min() > 0.999


def test_training_runs_in_bfloat16() -> None:
    network = _small()
    with torch.autocast("cpu", torch.bfloat16):
        y, _ = network(torch.randn(2, 80, 50), torch.tensor([50, 30]))
    y.float().square().sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in network.parameters())


def test_weights_are_drawn_as_its_authors_draw_them() -> None:
    network = MobileNet(80)
    narrow, gate = network.blocks[14].narrow[0], network.blocks[14].gate
    assert narrow.weight.std().item() == pytest.approx((2 / narrow.out_channels) ** 0.5, rel=0.05)
    for linear in (network.last, gate.squeeze, gate.excite):
        assert linear.weight.std().item() == pytest.approx(0.01, rel=0.05)
        assert not linear.bias.any()


def _lines(count: int) -> tuple[Tensor, Tensor]:
    """Spectra of lines that rise or fall in noise, `(count, 16, 64)`, and which, `(count,)`."""
    target = torch.randint(0, 2, (count,))
    slope = torch.where(target == 1, 1, -1)[:, None] * torch.arange(64) // 4
    spectra = 0.1 * torch.randn(count, 16, 64)
    return spectra.scatter_(1, ((torch.randint(0, 16, (count, 1)) + slope) % 16)[:, None], 3.0), target


@pytest.mark.slow
def test_a_network_learns_to_distinguish_rising_from_falling_and_knows_it_in_evaluation_too() -> None:
    torch.manual_seed(0)
    network = _small(16)
    classifier = nn.Linear(network.channels, 2)
    optimizer = torch.optim.Adam([*network.parameters(), *classifier.parameters()], lr=3e-3)
    pooling = TAP(network.channels)
    for _ in range(150):
        spectra, target = _lines(16)
        loss = F.cross_entropy(classifier(pooling(*network(spectra, torch.full((16,), 64)))), target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.2
    spectra, target = _lines(200)
    with torch.no_grad():
        found = classifier(pooling(*network.eval()(spectra, torch.full((200,), 64)))).argmax(1)
    assert (found == target).float().mean() > 0.9  # batch norm's running statistics follow in few steps


@pytest.mark.slow
@pytest.mark.parametrize("bands", [16, 80])
def test_it_is_exported_with_any_batch_and_length(bands: int) -> None:
    network = _lived_in(MobileNet(80, width=0.1))
    sizes = ({0: Dim.DYNAMIC, 2: Dim.DYNAMIC}, {0: Dim.DYNAMIC})
    example = (torch.randn(4, bands, 98), torch.tensor([98, 5, 60, 98]))
    exported = export(network, example, dynamic_shapes=sizes).module()
    for batch, size in ((1, 50), (3, 2), (2, 500)):
        x, lengths = torch.randn(batch, bands, size), torch.randint(1, size + 1, (batch,))
        y, counts = exported(x, lengths)
        expected, known = network(x, lengths)
        assert torch.equal(counts, known)
        torch.testing.assert_close(y[:, :, : expected.shape[2]], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("half", [False, True])
def test_it_trains_alike_when_compiled(half: bool) -> None:
    network = _lived_in(_small()).train()
    other = copy.deepcopy(network)
    compiled = torch.compile(other, backend="aot_eager")
    x, lengths = torch.randn(4, 80, 98), torch.tensor([98, 5, 60, 98])
    for module in (network, compiled):
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            y, _ = module(x, lengths)
        y.float().square().sum().backward()
    for (name, a), b in zip(network.named_parameters(), other.parameters(), strict=True):
        cosine = F.cosine_similarity(a.grad.flatten(), b.grad.flatten(), dim=0).item()
        assert cosine > (0.9 if half else 0.999), name


@pytest.mark.parametrize("width", [0.0, 0.05, 5.0, float("nan")])
def test_a_width_out_of_range_is_refused(width: float) -> None:
    with pytest.raises(ValueError, match=f"width must be from 0.1 to 4, is {width:g}"):
        MobileNet(80, width=width)
