"""Per-channel energy normalisation against the papers' equations, a frame at a time in float64."""

from __future__ import annotations

import math

import pytest
import torch
from soundbench_plugins.featurizer.mel_spectrogram import MelSpectrogram
from soundbench_plugins.featurizer.pcen import PCEN, smoothed


@pytest.mark.parametrize("size", [1, 2, 31, 32, 33, 64, 65, 301, 1000])
@pytest.mark.parametrize("share", [0.025, 0.5, 1.0])
def test_the_smoother_is_the_recursion(size: int, share: float) -> None:
    torch.manual_seed(1)
    x = torch.rand(2, 3, size, dtype=torch.float64)
    last, expected = x[..., 0], []
    for frame in x.unbind(-1):
        last = (1 - share) * last + share * frame
        expected.append(last)
    torch.testing.assert_close(smoothed(x, share), torch.stack(expected, -1))
    torch.testing.assert_close(smoothed(x.float(), share), torch.stack(expected, -1).float(), rtol=1e-5, atol=1e-6)


def test_it_is_the_papers_equations() -> None:
    torch.manual_seed(2)
    row, lengths = torch.randn(1, 8000, dtype=torch.float64) * 0.1, torch.tensor([8000])
    plain = MelSpectrogram(16000, bands=20, power=1.0, log="none", normalize="none")
    energies = plain(row * 2.0**31, lengths)[0][0]
    t = 0.4 * 16000 / 160
    s = (math.sqrt(1 + 4 * t**2) - 1) / (2 * t**2)
    assert s == pytest.approx(0.025, abs=5e-4)  # Wang et al.'s own
    last, expected = energies[:, 0], []
    for frame in energies.T:
        last = (1 - s) * last + s * frame
        expected.append((frame / (1e-6 + last) ** 0.98 + 2) ** 0.5 - 2**0.5)
    features, _ = PCEN(16000, bands=20)(row, lengths)
    torch.testing.assert_close(features[0], torch.stack(expected, 1), rtol=1e-5, atol=1e-5)


def test_a_steady_level_hardly_matters_and_an_onset_stands_out() -> None:
    torch.manual_seed(3)
    noise, lengths = torch.randn(1, 32000) * 0.01, torch.tensor([32000])
    featurizer = PCEN(16000)
    quiet, loud = featurizer(noise, lengths)[0], featurizer(noise * 100, lengths)[0]
    assert (loud.mean() / quiet.mean()) < 1.2  # 40 dB
    noise[:, 16000:] *= 30
    onset = featurizer(noise, lengths)[0].mean((0, 1))
    assert onset[100:110].mean() > 3 * onset[:95].mean()


def test_silence_is_nothing() -> None:
    features, _ = PCEN(16000)(torch.zeros(1, 4000), torch.tensor([4000]))
    assert features.abs().max() < 1e-6


def test_trained_it_learns_three_constants_a_band() -> None:
    torch.manual_seed(4)
    waveform, lengths = torch.randn(2, 4000) * 0.1, torch.tensor([4000, 3000])
    featurizer = PCEN(16000, bands=20, trained=True)
    features, _ = featurizer(waveform, lengths)
    torch.testing.assert_close(features, PCEN(16000, bands=20)(waveform, lengths)[0])
    features.sum().backward()
    (constants,) = featurizer.parameters()
    assert constants.shape == (3, 20)
    assert constants.grad is not None
    assert constants.grad.ne(0).all()
    assert set(featurizer.state_dict()) == {"constants"}


@pytest.mark.parametrize("name", ["time_constant", "gain", "bias", "exponent"])
def test_a_constant_out_of_range_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=rf"^{name} must be above 0 and finite, is 0$"):
        PCEN(16000, **{name: 0.0})
