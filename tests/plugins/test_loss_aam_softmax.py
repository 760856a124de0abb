"""The additive angular margin: the angles, soft targets, and the ends where sines vanish."""

from __future__ import annotations

import math

import pytest
import torch
from soundbench_plugins.loss.aam_softmax import AAMSoftmax
from soundbench_plugins.loss.cross_entropy import CrossEntropy
from torch.nn import functional as F

from soundbench.model.network import Head


def _cosines(rows: int, classes: int) -> torch.Tensor:
    return torch.rand(rows, classes, dtype=torch.float64) * 1.98 - 0.99


@pytest.mark.parametrize(("margin", "scale"), [(0.2, 32.0), (0.5, 64.0)])
def test_one_class_a_row_costs_what_the_paper_says(margin: float, scale: float) -> None:
    cosines, own = _cosines(200, 6), torch.arange(200) % 6
    cosines[range(200), own] = torch.linspace(-0.999, 0.999, 200, dtype=torch.float64)
    angles = cosines.acos()
    inside = angles[range(200), own] + margin < math.pi
    assert 180 < inside.sum() < 200
    moved = cosines.clone()
    moved[range(200), own] = (angles[range(200), own] + margin).cos()
    expected = F.cross_entropy(scale * moved, own, reduction="none")
    loss = AAMSoftmax(6, margin=margin, scale=scale)(cosines, F.one_hot(own, 6).double())
    torch.testing.assert_close(loss[inside], expected[inside])


def test_the_cost_falls_with_the_cosine_everywhere() -> None:
    own = torch.linspace(-1, 1, 2001, dtype=torch.float64)
    cosines = torch.stack([own, torch.zeros_like(own)], 1)
    loss = AAMSoftmax(2, margin=0.5)(cosines, torch.tensor([[1.0, 0.0]], dtype=torch.float64).expand(2001, 2))
    falls = loss.diff() < 0
    assert falls.sum() >= 1999  # where the line takes over it steps up, as the authors' does
    assert AAMSoftmax(2)(cosines[-1:], torch.tensor([[1.0, 0.0]])).item() < 1e-10


def test_without_a_margin_it_is_cross_entropy_of_scaled_cosines() -> None:
    cosines, target = _cosines(5, 4), torch.rand(5, 4, dtype=torch.float64)
    torch.testing.assert_close(
        AAMSoftmax(4, margin=0.0, scale=20.0)(cosines, target), CrossEntropy(4)(20.0 * cosines, target)
    )


def test_soft_targets_get_their_share_of_the_margin() -> None:
    cosines, target = _cosines(50, 3) * 0.8, torch.tensor([[0.3, 0.7, 0.0]], dtype=torch.float64).expand(50, 3)
    moved = (cosines.acos() + 0.2 * target).cos()
    expected = -(target * (32.0 * moved).log_softmax(1)).sum(1)
    torch.testing.assert_close(AAMSoftmax(3)(cosines, target), expected)


@pytest.mark.parametrize("end", [-1.0, 1.0, 1.0000002])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_at_both_ends_loss_and_gradient_are_finite(end: float, dtype: torch.dtype) -> None:
    cosines = torch.tensor([[end, -end, 0.0], [0.0, end, -end]], dtype=dtype, requires_grad=True)
    loss = AAMSoftmax(3, margin=0.5, scale=64.0)(cosines, torch.tensor([[1.0, 0.0, 0.0], [0.5, 0.5, 0.0]]))
    loss.sum().backward()
    assert torch.isfinite(loss).all()
    assert cosines.grad is not None
    assert torch.isfinite(cosines.grad).all()


def test_the_gradient_is_the_derivative() -> None:
    cosines, target = _cosines(4, 3).requires_grad_(), torch.eye(3, dtype=torch.float64)[[0, 1, 2, 0]]
    assert torch.autograd.gradcheck(lambda x: AAMSoftmax(3)(x, target), cosines)


def test_it_teaches_a_head_of_cosines() -> None:
    torch.manual_seed(0)
    vectors, target = torch.randn(30, 8), torch.eye(3)[torch.arange(30) % 3]
    loss = AAMSoftmax(3)
    head = Head(8, 3, classifier=loss.classifier)
    optimizer = torch.optim.Adam(head.parameters(), lr=0.05)
    before = loss(head(vectors), target).mean().item()
    for _ in range(60):
        optimizer.zero_grad()
        loss(head(vectors), target).mean().backward()
        optimizer.step()
    assert loss(head(vectors), target).mean().item() < before / 2


def test_scores_are_the_softmax_without_margin() -> None:
    cosines = torch.rand(3, 4).bfloat16()
    scores = AAMSoftmax(4, scale=16.0).scores(cosines)
    assert scores.dtype == torch.float32
    torch.testing.assert_close(scores, (16.0 * cosines.float()).softmax(1))


def test_it_has_no_parameters_and_wants_a_layer_of_cosines() -> None:
    assert not AAMSoftmax(4).state_dict()
    assert AAMSoftmax(4).classifier == "cosine"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"margin": -0.1}, "margin must be from 0 to below pi / 2, is -0.1"),
        ({"margin": 1.6}, "margin must be from 0 to below pi / 2, is 1.6"),
        ({"scale": 0.0}, "scale must be above 0, and finite, is 0.0"),
        ({"scale": math.nan}, "scale must be above 0, and finite, is nan"),
    ],
)
def test_an_option_out_of_range_is_refused(options: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        AAMSoftmax(4, **options)
    assert str(caught.value) == message
