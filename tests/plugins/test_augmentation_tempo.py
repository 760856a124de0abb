"""Tempo: what stays and what moves, lengths, levels, and whose draw it is."""

from __future__ import annotations

import math

import pytest
import torch
from helpers.waveforms import padded
from soundbench_plugins.augmentation.tempo import Tempo

from soundbench.chance import Chance

RATE = 16000
CHANCE = Chance(1, 1, "augmentation[0]")
RATES = [0.5, 0.8, 0.93, 1.1, 1.25, 2.0]


def _tempo(low: float, high: float | None = None, chance: float = 1.0) -> Tempo:
    return Tempo(RATE, low=low, high=low if high is None else high, chance=chance)


def _tones(*frequencies: float, samples: int = 2 * RATE) -> torch.Tensor:
    times = torch.arange(samples, dtype=torch.float64) / RATE
    return torch.stack([torch.sin(2 * math.pi * frequency * times) for frequency in frequencies]).sum(0).float()[None]


@pytest.mark.parametrize("rate", RATES)
def test_tones_keep_pitch_and_level_and_last_as_long_as_the_factor_says(rate: float) -> None:
    batch = padded(_tones(440, 3000))
    out = _tempo(rate)(batch, CHANCE)
    length = int(out.lengths)
    assert length == min(math.ceil(2 * RATE / rate), 2 * RATE)
    inner = out.data[0, 1500 : length - 1500]
    spectrum = torch.fft.rfft(inner * torch.hann_window(len(inner)), 2**18).abs() / len(inner) * 4
    for frequency in (440, 3000):
        near = round(frequency * 2**18 / RATE)
        found = spectrum[near - 400 : near + 400]
        assert found.argmax().item() - 400 == pytest.approx(0, abs=2)  # of bins of 0.06 Hz
        assert found.max().item() == pytest.approx(1.0, abs=0.03)
    assert inner.square().mean().sqrt().item() == pytest.approx(1.0, abs=0.02)


@pytest.mark.parametrize("rate", RATES)
def test_what_happens_happens_at_its_time_by_the_factor(rate: float) -> None:
    data = torch.zeros(1, 2 * RATE)
    for begin in (2000, 12000):
        data[0, begin : begin + 3000] = _tones(1270, samples=3000)[0]
    out = _tempo(rate)(padded(data), CHANCE).data[0]
    for begin in (2000, 12000):
        lapse = slice(int((begin - 2500) / rate) if begin > 2500 else 0, int((begin + 5500) / rate))
        energy = out[lapse].square()
        centre = (energy * torch.arange(len(energy))).sum() / energy.sum() + lapse.start
        assert centre.item() == pytest.approx((begin + 1500) / rate, abs=256)  # a hop


@pytest.mark.parametrize("rate", RATES)
def test_noise_keeps_its_level(rate: float) -> None:
    out = _tempo(rate)(padded(0.1 * torch.randn(4, RATE), [16000, 16000, 9000, 5000]), CHANCE)
    for row, length in zip(out.data, out.lengths, strict=True):
        assert 20 * row[:length].square().mean().sqrt().log10().item() == pytest.approx(-20, abs=0.5)


def test_tempo_1_changes_nothing() -> None:
    batch = padded(torch.randn(4, 5000), [5000, 3000, 20, 1])
    out = _tempo(1.0)(batch, CHANCE)
    torch.testing.assert_close(out.data, batch.data, rtol=0, atol=2e-5)
    assert torch.equal(out.lengths, batch.lengths)


def test_lengths_stay_honest_and_padding_stays_zero() -> None:
    out = _tempo(1.25)(padded(torch.randn(4, 1000), [1000, 500, 7, 1]), CHANCE)
    assert out.data.shape == (4, 1000)
    assert out.lengths.tolist() == [800, 400, 6, 1]
    for row, length in zip(out.data, out.lengths, strict=True):
        assert not row[length:].any()
        assert row[:length].any()
    slower = _tempo(0.5)(padded(torch.randn(2, 1000), [1000, 300]), CHANCE)
    assert slower.data.shape == (2, 1000)
    assert slower.lengths.tolist() == [1000, 600]


def test_a_row_is_the_same_alone_and_whatever_stands_in_its_padding() -> None:
    lengths = [3000, 2500, 1000, 1] * 2
    tempo, data = _tempo(0.7, 1.4, chance=0.8), torch.randn(8, 3000)
    batch = padded(data, lengths)
    together = tempo(batch, CHANCE)
    for i in range(8):
        alone = tempo(padded(data[i : i + 1].clone(), [lengths[i]], first=i), CHANCE)
        assert alone.lengths[0] == together.lengths[i]
        torch.testing.assert_close(alone.data[0], together.data[i], rtol=0, atol=1e-5)
    # Without its padding too, where it is not cut off.
    faster = _tempo(1.0, 1.4)
    together = faster(batch, CHANCE)
    for i, length in enumerate(lengths):
        alone = faster(padded(data[i : i + 1, :length].clone(), first=i), CHANCE)
        torch.testing.assert_close(alone.data[0], together.data[i, :length], rtol=0, atol=1e-5)
    data[1, 2500:] = torch.nan
    torch.testing.assert_close(faster(batch, CHANCE).data, together.data)


def test_tempos_are_spread_over_their_range() -> None:
    out = _tempo(1.0, 2.0)(padded(torch.ones(300, 200)), CHANCE)
    rates = 200 / out.lengths
    assert (torch.histc(rates, 4, 1.0, 2.0) / 300).tolist() == pytest.approx([0.25] * 4, abs=0.08)


def test_chance_says_how_often_and_epochs_draw_anew() -> None:
    batch, tempo = padded(torch.randn(300, 100)), _tempo(1.5, chance=0.25)
    lengths = tempo(batch, CHANCE).lengths
    assert (lengths == 67).float().mean().item() == pytest.approx(0.25, abs=0.07)
    assert (lengths == 100).float().mean().item() == pytest.approx(0.75, abs=0.07)
    assert torch.equal(tempo(batch, CHANCE).lengths, lengths)
    assert not torch.equal(tempo(batch, Chance(1, 2, "augmentation[0]")).lengths, lengths)
    assert torch.equal(_tempo(1.5, chance=0.0)(batch, CHANCE).data, batch.data)


def test_silence_stays_silent_and_the_given_batch_stays() -> None:
    batch = padded(torch.zeros(2, 3000))
    batch.data[1, 1000:1100] = 1.0
    before = batch.data.clone()
    out = _tempo(0.8)(batch, CHANCE).data
    assert torch.isfinite(out).all()
    assert not out[0].any()
    assert torch.equal(batch.data, before)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"low": 0.2}, "low must be from 0.25 to 4, is 0.2"),
        ({"low": float("nan")}, "low must be from 0.25 to 4, is nan"),
        ({"low": 1.2, "high": 1.1}, "high must be from low (1.2) to 4, is 1.1"),
        ({"high": 5.0}, "high must be from low (0.9) to 4, is 5.0"),
        ({"chance": 1.5}, "chance must be from 0 to 1, is 1.5"),
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        Tempo(RATE, **options)
    assert str(caught.value) == message
