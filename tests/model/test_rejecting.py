"""What decides that sound is of none of the classes: thresholds, noise, and the rejector."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score, roc_curve
from torch import nn

from soundbench.errors import RunError
from soundbench.model.rejecting.noise import COLOURS, LEVELS, NoiseStore, noise
from soundbench.model.rejecting.rejector import Rejector, fill, state_of
from soundbench.model.rejecting.thresholds import SLACK, auroc, fit_threshold, separation

NOTHING = np.empty(0)


# Thresholds


@pytest.mark.parametrize("keep", [0.5, 0.8, 0.95, 1.0])
@pytest.mark.parametrize("count", [1, 7, 50, 400])
def test_a_threshold_keeps_the_share_that_is_asked_for(keep: float, count: int) -> None:
    scores = np.random.default_rng(count).standard_normal(count)
    kept = np.mean(scores >= fit_threshold(scores, NOTHING, keep))
    assert keep - 1e-9 <= kept < keep + 1 / count + 1e-9


@pytest.mark.parametrize("seed", range(20))
def test_other_sound_only_raises_a_threshold_and_never_beyond_the_bound(seed: int) -> None:
    draws = np.random.default_rng(seed)
    scores, others = draws.standard_normal(200) + 1, draws.standard_normal(300)
    alone, both = fit_threshold(scores, NOTHING, 0.9), fit_threshold(scores, others, 0.9)
    assert np.mean(scores >= both) >= 0.9 - SLACK - 1e-9
    balanced = [np.mean(scores >= one) + np.mean(others < one) for one in (alone, both)]
    assert balanced[1] >= balanced[0]
    # no threshold within the bound separates both better
    for candidate in np.sort(scores)[20:31]:
        assert np.mean(scores >= candidate) + np.mean(others < candidate) <= balanced[1] + 1e-9


def test_other_sound_that_lies_below_changes_nothing_but_is_rejected() -> None:
    scores = np.arange(100.0)
    assert np.mean(scores >= fit_threshold(scores, np.full(50, -9.0), 0.95)) == 0.95


def test_equal_scores_are_kept_together() -> None:
    scores = np.array([0.0] * 10 + [1.0] * 90)
    assert np.mean(scores >= fit_threshold(scores, NOTHING, 0.95)) == 1.0


@pytest.mark.parametrize("seed", range(5))
def test_auroc_and_false_positive_rate_are_those_of_scikit_learn(seed: int) -> None:
    draws = np.random.default_rng(seed)
    known, others = draws.integers(0, 12, 100).astype(float), draws.integers(-3, 8, 60).astype(float)
    truth, scores = np.r_[np.ones(100), np.zeros(60)], np.r_[known, others]
    assert auroc(known, others) == pytest.approx(roc_auc_score(truth, scores), abs=1e-12)
    false, true, _ = roc_curve(truth, scores, drop_intermediate=False)
    assert separation(known, others).false_positive_rate_at_95 == pytest.approx(false[true >= 0.95].min(), abs=1e-12)


# Noise


def test_white_noise_is_flat_and_pink_noise_falls_by_three_decibels_an_octave() -> None:
    for colour, slope in (("white", 0.0), ("pink", -1.0)):
        drawn = noise(colour, 1 << 18, (1, 2)).astype(np.float64)
        assert np.mean(drawn**2) == pytest.approx(1.0, rel=1e-5)
        power = np.abs(np.fft.rfft(drawn)) ** 2
        edges = 2 ** np.arange(8, 18)
        octaves = [power[low:high].mean() for low, high in pairwise(edges)]
        fitted = np.polyfit(np.log2(edges[:-1]), np.log2(octaves), 1)[0]
        assert fitted == pytest.approx(slope, abs=0.03)


def test_noise_depends_on_its_colour_window_and_purpose_alone() -> None:
    store, rows = NoiseStore("pink", 12, 400, purpose=1), np.arange(12)
    starts, counts = np.zeros(12, int), store.lengths
    samples, scales = store.gather(rows, starts, counts, 400)
    again, others = NoiseStore("pink", 12, 400, purpose=1), NoiseStore("pink", 12, 400, purpose=2)
    assert np.array_equal(again.gather(rows[3:5], starts[:2], counts[3:5], 400)[0], samples[3:5])
    assert not np.array_equal(others.gather(rows, starts, counts, 400)[0], samples)
    powers = np.sum((samples * scales[:, None].astype(float)) ** 2, axis=1) / store.lengths
    levels, wanted = 10 * np.log10(powers), np.linspace(*LEVELS, 12)
    assert levels[:9] == pytest.approx(wanted[:9], abs=0.02)
    assert (levels[9:] <= wanted[9:] + 0.02).all()  # the peaks of loud noise are clipped,
    assert (levels[9:] >= wanted[9:] - 3).all()  # which costs Gaussian noise 2.9 dB where they begin at its RMS level
    assert set(COLOURS) == {"white", "pink"}


def test_noise_has_short_windows_and_cut_ones_at_all_levels() -> None:
    store = NoiseStore("white", 120, 160_000, purpose=1)
    rows = np.arange(120)
    assert (store.lengths[::2] == 160_000).all()
    short, cuts = store.lengths[1::2] / 160_000, store.cuts[rows % 4 > 1]
    for shares, least in ((short, 0.02), (cuts, 0.125)):  # spread evenly over the logarithm, low and high levels alike
        for half in (shares[: len(shares) // 2], shares[len(shares) // 2 :]):
            assert np.quantile(np.log(half) / np.log(least), [0, 0.5, 1]) == pytest.approx([0, 0.5, 1], abs=0.15)
    assert (store.cuts[rows % 4 < 2] == 1).all()
    for cut in (0.125, 0.4):
        power = np.abs(np.fft.rfft(noise("white", 32_000, (1, 2), cut).astype(np.float64))) ** 2
        edge = round(cut * 16_000)
        assert power[edge + 1 :].sum() < 1e-9 * power.sum()
        assert power[edge - 100 : edge].mean() == pytest.approx(power[:edge].mean(), rel=0.3)


# The rejector


class Fitted(nn.Module):
    """Keeps the mean of the training windows, in a module inside it."""

    embeddings = True

    def __init__(self) -> None:
        super().__init__()
        self.inside = nn.Module()
        self.inside.register_buffer("mean", torch.empty(0))

    def forward(self, logits: torch.Tensor, embeddings: torch.Tensor) -> torch.Tensor:
        return -(embeddings - self.inside.mean).square().sum(1)


def test_what_a_component_was_fitted_to_is_read_back_whatever_its_shape() -> None:
    one, other = Fitted(), Fitted()
    one.inside.register_buffer("mean", torch.arange(5.0))
    fill(other, state_of(one), "reject.safetensors")
    assert torch.equal(other.inside.mean, torch.arange(5.0))
    with pytest.raises(
        RunError, match=r"^reject.safetensors: damaged: its tensors do not fit the component: inside\.mean$"
    ):
        fill(other, {}, "reject.safetensors")
    with pytest.raises(RunError, match=r"damaged: inside\.mean has values that are not finite"):
        fill(other, {"inside.mean": torch.tensor([1.0, float("nan")])}, "reject.safetensors")


def test_a_rejector_rejects_low_scores_silence_and_what_is_no_number() -> None:
    rejector = Rejector(Fitted(), clip=1.0, window=2.0)
    scores, silent = np.array([0.9, 1.0, 1.5, np.nan, 9.0]), np.array([False, False, False, False, True])
    assert rejector.rejected(scores, silent, "clip").tolist() == [True, False, False, True, True]
    assert rejector.rejected(scores, silent, "window").tolist() == [True, True, True, True, True]
    only_silence = Rejector(Fitted())
    assert only_silence.rejected(scores, silent, "clip").tolist() == [False, False, False, False, True]
    nothing = Rejector(Fitted(), silence=False)
    assert not nothing.rejected(scores, silent, "clip").any()
    assert rejector.rejects(np.array([5.0, 0.0]), "clip")
    assert not rejector.rejects(np.array([5.0, 0.25]), "clip")  # one of four windows is not silent
