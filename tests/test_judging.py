"""Judging: the grid of windows, and that a score depends on the clip and not on its company."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers.networks import toy_network
from helpers.toys import ToyLoss

from soundbench.judging import Judge, judge
from soundbench.loading import pack, set_level, window_grid
from soundbench.machine import Machine

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


def test_every_sample_is_judged_whatever_the_length() -> None:
    draws = np.random.default_rng(0)
    for _ in range(200):
        window = int(draws.integers(1, 50))
        hop = int(draws.integers(1, window + 1))
        samples = int(draws.integers(1, 300))
        _, starts = window_grid(np.array([samples]), window, hop)
        heard = np.zeros(samples, bool)
        for start in starts:
            heard[start : start + window] = True
        assert heard.all()
        assert starts[-1] + window <= max(samples, window)


def test_a_clip_scores_the_same_alone_and_in_any_company() -> None:
    network = toy_network().eval()
    by = Judge(network, ToyLoss(5), CPU, "off")
    draws = np.random.default_rng(0)
    sounds = [(draws.standard_normal(size) * 3000).astype(np.int16) for size in (50, 400, 1600, 1601, 640)]
    alone = [judge(by, [pack([sound], [1 / 32768], [0], 5)]).scores[0] for sound in sounds]
    together = judge(by, [pack(sounds, [1 / 32768] * 5, list(range(5)), 5)]).scores
    halves = [pack(sounds[:2], [1 / 32768] * 2, [0, 1], 5), pack(sounds[2:], [1 / 32768] * 3, [2, 3, 4], 5)]
    np.testing.assert_allclose(together, alone, atol=1e-5)
    np.testing.assert_allclose(judge(by, halves).scores, alone, atol=1e-5)


def test_a_clip_s_scores_are_the_mean_of_its_windows() -> None:
    network = toy_network().eval()
    by = Judge(network, ToyLoss(5), CPU, "off")
    draws = np.random.default_rng(0)
    windows = [(draws.standard_normal(800) * 3000).astype(np.int16) for _ in range(3)]
    each = judge(by, [pack(windows, [1 / 32768] * 3, [0, 1, 2], 5)]).scores
    joined = judge(by, [pack(windows, [1 / 32768] * 3, [7, 4, 7], 5)])
    assert joined.index.tolist() == [4, 7]
    np.testing.assert_allclose(joined.scores[0], each[1], atol=1e-6)
    np.testing.assert_allclose(joined.scores[1], (each[0] + each[2]) / 2, atol=1e-6)


def test_judging_leaves_batch_norm_alone_and_the_mode_as_it_was() -> None:
    network = toy_network().train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    by = Judge(network, ToyLoss(5), CPU, "off")
    judge(by, [pack([np.ones(900, np.int16)], [1 / 32768], [0], 5)])
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
