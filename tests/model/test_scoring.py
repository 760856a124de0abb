"""Scoring: the grid of windows, the mean of a clip's windows, and that a score depends on the clip alone."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from helpers.networks import toy_network
from helpers.toys import ToyLoss

from soundbench.data.batches import pack, set_level, window_grid
from soundbench.machine import Machine
from soundbench.model.scoring import Scorer, WindowMean, score_batches

CPU = Machine(torch.device("cpu"), "fp32", 1, False)


@pytest.mark.parametrize(
    ("samples", "window", "hop", "starts"),
    [
        (10, 10, 10, [0]),
        (3, 10, 10, [0]),
        (11, 10, 10, [0, 1]),
        (20, 10, 10, [0, 10]),
        (25, 10, 10, [0, 10, 15]),
        (25, 10, 5, [0, 5, 10, 15]),
        (26, 10, 5, [0, 5, 10, 15, 16]),
        (30, 10, 4, [0, 4, 8, 12, 16, 20]),
    ],
)
def test_windows_start_at_multiples_of_the_hop_and_a_remainder_ends_at_the_end(
    samples: int, window: int, hop: int, starts: list[int]
) -> None:
    owner, found = window_grid(np.array([samples, samples]), window, hop)
    assert owner.tolist() == [0] * len(starts) + [1] * len(starts)
    assert found.tolist() == starts * 2


def test_every_sample_is_scored_whatever_the_length() -> None:
    draws = np.random.default_rng(0)
    for _ in range(200):
        window = int(draws.integers(1, 50))
        hop = int(draws.integers(1, window + 1))
        samples = int(draws.integers(1, 300))
        _, starts = window_grid(np.array([samples]), window, hop)
        covered = np.zeros(samples, bool)
        for start in starts:
            covered[start : start + window] = True
        assert covered.all()
        assert starts[-1] + window <= max(samples, window)


def test_a_clip_scores_the_same_alone_and_in_any_batch() -> None:
    network = toy_network().eval()
    by = Scorer(network, ToyLoss(5), CPU, "off")
    draws = np.random.default_rng(0)
    sounds = [(draws.standard_normal(size) * 3000).astype(np.int16) for size in (50, 400, 1600, 1601, 640)]
    alone = [score_batches(by, [pack([sound], [1 / 32768], [0], 5)], 1, 5).scores[0] for sound in sounds]
    together = score_batches(by, [pack(sounds, [1 / 32768] * 5, list(range(5)), 5)], 5, 5).scores
    halves = [pack(sounds[:2], [1 / 32768] * 2, [0, 1], 5), pack(sounds[2:], [1 / 32768] * 3, [2, 3, 4], 5)]
    np.testing.assert_allclose(together, alone, atol=1e-5)
    np.testing.assert_allclose(score_batches(by, halves, 5, 5).scores, alone, atol=1e-5)


def test_a_clip_s_scores_are_the_mean_of_its_windows() -> None:
    network = toy_network().eval()
    by = Scorer(network, ToyLoss(5), CPU, "off")
    draws = np.random.default_rng(0)
    windows = [(draws.standard_normal(800) * 3000).astype(np.int16) for _ in range(3)]
    each = score_batches(by, [pack(windows, [1 / 32768] * 3, [0, 1, 2], 5)], 3, 5).scores
    halves = [pack(windows[:1], [1 / 32768], [4], 5), pack(windows[1:], [1 / 32768] * 2, [4, 7], 5)]
    joined = score_batches(by, halves, 2, 5)
    assert joined.index.tolist() == [4, 7]
    np.testing.assert_allclose(joined.scores[0], (each[0] + each[1]) / 2, atol=1e-6)
    np.testing.assert_allclose(joined.scores[1], each[2], atol=1e-6)


def test_a_mean_is_that_of_float64_sums() -> None:
    windows = np.random.default_rng(3).random((1000, 7), np.float32)
    mean = WindowMean()
    for clip in (windows, windows[:1], windows[:3]):
        for window in clip:
            mean.add(window)
        np.testing.assert_allclose(mean.take(), clip.astype(np.float64).mean(axis=0), rtol=2e-7)


def test_memory_of_scoring_is_that_of_the_scores_alone() -> None:
    """527 classes and three windows a clip took 19 kB a clip; the scores and the loss in float32 take 2.1."""

    class Windows(Scorer):
        def scores_and_losses(self, raw: Any) -> Any:
            return raw

    def batches(clips: int) -> Iterator[Any]:
        scores, losses = np.ones((30, 527), np.float32), np.ones(30, np.float32)
        for first in range(0, clips, 10):
            yield np.repeat(np.arange(first, first + 10), 3), scores, losses

    def peak(clips: int) -> int:
        by = Windows(toy_network().eval(), ToyLoss(5), CPU, "off")
        tracemalloc.start()
        score_batches(by, batches(clips), clips, 527)
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    peak(100)
    assert (peak(3000) - peak(1000)) / 2000 < 4 * 528 + 8 + 100


def test_scoring_leaves_batch_norm_alone_and_the_mode_as_it_was() -> None:
    network = toy_network().train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    by = Scorer(network, ToyLoss(5), CPU, "off")
    score_batches(by, [pack([np.ones(900, np.int16)], [1 / 32768], [0], 5)], 1, 5)
    assert network.training
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_level_is_set_over_true_samples_and_silence_stays_silent() -> None:
    waveform = torch.zeros(3, 1000)
    waveform[0, :500] = 0.3 * torch.sin(torch.arange(500) / 5)
    waveform[1] = 1e-6 * torch.randn(1000)
    lengths = torch.tensor([500, 1000, 1000])
    leveled = set_level(waveform, lengths, -20)
    assert leveled[0, :500].square().mean().sqrt() == pytest.approx(0.1, rel=1e-5)
    assert leveled[1].square().mean().sqrt() == pytest.approx(0.1, rel=1e-5)
    assert not leveled[2].any()
    assert not leveled[0, 500:].any()
