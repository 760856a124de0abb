"""Temporal average pooling."""

from __future__ import annotations

import torch
from soundbench_plugins.pooling.tap import TAP


def test_it_is_the_mean_over_time() -> None:
    frames = torch.randn(2, 5, 9)
    pooled = TAP(5)(frames, torch.tensor([9, 4]))
    torch.testing.assert_close(pooled, torch.stack([frames[0].mean(1), frames[1, :, :4].mean(1)]))
