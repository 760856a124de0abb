"""What all poolings promise: masked, finite on one frame, whole under autocast and export."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from soundbench_plugins.pooling.asp import ASP
from soundbench_plugins.pooling.max_mean import MaxMean
from soundbench_plugins.pooling.sap import SAP
from soundbench_plugins.pooling.tap import TAP
from soundbench_plugins.pooling.tsp import TSP
from torch import nn
from torch.export import Dim, export

POOLINGS: dict[str, Callable[[int], nn.Module]] = {
    "max-mean": MaxMean,
    "tap": TAP,
    "tsp": TSP,
    "tsp-variance": lambda channels: TSP(channels, spread="variance"),
    "sap": lambda channels: SAP(channels, attention=8),
    "asp": lambda channels: ASP(channels, attention=8),
    "asp-plain": lambda channels: ASP(channels, attention=8, context=False),
}


@pytest.fixture(params=POOLINGS, ids=str)
def pooling(request: pytest.FixtureRequest) -> nn.Module:
    """One of them, in evaluation."""
    torch.manual_seed(0)
    return POOLINGS[request.param](6).eval()


def test_a_row_is_the_same_alone_padded_and_in_any_batch(pooling: nn.Module) -> None:
    lengths = torch.tensor([50, 1, 2, 31])
    frames = torch.randn(4, 6, 50)
    for row, length in zip(frames, lengths, strict=True):
        row[:, length:] = torch.nan
    pooled = pooling(frames, lengths)
    assert pooled.shape == (4, pooling.features)
    for i, length in enumerate(lengths.tolist()):
        alone = pooling(frames[i : i + 1, :, :length], lengths[i : i + 1])
        torch.testing.assert_close(pooled[i : i + 1], alone, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("length", [1, 2, 20])
def test_values_and_gradients_are_finite(pooling: nn.Module, length: int) -> None:
    pooling.train()
    frames = torch.randn(3, 6, 20, requires_grad=True)
    pooling(frames, torch.tensor([length, 20, 5])).square().sum().backward()
    assert torch.isfinite(frames.grad).all()
    assert not frames.grad[0, :, length:].any()
    for name, parameter in pooling.named_parameters():
        assert torch.isfinite(parameter.grad).all(), name


def test_every_parameter_gets_a_gradient(pooling: nn.Module) -> None:
    pooling.train()
    frames = torch.randn(4, 6, 20, requires_grad=True)
    pooling(frames, torch.tensor([20, 20, 9, 12])).square().sum().backward()
    for name, parameter in pooling.named_parameters():
        # The softmax over time takes no notice of what is added to all of its logits.
        assert parameter.grad is not None, name
        assert name == "score.bias" or parameter.grad.any(), name


def test_constant_rows_pool_to_their_value(pooling: nn.Module) -> None:
    frames = torch.arange(6.0).repeat(2, 1)[..., None].expand(2, 6, 9)
    pooled = pooling(frames, torch.tensor([9, 4]))
    torch.testing.assert_close(pooled[:, :6], frames[..., 0] * (2 if isinstance(pooling, MaxMean) else 1))
    assert pooled[:, 6:].abs().max() < 1e-3 if pooling.features > 6 else True


def test_autocast_keeps_the_sums_in_float32(pooling: nn.Module) -> None:
    frames, lengths = torch.randn(2, 6, 400), torch.tensor([400, 300])
    expected = pooling(frames, lengths)
    with torch.autocast("cpu", torch.bfloat16):
        pooled = pooling(frames.bfloat16(), lengths)
    assert pooled.dtype == torch.float32
    torch.testing.assert_close(pooled, expected, rtol=0.05, atol=0.02)


def test_it_is_exported_with_any_batch_and_length(pooling: nn.Module) -> None:
    sizes = ({0: Dim.DYNAMIC, 2: Dim.DYNAMIC}, {0: Dim.DYNAMIC})
    exported = export(pooling, (torch.randn(4, 6, 9), torch.tensor([9, 1, 5, 9])), dynamic_shapes=sizes).module()
    for batch, size in ((2, 2), (5, 70)):
        frames, lengths = torch.randn(batch, 6, size), torch.randint(1, size + 1, (batch,))
        torch.testing.assert_close(exported(frames, lengths), pooling(frames, lengths))


@pytest.mark.parametrize("make", [SAP, ASP])
def test_an_option_out_of_range_is_refused(make: Callable[..., nn.Module]) -> None:
    with pytest.raises(ValueError, match="attention must be at least 1, is 0"):
        make(6, attention=0)
