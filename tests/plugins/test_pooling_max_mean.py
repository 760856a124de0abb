"""Maximum plus mean over time."""

from __future__ import annotations

import torch
from soundbench_plugins.pooling.max_mean import MaxMean


def test_it_is_the_maximum_plus_the_mean_over_time() -> None:
    frames = torch.randn(2, 5, 9) - 3  # below zero, where a mask of zeros would be the maximum
    pooled = MaxMean(5)(frames, torch.tensor([9, 4]))
    alone = (frames[0], frames[1, :, :4])
    torch.testing.assert_close(pooled, torch.stack([row.amax(1) + row.mean(1) for row in alone]))
