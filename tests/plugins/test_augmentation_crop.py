"""Crop: which part of a row, how long, and whose draw it is."""

from __future__ import annotations

import pytest
import torch
from helpers.waveforms import counting, waveforms
from soundbench_plugins.augmentation.crop import Crop

from soundbench.chance import Chance

CHANCE = Chance(1, 1, "augmentation[0]")
RATE = 200
"""At which 5 ms are a sample."""


def test_what_is_kept_is_a_part_of_the_row_itself() -> None:
    lengths = [100, 61, 2, 1] * 60
    out = Crop(RATE, chance=1.0)(waveforms(counting(240, 100), lengths), CHANCE)
    assert (out.data[:, 0] > 1).float().mean() > 0.4  # of the long ones, most do not begin with the row
    for row, kept, length in zip(out.data, out.lengths.tolist(), lengths, strict=True):
        first = int(row[0])
        assert 1 <= kept <= length
        assert first + kept - 1 <= length
        assert torch.equal(row[:kept], torch.arange(first, first + kept, dtype=row.dtype))
        assert not row[kept:].any()


def test_all_lengths_from_the_shortest_are_equally_likely_and_no_place_of_an_even_sound_is_left_out() -> None:
    even = 1.0 + counting(4000, 1000) * 1e-4
    out = Crop(RATE, shortest=0.2, chance=1.0)(waveforms(even), CHANCE)
    kept = out.lengths.double()
    assert (kept.min(), kept.max()) == (pytest.approx(200, abs=5), pytest.approx(1000, abs=5))
    assert kept.mean().item() == pytest.approx(600, abs=15)
    assert kept.var().item() == pytest.approx(800**2 / 12, rel=0.05)
    place = ((out.data[:, 0] - 1) * 1e4 - 1) / (1000 - kept).clamp(min=1)
    assert place.mean().item() == pytest.approx(0.5, abs=0.03)
    tenths = torch.histc(place[kept < 900].clamp(0, 1), 10, 0, 1) / (kept < 900).sum()
    assert (tenths.min() > 0.04, tenths.max() < 0.25) == (True, True)


def test_sound_is_in_every_part_and_what_is_louder_in_more_of_them() -> None:
    data = torch.zeros(2000, 1600)
    data[:, 300:310], data[:, 1200:1210] = 1.0, 3.0**0.5  # three times the energy
    out = Crop(16000, shortest=0.05, chance=1.0)(waveforms(data), CHANCE)
    quiet, loud = ((out.data == level).any(1) for level in (1.0, 3.0**0.5))
    assert (quiet | loud).all()
    short = out.lengths < 800
    assert loud[short].float().mean().item() == pytest.approx(0.75, abs=0.04)
    assert not (quiet & loud)[short].any()


def test_a_silent_row_is_cut_too() -> None:
    out = Crop(16000, chance=1.0)(waveforms(torch.zeros(50, 400), [400, 1] * 25), CHANCE)
    assert out.lengths.unique().numel() > 10
    assert not out.data.any()


def test_the_draw_is_the_positions_and_the_epochs() -> None:
    data, crop, lengths = torch.randn(30, 60), Crop(RATE, chance=0.7), [60, 30, 11] * 10
    together = crop(waveforms(data, lengths), CHANCE)
    assert (together.data[:, 0] != data[:, 0]).sum() > 5
    for i, length in enumerate(lengths):
        alone = crop(waveforms(data[i : i + 1, :length], first=i), CHANCE)
        assert alone.lengths[0] == together.lengths[i]
        assert torch.equal(alone.data[0], together.data[i, :length])
    assert not torch.equal(crop(waveforms(data, lengths), Chance(1, 2, "augmentation[0]")).lengths, together.lengths)


def test_chance_says_how_often() -> None:
    out = Crop(16000, chance=0.3)(waveforms(counting(3000, 200)), CHANCE)
    assert (out.lengths != 200).float().mean().item() == pytest.approx(0.3, abs=0.03)


@pytest.mark.parametrize(
    ("name", "value", "right"),
    [
        *(("shortest", value, "above 0 and at most 1") for value in (0.0, 1.1, float("nan"))),
        *(("chance", value, "from 0 to 1") for value in (-0.1, 1.1, float("nan"))),
    ],
)
def test_an_option_out_of_range_is_refused(name: str, value: float, right: str) -> None:
    with pytest.raises(ValueError, match=f"{name} must be {right}, is {value}"):
        Crop(16000, **{name: value})
