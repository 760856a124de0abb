"""Binary cross entropy with hard and soft targets."""

from __future__ import annotations

import pytest
import torch
from soundbench_plugins.loss.bce import BCE
from torch.nn import functional as F


def test_a_row_costs_the_mean_of_its_classes() -> None:
    logits, target = torch.randn(6, 5, dtype=torch.float64), torch.rand(6, 5, dtype=torch.float64).round()
    p = 1 / (1 + (-logits).exp())
    expected = -(target * p.log() + (1 - target) * (1 - p).log()).sum(1) / 5
    torch.testing.assert_close(BCE(5)(logits, target), expected)
    torch.testing.assert_close(BCE(5)(logits, target).mean(), F.binary_cross_entropy(p, target))


def test_a_mixed_target_costs_the_mix_of_both() -> None:
    logits, loss = torch.randn(1, 3), BCE(3)
    one, other = torch.tensor([[1.0, 1.0, 0.0]]), torch.tensor([[0.0, 1.0, 1.0]])
    torch.testing.assert_close(
        loss(logits, 0.3 * one + 0.7 * other), 0.3 * loss(logits, one) + 0.7 * loss(logits, other)
    )


def test_scores_are_each_classes_own() -> None:
    logits = torch.tensor([[-2.0, 0.0, 3.0]])
    scores = BCE(3).scores(logits.bfloat16())
    assert scores.dtype == torch.float32
    torch.testing.assert_close(scores, 1 / (1 + (-logits).exp()))
    torch.testing.assert_close(BCE(2).scores(logits[:, :2]), scores[:, :2])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_far_out_it_stays_finite_and_has_a_gradient(dtype: torch.dtype) -> None:
    logits = torch.tensor([[-1e4, 1e4, 0.0]], dtype=dtype, requires_grad=True)
    loss = BCE(3)(logits, torch.tensor([[1.0, 0.0, 1.0]]))
    loss.sum().backward()
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(2e4 / 3, rel=0.01)
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()


def test_it_has_no_parameters_and_wants_a_linear_layer() -> None:
    assert not BCE(4).state_dict()
    assert BCE(4).classifier == "linear"
