"""Arithmetic with lengths: the padding changes nothing, whatever stands there."""

from __future__ import annotations

import pytest
import torch
from torch.export import Dim, export

from soundbench import masks

LENGTHS = torch.tensor([7, 3, 1, 5])


@pytest.fixture
def rows() -> torch.Tensor:
    """Rows whose padding is NaN, so that whatever looks at it is found out."""
    torch.manual_seed(0)
    x = torch.randn(4, 3, 7, dtype=torch.float64)
    for row, length in zip(x, LENGTHS, strict=True):
        row[:, length:] = torch.nan
    return x


def test_a_mask_is_true_up_to_each_length() -> None:
    expected = [[True] * int(length) + [False] * (7 - int(length)) for length in LENGTHS]
    assert masks.mask(LENGTHS, 7).tolist() == expected


def test_apply_puts_zeros_in_place_of_nan(rows: torch.Tensor) -> None:
    applied = masks.apply(rows, LENGTHS)
    assert torch.isfinite(applied).all()
    for row, given, length in zip(applied, rows, LENGTHS, strict=True):
        assert torch.equal(row[:, :length], given[:, :length])
        assert not row[:, length:].any()


def test_apply_fills_with_what_is_asked_for(rows: torch.Tensor) -> None:
    lowest = masks.apply(rows, LENGTHS, float("-inf"))
    assert torch.equal(torch.isneginf(lowest), torch.isnan(rows))


@pytest.mark.parametrize("shape", [(4, 7), (4, 3, 7), (4, 3, 2, 7)])
def test_apply_and_keep_take_any_rank(shape: tuple[int, ...]) -> None:
    x = torch.randn(shape)
    keep = masks.keep(LENGTHS, x)
    assert keep is not None
    assert torch.equal(x * keep, masks.apply(x, LENGTHS))


def test_full_rows_need_no_multiplier() -> None:
    x = torch.randn(2, 3, 5)
    assert masks.keep(torch.tensor([5, 5]), x) is None
    assert masks.apply(x, torch.tensor([5, 5])) is x


def test_the_multiplier_has_the_type_of_what_it_multiplies() -> None:
    keep = masks.keep(LENGTHS, torch.zeros(4, 3, 7, dtype=torch.bfloat16))
    assert keep is not None
    assert keep.dtype == torch.bfloat16


@pytest.mark.parametrize("unbiased", [True, False])
def test_mean_and_deviation_are_those_of_the_row_alone(rows: torch.Tensor, unbiased: bool) -> None:
    mean, std = masks.mean_std(rows, LENGTHS, unbiased=unbiased)
    for i, length in enumerate(LENGTHS.tolist()):
        alone = rows[i, :, :length]
        torch.testing.assert_close(mean[i], alone.mean(1))
        if length > 1:
            torch.testing.assert_close(std[i], alone.std(1, correction=int(unbiased)))


def test_one_position_has_a_tiny_deviation_and_a_finite_gradient() -> None:
    x = torch.randn(1, 3, 1, requires_grad=True)
    mean, std = masks.mean_std(x, torch.tensor([1]), eps=1e-10)
    (mean.sum() + std.sum()).backward()
    torch.testing.assert_close(std, torch.full((1, 3), 1e-5))
    assert x.grad is not None
    torch.testing.assert_close(x.grad, torch.ones(1, 3, 1))


def test_variance_of_one_position_is_zero() -> None:
    variance, _ = masks.variance_mean(torch.randn(1, 3, 1), torch.tensor([1]))
    assert variance.tolist() == [[0.0] * 3]


def test_sums_are_taken_in_float32_at_least() -> None:
    assert masks.mean(torch.ones(1, 2, 3, dtype=torch.bfloat16), torch.tensor([3])).dtype == torch.float32
    assert masks.mean(torch.ones(1, 2, 3, dtype=torch.float64), torch.tensor([3])).dtype == torch.float64


def test_softmax_adds_up_to_one_over_the_true_positions(rows: torch.Tensor) -> None:
    weights = masks.softmax(rows, LENGTHS)
    torch.testing.assert_close(weights.sum(-1), torch.ones(4, 3, dtype=torch.float64))
    for i, length in enumerate(LENGTHS.tolist()):
        torch.testing.assert_close(weights[i, :, :length], rows[i, :, :length].softmax(-1))
        assert not weights[i, :, length:].any()


def test_extend_lengthens_short_rows_with_zeros() -> None:
    x, lengths = masks.extend(torch.ones(2, 3, 4), torch.tensor([2, 4]), 6)
    assert x.shape == (2, 3, 6)
    assert lengths.tolist() == [6, 6]
    assert x.sum(-1).tolist() == [[2.0] * 3, [4.0] * 3]


def test_extend_leaves_long_rows_and_clears_the_padding_of_short_ones() -> None:
    x, lengths = masks.extend(torch.ones(2, 3, 4), torch.tensor([1, 4]), 2)
    assert x.shape == (2, 3, 4)
    assert lengths.tolist() == [2, 4]
    assert x[0, 0].tolist() == [1.0, 0.0, 0.0, 0.0]


def test_a_stride_keeps_every_position_begun() -> None:
    assert masks.strided(torch.tensor([1, 2, 3, 4, 5]), 2).tolist() == [1, 1, 2, 2, 3]


class _Everything(torch.nn.Module):
    def forward(self, x: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        x, lengths = masks.extend(x, lengths, 5)
        keep = masks.keep(lengths, x)
        mean, std = masks.mean_std(x if keep is None else x * keep, lengths)
        return mean + std + masks.softmax(x, lengths).square().sum(-1)


def test_all_of_it_is_exported_with_any_batch_and_length() -> None:
    module, sizes = _Everything(), {0: Dim.DYNAMIC, 2: Dim.DYNAMIC}
    example = (torch.randn(4, 3, 9), torch.tensor([9, 9, 9, 9]))
    exported = export(module, example, dynamic_shapes=(sizes, {0: Dim.DYNAMIC})).module()
    for batch, size in ((2, 3), (5, 40)):
        x, lengths = torch.randn(batch, 3, size), torch.randint(1, size + 1, (batch,))
        torch.testing.assert_close(exported(x, lengths), module(x, lengths))
