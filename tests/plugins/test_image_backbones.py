"""What the two-dimensional residual networks promise to the rows of a batch, each of them narrow."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from soundbench_plugins.backbone.eres2net import ERes2Net
from soundbench_plugins.backbone.eres2netv2 import ERes2NetV2
from soundbench_plugins.backbone.res2net import Res2Net
from soundbench_plugins.backbone.resnet_se import ResNetSE
from soundbench_plugins.pooling.tsp import TSP
from torch import Tensor, nn
from torch.export import Dim, export
from torch.nn import functional as F

NETWORKS: dict[str, Callable[[int], nn.Module]] = {
    "eres2net": lambda bands: ERes2Net(bands, layers=[1, 1, 2, 1], width=8),
    "eres2netv2": lambda bands: ERes2NetV2(bands, layers=[1, 1, 2, 1], width=8),
    "res2net": lambda bands: Res2Net(bands, layers=[2, 1, 1, 1], width=8),
    "resnet-se": lambda bands: ResNetSE(bands, layers=[1, 2, 1, 1], widths=[8, 8, 12, 16]),
}


@pytest.fixture(params=NETWORKS, ids=str)
def make(request: pytest.FixtureRequest) -> Callable[[int], nn.Module]:
    """One of them, from its number of bands, drawn anew but alike, with running statistics as training leaves them."""

    def made(bands: int) -> nn.Module:
        torch.manual_seed(0)
        network = NETWORKS[request.param](bands)
        for name, buffer in network.named_buffers():
            if name.endswith("running_mean"):
                buffer.normal_(0.0, 0.3)
            if name.endswith("running_var"):
                buffer.uniform_(0.5, 2.0)
        return network.eval()

    return made


def pooled(network: nn.Module, x: Tensor, lengths: Tensor) -> Tensor:
    return TSP(network.channels)(*network(x, lengths))


@pytest.mark.parametrize("bands", [23, 80])
def test_a_row_is_the_same_alone_padded_and_in_any_batch(make: Callable[[int], nn.Module], bands: int) -> None:
    network = make(bands)
    lengths = torch.tensor([298, 1, 2, 5, 98, 99, 100, 101, 256])
    features = torch.randn(9, bands, 298)
    for row, length in zip(features, lengths, strict=True):
        row[:, length:] = torch.nan
    with torch.no_grad():
        together = pooled(network, features, lengths)
        for i, length in enumerate(lengths.tolist()):
            alone = pooled(network, features[i : i + 1, :, :length], lengths[i : i + 1])
            torch.testing.assert_close(together[i : i + 1], alone, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("bands", "frames"), [(16, 1), (17, 67), (23, 2), (60, 9), (129, 5), (768, 1)])
def test_any_number_of_bands_and_frames_will_do(make: Callable[[int], nn.Module], bands: int, frames: int) -> None:
    network = make(bands)
    for mode in (True, False):
        network.train(mode)
        y, lengths = network(torch.randn(1, bands, frames), torch.tensor([frames]))
        assert y.shape[:2] == (1, network.channels)
        assert 1 <= lengths.item() <= y.shape[2]
        assert torch.isfinite(y).all()


@pytest.mark.parametrize(("batch", "frames"), [(1, 1), (3, 40)])
def test_every_parameter_gets_a_gradient(make: Callable[[int], nn.Module], batch: int, frames: int) -> None:
    network = make(20).train()
    pooled(network, torch.randn(batch, 20, frames), torch.full((batch,), frames)).square().sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
        assert frames == 1 or parameter.grad.any(), name


def test_full_rows_are_trained_alike_with_and_without_masks(
    make: Callable[[int], nn.Module], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = make(20).double().train(), make(20).double().train()
    x, lengths = torch.randn(4, 20, 60, dtype=torch.float64), torch.full((4,), 60)
    one(x, lengths)[0].square().sum().backward()
    monkeypatch.setattr("soundbench.masks.full", lambda lengths, size: False)
    other(x, lengths)[0].square().sum().backward()
    for (name, a), b in zip(one.named_parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, msg=name)


def test_it_stays_near_itself_in_bfloat16(make: Callable[[int], nn.Module]) -> None:
    network = make(80)
    x, lengths = torch.randn(3, 80, 200), torch.tensor([200, 120, 60])
    with torch.no_grad():
        expected = pooled(network, x, lengths)
        with torch.autocast("cpu", torch.bfloat16):
            got = pooled(network, x, lengths)
    assert F.cosine_similarity(expected, got.float()).min() > 0.999


def test_training_runs_in_bfloat16(make: Callable[[int], nn.Module]) -> None:
    network = make(20).train()
    with torch.autocast("cpu", torch.bfloat16):
        y, _ = network(torch.randn(2, 20, 50), torch.tensor([50, 30]))
    y.float().square().sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in network.parameters())


@pytest.mark.slow
def test_it_is_exported_with_any_batch_and_length(make: Callable[[int], nn.Module]) -> None:
    network = make(20)
    sizes = ({0: Dim.DYNAMIC, 2: Dim.DYNAMIC}, {0: Dim.DYNAMIC})
    exported = export(network, (torch.randn(4, 20, 98), torch.tensor([98, 5, 60, 98])), dynamic_shapes=sizes).module()
    for batch, size in ((1, 50), (3, 2), (2, 500)):
        x, lengths = torch.randn(batch, 20, size), torch.randint(1, size + 1, (batch,))
        y, counts = exported(x, lengths)
        expected, known = network(x, lengths)
        assert torch.equal(counts, known)
        torch.testing.assert_close(y, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_it_is_compiled(make: Callable[[int], nn.Module]) -> None:
    one, other = make(20).double().train(), make(20).double().train()
    compiled = torch.compile(other, backend="aot_eager", fullgraph=True)
    for frames in (60, 41):
        x, lengths = torch.randn(3, 20, frames, dtype=torch.float64), torch.tensor([frames, 20, 3])
        (expected, _), (got, _) = one(x, lengths), compiled(x, lengths)
        torch.testing.assert_close(got, expected)
        expected.square().sum().backward()
        got.square().sum().backward()
    for (name, a), b in zip(one.named_parameters(), other.named_parameters(), strict=True):
        torch.testing.assert_close(a.grad, b[1].grad, msg=name)
