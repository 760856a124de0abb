"""Filter: what passes, what does not, held against SciPy's; and whose draw it is."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from helpers.waveforms import waveforms
from soundbench_plugins.augmentation.filter import Filter
from torch.nn import functional as F

from soundbench.chance import Chance

RATE = 16000
CHANCE = Chance(1, 1, "augmentation[0]")


def _filter(*types: str, low: float = 2000.0, high: float = 500.0, chance: float = 1.0) -> Filter:
    """One whose cutoffs are known."""
    return Filter(RATE, types=list(types), low_pass=[low, low], high_pass=[high, high], chance=chance)


def _tone(frequency: float, samples: int = RATE) -> torch.Tensor:
    return torch.sin(2 * torch.pi * frequency / RATE * torch.arange(samples, dtype=torch.float64))


@pytest.mark.parametrize("kind", ["low-pass", "high-pass", "band-pass"])
def test_it_is_scipys_butterworth_forwards_and_backwards(kind: str) -> None:
    signal = pytest.importorskip("scipy.signal")
    x = torch.randn(1, 6000, dtype=torch.float64)
    out = _filter(kind)(waveforms(x), CHANCE).data[0]
    expected = F.pad(x[0], (2000, 2000)).numpy()
    # SciPy's own band-pass is of another shape; this one is one filter after the other.
    for cutoff, shape in ((2000.0, "low"), (500.0, "high")):
        if kind in (f"{shape}-pass", "band-pass"):
            sections = signal.butter(2, cutoff, shape, fs=RATE, output="sos")
            for _ in ("forwards", "backwards"):
                expected = signal.sosfilt(sections, expected)[::-1]
    torch.testing.assert_close(out, torch.from_numpy(expected[2000:-2000].copy()), rtol=0, atol=5e-5)


@pytest.mark.parametrize("cutoff", [300.0, 1000.0, 3500.0])
def test_the_cutoff_is_6_db_down_and_two_octaves_on_nothing_is_left(cutoff: float) -> None:
    for kind, gone, kept in (("low-pass", 4 * cutoff, cutoff / 4), ("high-pass", cutoff / 4, min(4 * cutoff, 7000))):
        data = torch.stack([_tone(cutoff), _tone(gone if gone < 8000 else 7900.0), _tone(kept)])
        out = _filter(kind, low=cutoff, high=cutoff)(waveforms(data), CHANCE).data[:, 2000:-2000]
        levels = 10 * torch.log10(2 * out.square().mean(1))
        assert levels[0].item() == pytest.approx(-6.02, abs=0.05)
        assert levels[1].item() < -45
        assert levels[2].item() == pytest.approx(0, abs=0.3 if kept < 7000 or cutoff < 3000 else 0.8)


def test_nothing_is_delayed_and_a_constant_passes_below() -> None:
    impulse = torch.zeros(1, 4001)
    impulse[0, 2000] = 1.0
    for kind in ("low-pass", "high-pass", "band-pass"):
        out = _filter(kind)(waveforms(impulse.clone()), CHANCE).data[0]
        assert out.argmax() == 2000
        torch.testing.assert_close(out, out.flip(0), rtol=0, atol=1e-6)
        assert out.sum().item() == pytest.approx(1.0 if kind == "low-pass" else 0.0, abs=1e-3)


def test_at_half_the_rate_a_low_pass_filter_does_nothing() -> None:
    data = torch.stack([_tone(7900.0), _tone(3000.0)])
    out = _filter("low-pass", low=RATE / 2)(waveforms(data), CHANCE).data
    torch.testing.assert_close(out[:, 200:-200], data[:, 200:-200], rtol=0, atol=1e-3)


def test_cutoffs_and_types_are_drawn_alike_octave_by_octave() -> None:
    augment = Filter(RATE, low_pass=[1000.0, 4000.0], high_pass=[125.0, 1000.0])
    low, high = augment._cutoffs(torch.arange(9000), CHANCE)
    kinds = [low.isfinite() & (high == 0), low.isinf() & (high > 0), low.isfinite() & (high > 0)]
    assert [kind.float().mean().item() for kind in kinds] == pytest.approx([1 / 3] * 3, abs=0.02)
    octaves = torch.histc((low[low.isfinite()] / 1000).log2(), 2, 0, 2)
    assert (octaves / octaves.sum()).tolist() == pytest.approx([0.5] * 2, abs=0.03)
    octaves = torch.histc((high[high > 0] / 125).log2(), 3, 0, 3)
    assert (octaves / octaves.sum()).tolist() == pytest.approx([1 / 3] * 3, abs=0.03)


def test_padding_stays_zero_and_the_draw_is_the_positions() -> None:
    torch.manual_seed(0)
    lengths = [5000, 3001, 800, 1, 4999, 17]
    data = torch.randn(6, 5000)
    data[1, 3001:] = float("nan")
    augment = Filter(RATE, chance=0.8)
    together = augment(waveforms(data, lengths), CHANCE)
    assert together.lengths.tolist() == lengths
    for i, length in enumerate(lengths):
        assert not together.data[i, length:].any()
        alone = augment(waveforms(data[i : i + 1, :length], first=i), CHANCE).data[0]
        torch.testing.assert_close(alone, together.data[i, :length], rtol=0, atol=5e-5)


def test_chance_says_how_often_and_epochs_draw_anew() -> None:
    data = torch.randn(1000, 40)
    out = Filter(RATE, chance=0.3)(waveforms(data), CHANCE).data
    assert (out != data).any(1).float().mean().item() == pytest.approx(0.3, abs=0.05)
    assert torch.equal(Filter(RATE, chance=0.0)(waveforms(data), CHANCE).data, data)
    again = Filter(RATE, chance=0.3)(waveforms(data), Chance(1, 2, "augmentation[0]")).data
    assert not torch.equal(again, out)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_the_type_stays(dtype: torch.dtype) -> None:
    out = _filter("band-pass")(waveforms(torch.randn(2, 100).to(dtype)), CHANCE)
    assert out.data.dtype == dtype
    assert torch.isfinite(out.data).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"types": []}, 'types must be some of "low-pass", "high-pass", "band-pass", is []'),
        ({"types": ["notch"]}, 'types must be some of "low-pass", "high-pass", "band-pass", is [\'notch\']'),
        ({"low_pass": [1000.0, 8001.0]}, "low_pass must be .* at most 8000 Hz, half the sample rate, is .*8001"),
        ({"low_pass": [3000.0, 2000.0]}, "low_pass must be two frequencies, the lower first"),
        ({"high_pass": [0.0, 100.0]}, "high_pass must be .* above 0"),
        ({"high_pass": [100.0]}, "high_pass must be two frequencies"),
        ({"high_pass": [100.0, math.nan]}, "high_pass must be two frequencies"),
        ({"high_pass": [100.0, 3000.0]}, "high_pass must be below low_pass, .*, if band-pass is among types, is "),
        ({"chance": 1.1}, "chance must be from 0 to 1, is 1.1"),
    ],
)
def test_an_option_out_of_range_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message.replace("[", r"\[")):
        Filter(RATE, **options)
