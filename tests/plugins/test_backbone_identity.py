"""The identity gives what it is given."""

from __future__ import annotations

import pytest
import torch
from soundbench_plugins.backbone.identity import Identity
from soundbench_plugins.pooling.asp import ASP
from torch.export import Dim, export


@pytest.mark.parametrize("bands", [16, 768])
@pytest.mark.parametrize("frames", [1, 50])
def test_features_and_lengths_are_the_same(bands: int, frames: int) -> None:
    network = Identity(bands)
    features, lengths = torch.randn(2, bands, frames), torch.tensor([frames, frames])
    y, counts = network(features, lengths)
    assert network.channels == bands
    assert torch.equal(y, features)
    assert torch.equal(counts, lengths)


def test_what_is_beyond_the_lengths_is_zero() -> None:
    features = torch.randn(2, 16, 9)
    features[1, :, 4:] = float("nan")
    y, _ = Identity(16)(features, torch.tensor([9, 4]))
    assert torch.equal(y[0], features[0])
    assert torch.equal(y[1, :, :4], features[1, :, :4])
    assert not y[1, :, 4:].any()


def test_it_has_no_parameters_and_lets_the_gradient_through() -> None:
    network = Identity(16)
    assert not list(network.parameters())
    features = torch.randn(2, 16, 9, requires_grad=True)
    ASP(16)(*network(features, torch.tensor([9, 4]))).sum().backward()
    assert features.grad is not None
    assert features.grad[1, :, :4].any()
    assert not features.grad[1, :, 4:].any()


@pytest.mark.slow
def test_it_is_exported_with_any_batch_and_length() -> None:
    sizes = ({0: Dim.DYNAMIC, 2: Dim.DYNAMIC}, {0: Dim.DYNAMIC})
    exported = export(Identity(16), (torch.randn(4, 16, 9), torch.tensor([9, 1, 5, 9])), dynamic_shapes=sizes).module()
    x, lengths = torch.randn(2, 16, 30), torch.tensor([30, 7])
    assert torch.equal(exported(x, lengths)[0], Identity(16)(x, lengths)[0])
