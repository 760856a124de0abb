"""Outlier exposure: the spectra and levels of the noise, its targets, and whose draw it is."""

from __future__ import annotations

from pathlib import Path

import attrs
import numpy as np
import pytest
import torch
from helpers.waveforms import waveforms
from soundbench_plugins.augmentation.outlier_exposure import OutlierExposure

import soundbench
from soundbench.chance import Chance
from soundbench.contracts import Batch

CHANCE = Chance(1, 1, "augmentation[0]")


def labelled(data: torch.Tensor, lengths: list[int] | None = None, first: int = 0) -> Batch:
    """Rows of four classes."""
    batch = waveforms(data, lengths, first)
    return attrs.evolve(batch, target=torch.eye(4)[batch.index % 4])


@pytest.fixture(scope="module")
def noise() -> np.ndarray:
    """A second of each of 300 rows, all of them replaced."""
    return OutlierExposure(16000, chance=1.0)(labelled(torch.zeros(300, 16000)), CHANCE).data.double().numpy()


@pytest.fixture(scope="module")
def spectra(noise: np.ndarray) -> np.ndarray:
    """The power of each row at 201 frequencies up to half the sample rate, averaged over 40 windows (Bartlett)."""
    return np.mean(np.abs(np.fft.rfft(noise.reshape(300, 40, 400) * np.hanning(400))) ** 2, axis=1)


def test_a_third_is_white_and_the_power_of_the_rest_falls_by_up_to_the_square_of_the_frequency(
    spectra: np.ndarray,
) -> None:
    octaves = np.log2(np.arange(4, 24))  # below the lowest cut, and where a window tells a slope
    slopes = np.polyfit(octaves, np.log2(spectra[:, 4:24].T), 1)[0]
    white = np.abs(slopes) < 0.25  # of 40 windows and 20 frequencies; of the rest an eighth is as flat
    assert np.mean(white) == pytest.approx(1 / 3 + 2 / 3 / 8, abs=0.08)
    assert slopes[~white].max() < 0
    assert slopes.min() == pytest.approx(-2, abs=0.25)
    assert np.mean(slopes < -1) == pytest.approx(1 / 3, abs=0.08)


def test_half_has_nothing_above_a_frequency_of_its_own(spectra: np.ndarray) -> None:
    power = spectra / spectra.max(1, keepdims=True)
    heard = np.array([np.flatnonzero(row > 1e-6).max() / 200 for row in power])
    assert np.mean(heard > 0.98) == pytest.approx(0.5, abs=0.08)
    cut = heard[heard <= 0.98]
    assert (cut.min(), cut.max()) == (pytest.approx(0.125, abs=0.03), pytest.approx(1.0, abs=0.05))
    assert np.mean(cut < 0.125**0.5) == pytest.approx(0.5, abs=0.1)  # evenly in octaves


def test_levels_are_equally_likely_in_decibels(noise: np.ndarray) -> None:
    levels = 10 * np.log10(np.mean(noise**2, axis=1))
    assert (levels.min(), levels.max()) == (pytest.approx(-80, abs=2), pytest.approx(0, abs=2))
    assert (np.mean(levels), np.var(levels)) == (pytest.approx(-40, abs=4), pytest.approx(80**2 / 12, rel=0.15))


def test_what_is_replaced_has_every_class_alike_for_its_target_and_the_rest_is_as_it_was() -> None:
    data, lengths = torch.randn(2000, 60), [60, 31, 1, 60] * 500
    for row, length in zip(data, lengths, strict=True):
        row[length:] = 0.0
    before = labelled(data, lengths)
    out = OutlierExposure(16000, chance=0.2)(before, CHANCE)
    changed = (out.data != data).any(1)
    assert changed.float().mean().item() == pytest.approx(0.2, abs=0.03)
    assert torch.equal(out.target[changed], torch.full((int(changed.sum()), 4), 0.25))
    assert torch.equal(out.target[~changed], before.target[~changed])
    assert torch.equal(before.target, torch.eye(4)[before.index % 4])  # that of the batch is not overwritten
    assert torch.equal(out.lengths, before.lengths)
    assert all(not row[length:].any() for row, length in zip(out.data, lengths, strict=True))


def test_the_draw_is_the_positions_and_the_epochs_and_a_longer_batch_changes_nothing() -> None:
    exposure, lengths = OutlierExposure(16000, chance=0.6), [900, 500, 37] * 8
    data = torch.ones(24, 1200)
    together = exposure(labelled(data, lengths), CHANCE)
    for i, length in enumerate(lengths):
        alone = exposure(labelled(data[i : i + 1, :length], first=i), CHANCE)
        torch.testing.assert_close(alone.data[0], together.data[i, :length], rtol=1e-4, atol=1e-6)
        assert torch.equal(alone.target[0], together.target[i])
    other = exposure(labelled(data, lengths), Chance(1, 2, "augmentation[0]"))
    assert not torch.equal(other.target, together.target)


def test_rows_are_independent_noise(noise: np.ndarray) -> None:
    scaled = noise / np.linalg.norm(noise, axis=1, keepdims=True)
    alike = np.abs(scaled[:100] @ scaled[100:200].T)
    assert alike.max() < 0.8  # of red noise few values are independent
    assert np.median(alike) < 0.02


@pytest.mark.slow
def test_a_network_that_was_exposed_to_noise_takes_less_of_it_for_a_class(tmp_path: Path) -> None:
    draws = np.random.default_rng(5)
    sounds = [(draws.standard_normal(4000) * 10 ** (-level / 20)).astype(np.float32) for level in range(20, 60)]
    scores = []
    for augmentation in ([], [{"use": "outlier-exposure", "chance": 0.2}]):
        run = soundbench.run(tones(augmentation), out=tmp_path / f"{len(augmentation)}", cache=False)
        assert run.metrics["accuracy"].value > 0.9
        found = soundbench.load(run.path).predict(sounds, 8000)
        scores.append(np.mean([max(one.scores.values()) for one in found]))
    assert scores[1] < 0.75 * scores[0]


def tones(augmentation: list[dict[str, object]]) -> soundbench.Recipe:
    """A small network for tones."""
    return soundbench.Recipe(
        dataset={"use": "tones", "clips": 400},
        split={"test": [5], "validation": 0},
        audio={"rate": 8000, "window": 0.5},
        augmentation=augmentation,
        backbone={"use": "tdnn", "channels": 32},
        head={"embedding": 16},
        calibration="none",
        reject="none",
        observer=[],
        train={"epochs": 12, "batch_size": 16, "device": "cpu", "precision": "fp32", "threads": 1},
    )


@pytest.mark.parametrize("chance", [-0.1, 1.1, float("nan")])
def test_a_chance_that_is_none_is_refused(chance: float) -> None:
    with pytest.raises(ValueError, match=f"chance must be from 0 to 1, is {chance}"):
        OutlierExposure(16000, chance=chance)
