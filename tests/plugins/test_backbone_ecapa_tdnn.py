"""ECAPA-TDNN against a plain rendering of the paper, and its promises to the rows of a batch."""

from __future__ import annotations

import copy

import pytest
import torch
from soundbench_plugins.backbone.ecapa_tdnn import Block, Delay, EcapaTdnn, Pointwise
from soundbench_plugins.pooling.asp import ASP
from torch import Tensor, nn
from torch.export import Dim, export
from torch.nn import functional as F

from soundbench.model.network import Head

SMALL = {"channels": 16, "aggregation": 24, "scale": 4, "squeeze": 6}


def _lived_in(module: nn.Module) -> nn.Module:
    """The module in evaluation, with running statistics as training leaves them, not zeros and ones."""
    torch.manual_seed(3)
    for name, buffer in module.named_buffers():
        if name.endswith("running_mean"):
            buffer.normal_(0.0, 0.3)
        if name.endswith("running_var"):
            buffer.uniform_(0.5, 2.0)
    return module.eval()


def _small(bands: int = 20, **options: object) -> EcapaTdnn:
    torch.manual_seed(0)
    return EcapaTdnn(bands, **SMALL, **options)


class Whole(nn.Module):
    """Backbone, default pooling and default head."""

    def __init__(self, backbone: EcapaTdnn, classes: int = 10) -> None:
        super().__init__()
        self.backbone, self.pooling = backbone, ASP(backbone.channels)
        self.head = Head(self.pooling.features, classes, **backbone.default_head)

    def forward(self, features: Tensor, lengths: Tensor) -> Tensor:
        return self.head(self.pooling(*self.backbone(features, lengths)))


def _count(*modules: nn.Module) -> int:
    return sum(p.numel() for module in modules for p in module.parameters())


def test_it_has_the_published_number_of_parameters() -> None:
    whole = Whole(EcapaTdnn(80))
    assert whole.backbone.channels == 1536
    # 6,195,978 in macls, which lacks the scale and shift of the embedding's batch norm.
    assert _count(whole) == 6_195_978 + 2 * 192
    wide = Whole(EcapaTdnn(80, channels=1024))
    assert _count(wide.backbone, wide.pooling, wide.head.embed) == pytest.approx(14.65e6, rel=1e-3)


def test_its_defaults_are_the_papers_pooling_and_head() -> None:
    assert EcapaTdnn.default_pooling == {"use": "asp"}
    assert EcapaTdnn.default_head == {"embedding": 192, "norm_before": True, "norm_after": "affine"}


class Plain:
    """The network of one row as in the paper: channels first, reflected by torch, nothing batched."""

    def __init__(self, network: EcapaTdnn) -> None:
        self.net = network

    def __call__(self, features: Tensor) -> Tensor:
        fed = [self.delay(self.net.stem, features[None])]
        for block in self.net.blocks:
            fed.append(self.block(block, sum(fed) if self.net.summed else fed[-1]))
        x = F.conv1d(torch.cat(fed[1:], 1), self.net.aggregate.weight[..., None], self.net.aggregate.bias)
        return self.net.aggregate_norm(x.relu())[0]

    def block(self, block: Block, fed: Tensor) -> Tensor:
        groups = self.pointwise(block.enter, fed).chunk(block.scale, 1)
        outputs = [groups[0], self.delay(block.groups[0], groups[1])]
        for layer, group in zip(block.groups[1:], groups[2:], strict=True):
            outputs.append(self.delay(layer, group + outputs[-1]))
        x = self.pointwise(block.leave, torch.cat(outputs, 1))
        gate = block.excite(block.squeeze(x.mean(2)).relu()).sigmoid()
        return fed + x * gate[..., None]

    def pointwise(self, layer: Pointwise, x: Tensor) -> Tensor:
        return layer.norm(F.conv1d(x, layer.linear.weight[..., None], layer.linear.bias).relu())

    def delay(self, layer: Delay, x: Tensor) -> Tensor:
        (kernel,), dilation = layer.conv.kernel_size, layer.conv.dilation
        reach = (kernel - 1) * dilation[0] // 2
        x = F.pad(x, (reach, reach), mode="reflect")
        return layer.norm(F.conv1d(x, layer.conv.weight, layer.conv.bias, dilation=dilation).relu())


@pytest.mark.parametrize("summed", [True, False])
@pytest.mark.parametrize("frames", [5, 6, 40, 131])
def test_it_computes_what_the_paper_says(frames: int, summed: bool) -> None:
    network = _lived_in(_small(summed=summed).double())
    x = torch.randn(3, 20, 131, dtype=torch.float64)
    with torch.no_grad():
        y, lengths = network(x, torch.tensor([frames, 131, 5]))
        assert lengths.tolist() == [frames, 131, 5]
        for row, given, length in zip(y, x, lengths, strict=True):
            torch.testing.assert_close(row[:, :length], Plain(network)(given[:, :length]))


