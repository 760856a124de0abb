"""PANNs against a plain rendering of the paper in the published checkpoints' layout, and their promises to rows."""

from __future__ import annotations

import copy

import pytest
import torch
from soundbench_plugins.backbone.panns import CNN6, CNN10, CNN14, PANNs
from torch import Tensor, nn
from torch.export import Dim, export
from torch.nn import functional as F

ALL = (CNN6, CNN10, CNN14)
NARROW = {CNN6: [4, 6, 8, 10], CNN10: [4, 6, 8, 10], CNN14: [4, 6, 8, 10, 12, 14]}


def _lived_in(module: nn.Module) -> nn.Module:
    """The module in evaluation, with norms as training leaves them, not zeros and ones."""
    torch.manual_seed(3)
    for name, tensor in module.state_dict().items():
        if name.endswith("running_mean") or ("bn" in name and name.endswith("bias")):
            tensor.normal_(0.0, 0.3)
        if name.endswith("running_var") or ("bn" in name and name.endswith("weight")):
            tensor.uniform_(0.5, 2.0)
    return module.eval()


def _small(kind: type[PANNs], bands: int = 20, **options: object) -> PANNs:
    torch.manual_seed(0)
    return kind(bands, channels=NARROW[kind], **options)


def _pool(frames: Tensor, lengths: Tensor) -> Tensor:
    """Maximum plus mean over time, row by row."""
    rows = [row[:, :length] for row, length in zip(frames, lengths.tolist(), strict=True)]
    return torch.stack([row.amax(1) + row.mean(1) for row in rows])


@pytest.mark.parametrize(("kind", "published"), [(CNN6, 4.57e6), (CNN10, 4.96e6), (CNN14, 79.7e6)])
def test_it_has_the_published_number_of_parameters(kind: type[PANNs], published: float) -> None:
    with torch.device("meta"):
        backbone = kind(80)
        embedding = nn.Linear(backbone.channels, kind.default_head["embedding"])
        parts = nn.ModuleList([backbone, embedding, nn.Linear(embedding.out_features, 10)])
    assert sum(p.numel() for p in parts.parameters()) == pytest.approx(published, rel=0.01)


def test_their_defaults_are_the_papers_pooling_and_head() -> None:
    for kind, width in ((CNN6, 512), (CNN10, 512), (CNN14, 2048)):
        assert kind.default_pooling == {"use": "max-mean"}
        assert kind.default_head == {"embedding": width, "activation": "relu", "dropout": 0.5}


def _published(kind: type[PANNs], bands: int, channels: list[int]) -> dict[str, Tensor]:
    """Random weights under the names and in the shapes of the published checkpoints, without their last layers."""

    def norm(name: str, width: int) -> dict[str, Tensor]:
        return {
            f"{name}.weight": torch.rand(width) + 0.5,
            f"{name}.bias": torch.randn(width),
            f"{name}.running_mean": torch.randn(width),
            f"{name}.running_var": torch.rand(width) + 0.5,
            f"{name}.num_batches_tracked": torch.tensor(7),
        }

    side, count = (5, 1) if kind is CNN6 else (3, 2)
    weights, before = norm("bn0", bands), 1
    for block, width in enumerate(channels, 1):
        for conv in range(1, count + 1):
            weights[f"conv_block{block}.conv{conv}.weight"] = torch.randn(width, before, side, side) / before**0.5
            weights |= norm(f"conv_block{block}.bn{conv}", width)
            before = width
    return weights


