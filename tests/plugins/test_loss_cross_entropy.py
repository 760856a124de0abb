"""Cross entropy with soft targets."""

from __future__ import annotations

import pytest
import torch
from soundbench_plugins.loss.cross_entropy import CrossEntropy
from torch.nn import functional as F


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_it_is_torchs_for_one_class_a_row(smoothing: float) -> None:
    logits, classes = torch.randn(6, 5), torch.tensor([0, 4, 2, 2, 1, 3])
    loss = CrossEntropy(5, smoothing=smoothing)(logits, F.one_hot(classes, 5).float())
    expected = F.cross_entropy(logits, classes, reduction="none", label_smoothing=smoothing)
    torch.testing.assert_close(loss, expected)


def test_a_mixed_target_costs_the_mix_of_both() -> None:
    logits, loss = torch.randn(1, 3), CrossEntropy(3)
    one, other = torch.tensor([[1.0, 0.0, 0.0]]), torch.tensor([[0.0, 0.0, 1.0]])
    mixed = loss(logits, 0.3 * one + 0.7 * other)
    torch.testing.assert_close(mixed, 0.3 * loss(logits, one) + 0.7 * loss(logits, other))


def test_scores_are_probabilities() -> None:
    scores = CrossEntropy(4).scores(torch.randn(3, 4).bfloat16() * 50)
    assert scores.dtype == torch.float32
    torch.testing.assert_close(scores.sum(1), torch.ones(3))


def test_it_has_no_parameters_and_wants_a_linear_layer() -> None:
    loss = CrossEntropy(4)
    assert not list(loss.parameters())
    assert not loss.state_dict()
    assert loss.classifier == "linear"


@pytest.mark.parametrize("smoothing", [-0.1, 1.0])
def test_smoothing_out_of_range_is_refused(smoothing: float) -> None:
    with pytest.raises(ValueError, match=f"smoothing must be from 0 to below 1, is {smoothing}"):
        CrossEntropy(4, smoothing=smoothing)
