"""Gain: how much, how often, and whose draw it is."""

from __future__ import annotations

import math

import pytest
import torch
from helpers.waveforms import waveforms
from soundbench_plugins.augmentation.gain import Gain

from soundbench.chance import Chance
from soundbench.contracts import Batch

CHANCE = Chance(1, 1, "augmentation[0]")


def _decibels(batch: Batch) -> torch.Tensor:
    return 20 * batch.data[:, 0].double().abs().log10()


def test_decibels_are_drawn_evenly_between_low_and_high() -> None:
    drawn = _decibels(Gain(16000, low=-6.0, high=2.0)(waveforms(torch.ones(4000, 3)), CHANCE))
    assert drawn.min() >= -6.0001
    assert drawn.max() <= 2.0001
    assert torch.histc(drawn, 4, -6.0, 2.0).div(4000).tolist() == pytest.approx([0.25] * 4, abs=0.03)


def test_a_row_is_scaled_as_a_whole_and_padding_is_zero() -> None:
    data = torch.randn(3, 50)
    out = Gain(16000, low=6.0, high=6.0)(waveforms(data, [50, 20, 1]), CHANCE)
    for before, after, length in zip(data, out.data, (50, 20, 1), strict=True):
        torch.testing.assert_close(after[:length], before[:length] * 10 ** (6 / 20))
        assert not after[length:].any()
    assert out.lengths.tolist() == [50, 20, 1]


def test_the_draw_is_the_positions_not_the_batchs() -> None:
    data, gain = torch.randn(8, 30), Gain(16000)
    together = gain(waveforms(data), CHANCE)
    for i in range(8):
        assert torch.equal(gain(waveforms(data[i : i + 1], first=i), CHANCE).data[0], together.data[i])


def test_chance_says_how_often_and_epochs_draw_anew() -> None:
    batch = waveforms(torch.ones(3000, 2))
    out = Gain(16000, chance=0.3)(batch, CHANCE)
    assert (out.data[:, 0] != 1).float().mean().item() == pytest.approx(0.3, abs=0.03)
    assert not torch.equal(Gain(16000)(batch, CHANCE).data, Gain(16000)(batch, Chance(1, 2, "augmentation[0]")).data)
    assert (batch.data == 1).all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_the_type_stays(dtype: torch.dtype) -> None:
    assert Gain(16000)(waveforms(torch.ones(2, 4, dtype=dtype)), CHANCE).data.dtype == dtype


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"low": 3.0, "high": -3.0}, "low must be finite and at most high, -3.0, is 3.0"),
        ({"low": -math.inf}, "low must be finite and at most high, 8.0, is -inf"),
        ({"high": math.nan}, "low must be finite and at most high, nan, is -8.0"),
        ({"chance": -0.1}, "chance must be from 0 to 1, is -0.1"),
    ],
)
def test_an_option_out_of_range_is_refused(options: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        Gain(16000, **options)
    assert str(caught.value) == message