def _reference(kind: type[PANNs], weights: dict[str, Tensor], features: Tensor) -> Tensor:
    """The published network in evaluation, of one row `(F, T)` at its full length, up to the mean over bands."""

    def norm(x: Tensor, name: str) -> Tensor:
        mean, variance, scale, shift = (
            weights[f"{name}.{part}"] for part in ("running_mean", "running_var", "weight", "bias")
        )
        return F.batch_norm(x, mean, variance, scale, shift)

    x = norm(features[None], "bn0").transpose(1, 2)[None]
    blocks = sorted({name.split(".")[0] for name in weights} - {"bn0"})
    for block in blocks:
        for conv in (1,) if kind is CNN6 else (1, 2):
            kernel = weights[f"{block}.conv{conv}.weight"]
            x = norm(F.conv2d(x, kernel, padding=kernel.shape[-1] // 2), f"{block}.bn{conv}").relu()
        if not (kind is CNN14 and block == blocks[-1]):
            x = F.avg_pool2d(x, 2)
    return x.mean(3)[0]


@pytest.mark.parametrize("kind", ALL)
@pytest.mark.parametrize("frames", [32, 63, 101, 320])
@pytest.mark.parametrize("bands", [33, 64, 80])
def test_published_weights_give_what_the_published_network_gives(kind: type[PANNs], frames: int, bands: int) -> None:
    torch.manual_seed(1)
    network = _small(kind, bands).double().eval()
    published = {
        name: tensor.double() if tensor.is_floating_point() else tensor
        for name, tensor in _published(kind, bands, NARROW[kind]).items()
    }
    renamed = {}
    for name, tensor in published.items():
        block, _, rest = name.partition(".")
        if block.startswith("conv_block"):
            block = f"blocks.{int(block.removeprefix('conv_block')) - 1}"
        renamed[f"{block}.{rest}"] = tensor
    network.load_state_dict(renamed, strict=True)
    features = torch.randn(2, bands, frames, dtype=torch.float64)
    with torch.no_grad():
        y, lengths = network(features, torch.tensor([frames, frames]))
    for row, length, given in zip(y, lengths.tolist(), features, strict=True):
        assert length == frames // network.shortest
        torch.testing.assert_close(row[:, :length], _reference(kind, published, given))


@pytest.mark.parametrize("bias", [False, True])
def test_convolutions_have_biases_if_asked_for(bias: bool) -> None:
    names = [name for name, _ in _small(CNN10, bias=bias).named_parameters()]
    assert ("blocks.3.conv2.bias" in names) is bias


@pytest.mark.parametrize("kind", ALL)
def test_a_row_is_the_same_alone_padded_and_in_any_batch(kind: type[PANNs]) -> None:
    network = _lived_in(_small(kind, 80, bias=True))
    sizes = torch.tensor([298, 1, 15, 16, 17, 99, 255, 256])
    features = torch.randn(8, 80, 298)
    features[1, :, 1:] = float("nan")  # whatever stands beyond the lengths
    with torch.no_grad():
        frames, lengths = network(features, sizes)
        pooled = _pool(frames, lengths)
        for i, size in enumerate(sizes.tolist()):
            alone = _pool(*network(features[i : i + 1, :, :size], sizes[i : i + 1]))
            torch.testing.assert_close(pooled[i : i + 1], alone, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", ALL)
@pytest.mark.parametrize("bands", [16, 17, 23, 64, 129])
@pytest.mark.parametrize("frames", [1, 2, 15, 33])
def test_any_number_of_bands_and_frames_will_do(kind: type[PANNs], bands: int, frames: int) -> None:
    network = _small(kind, bands)
    for mode in (True, False):
        network.train(mode)
        y, lengths = network(torch.randn(2, bands, frames), torch.tensor([frames, 1]))
        size = max(frames // network.shortest, 1)
        assert y.shape == (2, network.channels, max(size, 2))  # room for two, so that norms can be trained
        assert lengths.tolist() == [size, 1]
        assert torch.isfinite(y).all()


@pytest.mark.parametrize("kind", ALL)
@pytest.mark.parametrize(("batch", "frames"), [(1, 1), (3, 70)])
def test_every_parameter_gets_a_gradient(kind: type[PANNs], batch: int, frames: int) -> None:
    network = _small(kind, bias=True)
    y, _ = network(torch.randn(batch, 20, frames), torch.full((batch,), frames))
    y.square().sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
        assert frames == 1 or parameter.grad.any(), name


@pytest.mark.parametrize("kind", ALL)
def test_full_rows_are_trained_alike_with_and_without_masks(kind: type[PANNs], monkeypatch: pytest.MonkeyPatch) -> None:
    one = _small(kind, dropout=0.0).double()
    other = copy.deepcopy(one)
    x, lengths = torch.randn(4, 20, 64, dtype=torch.float64), torch.full((4,), 64)
    one(x, lengths)[0].square().sum().backward()
    monkeypatch.setattr("soundbench.masks.full", lambda lengths, size: False)
    other(x, lengths)[0].square().sum().backward()
    for a, b in zip(one.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad)


@pytest.mark.parametrize("kind", ALL)
def test_it_gives_gradients_in_evaluation_too(kind: type[PANNs]) -> None:
    network = _small(kind).eval()
    x = torch.randn(2, 20, 70, requires_grad=True)
    network(x, torch.tensor([70, 40]))[0].square().sum().backward()
    assert x.grad[0].any()
    assert not x.grad[1, :, 40:].any()


def test_dropout_is_drawn_in_training_alone() -> None:
    x, lengths = torch.randn(2, 20, 64), torch.tensor([64, 64])
    network = _small(CNN10)
    assert not torch.equal(network(x, lengths)[0], network(x, lengths)[0])
    without = _small(CNN10, dropout=0.0)
    assert torch.equal(without(x, lengths)[0], without(x, lengths)[0])
    network.eval()
    assert torch.equal(network(x, lengths)[0], network(x, lengths)[0])


@pytest.mark.parametrize("kind", ALL)
def test_it_stays_near_itself_in_bfloat16(kind: type[PANNs]) -> None:
    network = _lived_in(_small(kind, 80))
    x, lengths = torch.randn(3, 80, 200), torch.tensor([200, 120, 64])
    with torch.no_grad():
        expected = _pool(*network(x, lengths))
        with torch.autocast("cpu", torch.bfloat16):
            got = _pool(*network(x, lengths))
    assert F.cosine_similarity(expected, got.float()).min() > 0.999


@pytest.mark.parametrize("kind", ALL)
def test_training_runs_in_bfloat16(kind: type[PANNs]) -> None:
    network = _small(kind)
    with torch.autocast("cpu", torch.bfloat16):
        y, _ = network(torch.randn(2, 20, 70), torch.tensor([70, 40]))
    y.float().square().sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in network.parameters())


def test_weights_are_drawn_as_the_paper_draws_them() -> None:
    conv = CNN10(80, bias=True).blocks[2].conv2
    # Xavier uniform: up to sqrt(6 / (fan-in + fan-out)).
    assert conv.weight.abs().max().item() == pytest.approx((6 / (2 * 256 * 9)) ** 0.5, rel=0.02)
    assert not conv.bias.any()


def test_a_network_learns_to_tell_rising_from_falling() -> None:
    torch.manual_seed(0)
    network = CNN10(16, channels=[8, 16], dropout=0.0)
    classifier = nn.Linear(network.channels, 2)
    optimizer = torch.optim.Adam([*network.parameters(), *classifier.parameters()], lr=3e-3)
    for _ in range(60):
        target = torch.randint(0, 2, (16,))
        slope = torch.where(target == 1, 1, -1)[:, None] * torch.arange(16)
        x = 0.1 * torch.randn(16, 16, 16)
        x.scatter_(1, ((torch.randint(0, 16, (16, 1)) + slope) % 16)[:, None], 3.0)
        loss = F.cross_entropy(classifier(_pool(*network(x, torch.full((16,), 16)))), target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.2


@pytest.mark.slow
@pytest.mark.parametrize("kind", ALL)
@pytest.mark.parametrize("bands", [16, 80])
def test_it_is_exported_with_any_batch_and_length(kind: type[PANNs], bands: int) -> None:
    network = _lived_in(_small(kind, bands))
    sizes = ({0: Dim.DYNAMIC, 2: Dim.DYNAMIC}, {0: Dim.DYNAMIC})
    exported = export(
        network, (torch.randn(4, bands, 98), torch.tensor([98, 5, 60, 98])), dynamic_shapes=sizes
    ).module()
    for batch, size in ((1, 50), (3, 2), (1, 30), (2, 500)):
        x, lengths = torch.randn(batch, bands, size), torch.randint(1, size + 1, (batch,))
        y, counts = exported(x, lengths)
        expected, known = network(x, lengths)
        assert torch.equal(counts, known)
        torch.testing.assert_close(y, expected)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ALL)
def test_it_trains_alike_when_compiled(kind: type[PANNs]) -> None:
    network = _small(kind, dropout=0.0)
    other = copy.deepcopy(network)
    compiled = torch.compile(other, backend="aot_eager")
    x, lengths = torch.randn(4, 20, 98), torch.tensor([98, 5, 60, 98])
    for module in (network, compiled):
        module(x, lengths)[0].square().sum().backward()
    for (name, a), b in zip(network.named_parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-3, atol=1e-3 * a.grad.abs().max().item(), msg=name)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"channels": []}, "channels must be a list of numbers from 1, one per block, is []"),
        ({"channels": [4, 0]}, "channels must be a list of numbers from 1, one per block, is [4, 0]"),
        ({"dropout": 1.0}, "dropout must be at least 0 and below 1, is 1.0"),
        ({"dropout": -0.1}, "dropout must be at least 0 and below 1, is -0.1"),
    ],
)
def test_an_option_out_of_range_is_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        CNN10(80, **options)
    assert str(caught.value) == message
