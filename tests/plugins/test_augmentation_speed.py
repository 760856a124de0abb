"""Speed perturbation: where tones go, what is lost, and whose draw it is."""

from __future__ import annotations

from fractions import Fraction

import pytest
import torch
from soundbench_plugins.augmentation.speed import Speed
from soundbench_plugins.layers.resampling import resampled, sinc_kernel

from soundbench.chance import Chance
from soundbench.contracts import Batch

RATE = 16000
CHANCE = Chance(1, 1, "augmentation[0]")


def _batch(data: torch.Tensor, lengths: list[int] | None = None, first: int = 0) -> Batch:
    count = data.shape[0]
    index = torch.arange(first, first + count)
    whole = torch.tensor(lengths) if lengths else torch.full((count,), data.shape[1])
    return Batch(data=data, lengths=whole, target=torch.eye(count), index=index, position=index)


def _tone(frequency: float, samples: int = RATE, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.sin(2 * torch.pi * frequency / RATE * torch.arange(samples, dtype=torch.float64)).to(dtype)


def _decibels(x: torch.Tensor) -> float:
    return 10 * torch.log10(x.double().square().mean()).item()


@pytest.mark.parametrize("factor", [0.9, 1.1, 1.25, 0.5, 2.0])
def test_a_tone_moves_to_its_frequency_times_the_factor(factor: float) -> None:
    batch = Speed(RATE, factors=[factor])(_batch(_tone(1000)[None]), CHANCE)
    length = int(batch.lengths)
    assert length == min(-(-int(RATE * 100) // round(factor * 100)), RATE)
    inner = slice(200, length - 200)
    error = batch.data[0] - _tone(1000 * factor)
    assert _decibels(error[inner]) < _decibels(batch.data[0, inner]) - 80


@pytest.mark.parametrize(("factor", "frequency"), [(1.1, 7300.0), (1.1, 7900.0), (1.25, 7000.0), (2.0, 5000.0)])
def test_what_would_fold_back_is_gone(factor: float, frequency: float) -> None:
    batch = Speed(RATE, factors=[factor])(_batch(_tone(frequency)[None]), CHANCE)
    inner = slice(200, int(batch.lengths) - 200)
    assert _decibels(batch.data[0, inner]) < _decibels(_tone(frequency)) - 75


@pytest.mark.parametrize("frequency", [100.0, 3000.0, 6700.0])
def test_what_lies_in_the_band_passes_whole(frequency: float) -> None:
    batch = Speed(RATE, factors=[0.9])(_batch(_tone(frequency)[None]), CHANCE)
    assert _decibels(batch.data[0, 200:-200]) == pytest.approx(_decibels(_tone(frequency)), abs=0.02)


def test_each_filter_passes_a_constant_and_nothing_is_shifted() -> None:
    for factor in (Fraction(9, 10), Fraction(11, 10)):
        kernel = sinc_kernel(factor)
        torch.testing.assert_close(kernel.sum(2), torch.ones(factor.denominator, 1, dtype=torch.float64))
        impulse = torch.zeros(1, 1100, dtype=torch.float64)
        impulse[0, 990] = 1.0
        assert resampled(impulse, factor, kernel)[0].argmax().item() == 990 / factor


def test_lengths_stay_honest_and_padding_stays_zero() -> None:
    data = torch.randn(4, 1000)
    batch = Speed(RATE, factors=[1.25])(_batch(data, [1000, 500, 7, 1]), CHANCE)
    assert batch.data.shape == (4, 1000)
    assert batch.lengths.tolist() == [800, 400, 6, 1]
    for row, length in zip(batch.data, batch.lengths, strict=True):
        assert not row[length:].any()
        assert row[:length].any()


def test_a_slower_row_is_cut_at_the_end_of_the_batch() -> None:
    batch = Speed(RATE, factors=[0.5])(_batch(torch.randn(2, 1000), [1000, 300]), CHANCE)
    assert batch.data.shape == (2, 1000)
    assert batch.lengths.tolist() == [1000, 600]


def test_the_batch_that_was_given_is_left_as_it_is() -> None:
    given = _batch(torch.randn(3, 800))
    before = given.data.clone()
    Speed(RATE, factors=[0.9, 1.1])(given, CHANCE)
    assert torch.equal(given.data, before)
    assert given.lengths.tolist() == [800] * 3


def test_the_draw_is_the_positions_not_the_batchs() -> None:
    torch.manual_seed(0)
    data = torch.randn(12, 900)
    speed = Speed(RATE)
    together = speed(_batch(data), CHANCE)
    for i in range(12):
        alone = speed(_batch(data[i : i + 1], first=i), CHANCE)
        assert alone.lengths[0] == together.lengths[i]
        torch.testing.assert_close(alone.data[0], together.data[i], rtol=0, atol=1e-5)


def test_factors_are_drawn_alike() -> None:
    batch = Speed(RATE)(_batch(torch.ones(3000, 100)), CHANCE)
    shares = [(batch.lengths == length).float().mean().item() for length in (91, 100)]
    assert shares == pytest.approx([1 / 3, 2 / 3], abs=0.03)


def test_chance_says_how_often() -> None:
    batch = Speed(RATE, factors=[2.0], chance=0.25)(_batch(torch.ones(3000, 100)), CHANCE)
    assert (batch.lengths == 50).float().mean().item() == pytest.approx(0.25, abs=0.03)
    assert (Speed(RATE, factors=[2.0], chance=0.0)(_batch(torch.ones(9, 100)), CHANCE).lengths == 100).all()


def test_epochs_draw_anew() -> None:
    speed, batch = Speed(RATE), _batch(torch.ones(50, 100))
    first = speed(batch, CHANCE).lengths
    assert torch.equal(speed(batch, CHANCE).lengths, first)
    assert not torch.equal(speed(batch, Chance(1, 2, "augmentation[0]")).lengths, first)


def test_it_holds_nothing_that_a_checkpoint_would_keep() -> None:
    assert not Speed(RATE).state_dict()


@pytest.mark.parametrize("factor", [0.0, -1.0, 3.14159265, 101.0, float("nan"), float("inf")])
def test_a_factor_that_is_no_ratio_of_small_numbers_is_refused(factor: float) -> None:
    with pytest.raises(ValueError, match=f"factors must be ratios of whole numbers up to 100, .*, is {factor}"):
        Speed(RATE, factors=[1.0, factor])


def test_other_options_out_of_range_are_refused() -> None:
    with pytest.raises(ValueError, match=r"factors must be a list of at least one speed, is \[\]"):
        Speed(RATE, factors=[])
    with pytest.raises(ValueError, match="chance must be from 0 to 1, is 2"):
        Speed(RATE, chance=2.0)
