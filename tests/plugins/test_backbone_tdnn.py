"""The time-delay network against plain torch, and its promises to the rows of a batch."""

from __future__ import annotations

import copy

import pytest
import torch
from soundbench_plugins.backbone.tdnn import TDNN
from soundbench_plugins.pooling.asp import ASP
from torch import Tensor, nn
from torch.export import Dim, export
from torch.nn import functional as F

from soundbench.model.network import Head


def _lived_in(module: nn.Module) -> nn.Module:
    """The module in evaluation, with running statistics as training leaves them, not zeros and ones."""
    torch.manual_seed(3)
    for name, buffer in module.named_buffers():
        if name.endswith("running_mean"):
            buffer.normal_(0.0, 0.3)
        if name.endswith("running_var"):
            buffer.uniform_(0.5, 2.0)
    return module.eval()


def _small(bands: int = 20) -> TDNN:
    torch.manual_seed(0)
    return TDNN(bands, channels=16)


class Whole(nn.Module):
    """Backbone, default pooling and default head."""

    def __init__(self, backbone: TDNN, classes: int = 10) -> None:
        super().__init__()
        self.backbone, self.pooling = backbone, ASP(backbone.channels)
        self.head = Head(self.pooling.features, classes, **backbone.default_head)

    def forward(self, features: Tensor, lengths: Tensor) -> Tensor:
        return self.head(self.pooling(*self.backbone(features, lengths)))


def _count(*modules: nn.Module) -> int:
    return sum(p.numel() for module in modules for p in module.parameters())


def _count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def test_it_has_the_known_number_of_parameters() -> None:
    whole = Whole(TDNN(80))
    assert whole.backbone.channels == 512
    assert _count(whole) == 2_772_810
    # Without the attention's context, by as much as its layer then sees less: 2 x 512 values, 128 wide.
    assert _count(whole) - _count(whole.pooling) + _count(ASP(512, context=False)) == 2_772_810 - 131_072


def test_its_default_head_has_a_norm_before_and_behind_the_embedding() -> None:
    assert TDNN.default_pooling == {"use": "asp"}
    assert TDNN.default_head == {"embedding": 192, "norm_before": True, "norm_after": "affine"}


class Plain(nn.Module):
    """The five layers in plain torch, channels first."""

    def __init__(self, network: TDNN) -> None:
        super().__init__()
        layers = [(delay.conv, delay.norm) for delay in network.delays]
        layers += [(network.fourth, network.fourth_norm), (network.fifth, nn.Identity())]
        parts: list[nn.Module] = []
        for (layer, norm), (kernel, dilation) in zip(layers, [(5, 1), (3, 2), (3, 3), (1, 1), (1, 1)], strict=True):
            width = layer.weight.shape[1]
            conv = nn.Conv1d(width, len(layer.weight), kernel, dilation=dilation, dtype=torch.float64)
            conv.weight.data = layer.weight.data.view_as(conv.weight)
            conv.bias.data = layer.bias.data
            parts += [conv, nn.ReLU(), norm]
        self.layers = nn.Sequential(*parts)

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


@pytest.mark.parametrize("frames", [16, 17, 131])
def test_it_computes_five_plain_layers(frames: int) -> None:
    network = _lived_in(_small().double())
    x = torch.randn(2, 20, 131, dtype=torch.float64)
    with torch.no_grad():
        y, lengths = network(x, torch.tensor([frames, 131]))
        assert lengths.tolist() == [frames - 14, 117]
        for row, given, length in zip(y, x, lengths.tolist(), strict=True):
            torch.testing.assert_close(row[:, :length], Plain(network)(given[None, :, : length + 14])[0])


@pytest.mark.parametrize("network", ["small", "full"])
def test_a_row_is_the_same_alone_padded_and_in_any_batch(network: str) -> None:
    whole = _lived_in(Whole(_small(80) if network == "small" else TDNN(80)))
    lengths = torch.tensor([150, 1, 2, 15, 16, 17, 99, 146])
    features = torch.randn(8, 80, 150)
    for row, length in zip(features, lengths, strict=True):
        row[:, length:] = torch.nan
    with torch.no_grad():
        logits = whole(features, lengths)
        for i, length in enumerate(lengths.tolist()):
            alone = whole(features[i : i + 1, :, :length], lengths[i : i + 1])
            torch.testing.assert_close(logits[i : i + 1], alone, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("bands", [16, 17, 23, 80, 129])
@pytest.mark.parametrize("frames", [1, 2, 15, 16, 131])
def test_any_number_of_bands_and_frames_will_do(bands: int, frames: int) -> None:
    network = _small(bands)
    for mode in (True, False):
        network.train(mode)
        y, lengths = network(torch.randn(1, bands, frames), torch.tensor([frames]))
        assert network.shortest == 16
        assert y.shape == (1, network.channels, max(frames, 16) - 14)
        assert lengths.item() == y.shape[2]
        assert torch.isfinite(y).all()


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


def test_a_network_learns_to_distinguish_rising_from_falling() -> None:
    torch.manual_seed(0)
    whole = Whole(_small(16), classes=2)
    optimizer = torch.optim.Adam(whole.parameters(), lr=3e-3)
    for _ in range(60):
        target = torch.randint(0, 2, (16,))
        slope = torch.where(target == 1, 1, -1)[:, None] * torch.arange(24)
        starts = torch.randint(0, 16, (16, 1)) + slope
        x = 0.1 * torch.randn(16, 16, 24)
        x.scatter_(1, (starts % 16)[:, None], 3.0)
        loss = F.cross_entropy(whole(x, torch.full((16,), 24)), target)
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


def test_an_option_out_of_range_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^channels must be at least 1, is 0$"):
        TDNN(80, channels=0)
