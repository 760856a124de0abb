"""Temporal statistics pooling."""

from __future__ import annotations

import pytest
import torch
from soundbench_plugins.pooling.tsp import TSP


@pytest.mark.parametrize("spread", ["std", "variance"])
def test_it_is_mean_and_unbiased_spread(spread: str) -> None:
    frames = torch.randn(2, 5, 9)
    pooling = TSP(5, spread=spread)
    assert pooling.features == 10
    pooled = pooling(frames, torch.tensor([9, 4]))
    for row, alone in zip(pooled, (frames[0], frames[1, :, :4]), strict=True):
        expected = alone.std(1) if spread == "std" else alone.var(1)
        torch.testing.assert_close(row, torch.cat([alone.mean(1), expected]))


def test_one_frame_has_next_to_no_spread() -> None:
    frame = torch.randn(1, 5, 1)
    assert TSP(5)(frame, torch.tensor([1]))[0, 5:].max() <= 1.01e-5
    assert not TSP(5, spread="variance")(frame, torch.tensor([1]))[0, 5:].any()


def test_another_spread_is_refused() -> None:
    with pytest.raises(ValueError, match='spread must be "std" or "variance", is \'range\''):
        TSP(5, spread="range")
