"""Pitch: where tones go, what is lost, and whose draw it is."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from helpers.waveforms import padded
from soundbench_plugins.augmentation.pitch import Pitch

from soundbench.chance import Chance

RATE = 16000
CHANCE = Chance(1, 1, "augmentation[0]")
STEPS = [-12.0, -5.0, -1.0, 0.5, 1.0, 2.0, 7.0]


def _pitch(*semitones: float, chance: float = 1.0) -> Pitch:
    return Pitch(RATE, semitones=list(semitones), chance=chance)


def _tone(frequency: float, samples: int = 2 * RATE) -> torch.Tensor:
    return torch.sin(2 * math.pi * frequency / RATE * torch.arange(samples, dtype=torch.float64)).float()[None]


@pytest.mark.parametrize("step", STEPS)
def test_a_tone_moves_by_semitones_at_its_level(step: float) -> None:
    out = _pitch(step)(padded(_tone(440)), CHANCE)
    assert out.lengths.tolist() == [2 * RATE]
    inner = out.data[0, 1500:-1500]
    found = torch.fft.rfft(inner * torch.hann_window(len(inner)), 2**19).abs().argmax().item() * RATE / 2**19
    assert 1200 * math.log2(found / 440) == pytest.approx(100 * step, abs=2.5)
    assert 10 * inner.square().mean().log10().item() == pytest.approx(10 * math.log10(0.5), abs=0.1)


@pytest.mark.parametrize(("step", "frequency"), [(7.0, 6000.0), (2.0, 7500.0), (12.0, 4500.0)])
def test_what_would_lie_above_the_band_is_gone(step: float, frequency: float) -> None:
    out = _pitch(step)(padded(_tone(frequency)), CHANCE)
    assert 20 * out.data[0, 1500:-1500].square().mean().sqrt().log10() < -60


@pytest.mark.parametrize("step", STEPS)
def test_what_happens_happens_when_it_did(step: float) -> None:
    data = torch.zeros(1, 2 * RATE)
    data[0, 12000:15000] = _tone(1000, 3000)[0]
    energy = _pitch(step)(padded(data), CHANCE).data[0].square()
    centre = (energy * torch.arange(2 * RATE)).sum() / energy.sum()
    assert centre.item() == pytest.approx(13500, abs=150)


def test_step_0_changes_nothing() -> None:
    batch = padded(torch.randn(4, 5000), [5000, 3000, 20, 1])
    assert torch.equal(_pitch(0.0)(batch, CHANCE).data, batch.data)


def test_lengths_stay_and_padding_stays_zero() -> None:
    for step in STEPS:
        out = _pitch(step)(padded(torch.randn(4, 4000), [4000, 2500, 700, 1]), CHANCE)
        assert out.data.shape == (4, 4000)
        assert torch.isfinite(out.data).all()
        assert out.lengths.tolist() == [4000, 2500, 700, 1]
        for row, length in zip(out.data, out.lengths, strict=True):
            assert not row[length:].any()


def test_a_row_is_the_same_alone_and_whatever_stands_in_its_padding() -> None:
    lengths = [3000, 2500, 1000, 1] * 2
    pitch, data = _pitch(-2.0, 1.0, 3.0, chance=0.8), torch.randn(8, 3000)
    batch = padded(data, lengths)
    together = pitch(batch, CHANCE).data
    for i, length in enumerate(lengths):
        alone = pitch(padded(data[i : i + 1, :length].clone(), first=i), CHANCE).data
        torch.testing.assert_close(alone[0], together[i, :length], rtol=0, atol=1e-5)
    data[1, 2500:] = torch.nan
    torch.testing.assert_close(pitch(batch, CHANCE).data, together)


def test_steps_are_drawn_alike_and_chance_says_how_often() -> None:
    rows = _tone(1000, 512).repeat(300, 1)
    spectra = torch.fft.rfft(_pitch(-12.0, 12.0, chance=0.5)(padded(rows), CHANCE).data).abs()
    found = spectra[:, [16, 32, 64]].argmax(1)  # 500, 1000, 2000 Hz
    assert (torch.bincount(found, minlength=3) / 300).tolist() == pytest.approx([0.25, 0.5, 0.25], abs=0.08)
    assert torch.equal(_pitch(2.0, chance=0.0)(padded(rows), CHANCE).data, rows)


def test_epochs_draw_anew_and_the_given_batch_stays() -> None:
    pitch, batch = _pitch(-2.0, 2.0), padded(torch.randn(10, 500))
    before = batch.data.clone()
    first = pitch(batch, CHANCE).data
    assert torch.equal(batch.data, before)
    assert torch.equal(pitch(batch, CHANCE).data, first)
    assert not torch.equal(pitch(batch, Chance(1, 2, "augmentation[0]")).data, first)


def test_silence_stays_silent_and_no_checkpoint_keeps_a_filter() -> None:
    assert not _pitch(1.0)(padded(torch.zeros(2, 800)), CHANCE).data.any()
    assert not _pitch(1.0).state_dict()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"semitones": []}, "semitones must be a list of steps from -24 to 24, is []"),
        ({"semitones": [1.0, 25.0]}, "semitones must be a list of steps from -24 to 24, is [1.0, 25.0]"),
        ({"semitones": [float("nan")]}, "semitones must be a list of steps from -24 to 24, is [nan]"),
        ({"chance": -0.5}, "chance must be from 0 to 1, is -0.5"),
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        Pitch(RATE, **options)
    assert str(caught.value) == message