@pytest.mark.parametrize("network", ["small", "full"])
def test_a_row_is_the_same_alone_padded_and_in_any_batch(network: str) -> None:
    whole = _lived_in(Whole(_small(80) if network == "small" else EcapaTdnn(80)))
    lengths = torch.tensor([150, 1, 2, 4, 5, 6, 99, 146])
    features = torch.randn(8, 80, 150)
    for row, length in zip(features, lengths, strict=True):
        row[:, length:] = torch.nan
    with torch.no_grad():
        logits = whole(features, lengths)
        for i, length in enumerate(lengths.tolist()):
            alone = whole(features[i : i + 1, :, :length], lengths[i : i + 1])
            torch.testing.assert_close(logits[i : i + 1], alone, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("bands", [16, 17, 23, 80, 129])
@pytest.mark.parametrize("frames", [1, 2, 4, 5, 131])
def test_any_number_of_bands_and_frames_will_do(bands: int, frames: int) -> None:
    network = _small(bands)
    for mode in (True, False):
        network.train(mode)
        y, lengths = network(torch.randn(1, bands, frames), torch.tensor([frames]))
        assert network.shortest == 5
        assert y.shape == (1, network.channels, max(frames, 5))
        assert lengths.item() == y.shape[2]
        assert torch.isfinite(y).all()


def test_wider_dilations_want_longer_rows() -> None:
    network = _small(dilations=[1, 7])
    y, lengths = network(torch.randn(2, 20, 3), torch.tensor([3, 1]))
    assert network.shortest == 8
    assert lengths.tolist() == [8, 8]
    assert y.shape == (2, 24, 8)


@pytest.mark.parametrize(("batch", "frames"), [(1, 1), (3, 40)])
def test_every_parameter_gets_a_gradient(batch: int, frames: int) -> None:
    network = _small()
    y, _ = network(torch.randn(batch, 20, frames), torch.full((batch,), frames))
    (y.square() * torch.randn_like(y)).sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
        assert frames == 1 or parameter.grad.any(), name


def test_full_rows_are_trained_alike_with_and_without_masks(monkeypatch: pytest.MonkeyPatch) -> None:
    one = _small().double()
    other = copy.deepcopy(one)
    x, lengths = torch.randn(4, 20, 60, dtype=torch.float64), torch.full((4,), 60)
    one(x, lengths)[0].square().sum().backward()
    monkeypatch.setattr("soundbench.masks.full", lambda lengths, size: False)
    other(x, lengths)[0].square().sum().backward()
    for (name, a), b in zip(one.named_parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, msg=name)


def test_it_stays_near_itself_in_bfloat16() -> None:
    whole = _lived_in(Whole(_small(80)))
    x, lengths = torch.randn(3, 80, 200), torch.tensor([200, 120, 60])
    with torch.no_grad():
        expected = whole(x, lengths)
        with torch.autocast("cpu", torch.bfloat16):
            got = whole(x, lengths)
    assert F.cosine_similarity(expected, got.float()).min() > 0.999


def test_training_runs_in_bfloat16() -> None:
    network = _small()
    with torch.autocast("cpu", torch.bfloat16):
        y, _ = network(torch.randn(2, 20, 50), torch.tensor([50, 30]))
    y.float().square().sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in network.parameters())


@pytest.mark.slow
def test_a_network_learns_to_distinguish_rising_from_falling() -> None:
    torch.manual_seed(0)
    whole = Whole(_small(16), classes=2)
    optimizer = torch.optim.Adam(whole.parameters(), lr=3e-3)
    for _ in range(60):
        target = torch.randint(0, 2, (16,))
        slope = torch.where(target == 1, 1, -1)[:, None] * torch.arange(16)
        starts = torch.randint(0, 16, (16, 1)) + slope
        x = 0.1 * torch.randn(16, 16, 16)
        x.scatter_(1, (starts % 16)[:, None], 3.0)
        loss = F.cross_entropy(whole(x, torch.full((16,), 16)), target)
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
        torch.testing.assert_close(y, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_it_compiles() -> None:
    network = _small()
    twin = copy.deepcopy(network)
    compiled = torch.compile(twin, backend="aot_eager", fullgraph=True)
    x, lengths = torch.randn(3, 20, 60), torch.tensor([60, 20, 3])
    (expected, _), (got, _) = network(x, lengths), compiled(x, lengths)
    torch.testing.assert_close(got, expected)
    expected.square().sum().backward()
    got.square().sum().backward()
    for (name, a), b in zip(network.named_parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-3, atol=1e-3, msg=name)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"aggregation": 0}, "aggregation must be at least 1, is 0"),
        ({"squeeze": 0}, "squeeze must be at least 1, is 0"),
        ({"scale": 1}, "scale must be at least 2, is 1"),
        ({"channels": 500}, "channels must be a multiple of scale, 8, is 500"),
        ({"dilations": []}, "dilations must be numbers from 1, one per block, is []"),
        ({"dilations": [2, 0]}, "dilations must be numbers from 1, one per block, is [2, 0]"),
    ],
)
def test_an_option_out_of_range_is_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        EcapaTdnn(80, **options)
    assert str(caught.value) == message
