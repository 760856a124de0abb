"""Polarity: the sign and nothing else."""

from __future__ import annotations

import pytest
import torch
from helpers.waveforms import waveforms
from soundbench_plugins.augmentation.polarity import Polarity

from soundbench.chance import Chance

CHANCE = Chance(1, 1, "augmentation[0]")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_rows_change_their_sign_as_often_as_chance_says(dtype: torch.dtype) -> None:
    data = torch.randn(3000, 5).to(dtype)
    out = Polarity(16000, chance=0.3)(waveforms(data), CHANCE)
    turned = (out.data == -data).all(1)
    assert out.data.dtype == dtype
    assert torch.equal(out.data[~turned], data[~turned])
    assert turned.float().mean().item() == pytest.approx(0.3, abs=0.03)


def test_the_draw_is_the_positions_and_the_epochs() -> None:
    data, polarity = torch.randn(20, 30), Polarity(16000)
    together = polarity(waveforms(data), CHANCE)
    for i in range(20):
        assert torch.equal(polarity(waveforms(data[i : i + 1], first=i), CHANCE).data[0], together.data[i])
    assert not torch.equal(polarity(waveforms(data), Chance(1, 2, "augmentation[0]")).data, together.data)


def test_padding_is_zero() -> None:
    out = Polarity(16000, chance=1.0)(waveforms(torch.ones(2, 9), [9, 4]), CHANCE)
    assert out.data.tolist() == [[-1.0] * 9, [-1.0] * 4 + [0.0] * 5]


@pytest.mark.parametrize("chance", [-0.1, 1.1, float("nan")])
def test_a_chance_that_is_none_is_refused(chance: float) -> None:
    with pytest.raises(ValueError, match=f"chance must be from 0 to 1, is {chance}"):
        Polarity(16000, chance=chance)
