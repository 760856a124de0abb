"""Focal loss in both its forms."""

from __future__ import annotations

import math

import pytest
import torch
from soundbench_plugins.loss.bce import BCE
from soundbench_plugins.loss.cross_entropy import CrossEntropy
from soundbench_plugins.loss.focal import Focal


@pytest.mark.parametrize("gamma", [0.5, 1.0, 2.0, 5.0])
def test_it_is_the_papers(gamma: float) -> None:
    logits = torch.randn(8, 5, dtype=torch.float64) * 3
    classes, several = torch.eye(5, dtype=torch.float64)[[0, 1, 2, 3, 4, 0, 1, 2]], torch.rand(8, 5).round().double()
    p = (logits.exp() / logits.exp().sum(1, keepdim=True) * classes).sum(1)
    torch.testing.assert_close(Focal(5, gamma=gamma)(logits, classes), -((1 - p) ** gamma) * p.log())
    p = 1 / (1 + logits.neg().exp())
    p = torch.where(several == 1, p, 1 - p)
    expected = (-((1 - p) ** gamma) * p.log()).mean(1)
    torch.testing.assert_close(Focal(5, gamma=gamma, multilabel=True)(logits, several), expected)


def test_figures_of_the_paper() -> None:
    """Section 3.2: with gamma 2, p = 0.9 costs 100 times less than cross entropy, and p = 0.968 about 1000 times."""
    for p, less in ((0.9, 100), (0.968, 1000)):
        logits = torch.tensor([[math.log(p / (1 - p)), 0.0]])
        target = torch.tensor([[1.0, 0.0]])
        ratio = CrossEntropy(2)(logits, target) / Focal(2)(logits, target)
        assert ratio.item() == pytest.approx(less, rel=0.03)


def test_with_gamma_0_they_are_the_plain_losses() -> None:
    logits, soft = torch.randn(6, 4), torch.rand(6, 4)
    torch.testing.assert_close(Focal(4, gamma=0.0)(logits, soft), CrossEntropy(4)(logits, soft))
    torch.testing.assert_close(Focal(4, gamma=0.0, multilabel=True)(logits, soft), BCE(4)(logits, soft))


@pytest.mark.parametrize("multilabel", [False, True])
def test_a_mixed_target_costs_the_mix_of_both(multilabel: bool) -> None:
    logits, loss = torch.randn(1, 3), Focal(3, multilabel=multilabel)
    one, other = torch.tensor([[1.0, 0.0, 0.0]]), torch.tensor([[0.0, 0.0, 1.0]])
    mixed = loss(logits, 0.3 * one + 0.7 * other)
    torch.testing.assert_close(mixed, 0.3 * loss(logits, one) + 0.7 * loss(logits, other))


@pytest.mark.parametrize("gamma", [0.0, 0.3, 2.0])
@pytest.mark.parametrize("multilabel", [False, True])
def test_far_out_it_stays_finite_and_so_does_its_gradient(gamma: float, multilabel: bool) -> None:
    logits = torch.tensor([[200.0, -200.0, 0.0], [-200.0, 200.0, 0.0]], requires_grad=True)
    loss = Focal(3, gamma=gamma, multilabel=multilabel)(logits, torch.eye(3)[[0, 0]])
    loss.sum().backward()
    assert torch.isfinite(loss).all()
    assert loss[1] > 50
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()


def test_scores_are_what_the_form_says() -> None:
    logits = torch.randn(3, 4).bfloat16()
    torch.testing.assert_close(Focal(4).scores(logits), logits.float().softmax(1))
    torch.testing.assert_close(Focal(4, multilabel=True).scores(logits), logits.float().sigmoid())


def test_it_has_no_parameters_and_wants_a_linear_layer() -> None:
    assert not Focal(4).state_dict()
    assert Focal(4).classifier == "linear"


@pytest.mark.parametrize("gamma", [-0.1, math.inf, math.nan])
def test_gamma_out_of_range_is_refused(gamma: float) -> None:
    with pytest.raises(ValueError, match=f"gamma must be at least 0, and finite, is {gamma}"):
        Focal(4, gamma=gamma)
