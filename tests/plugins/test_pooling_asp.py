"""Attentive statistics pooling."""

from __future__ import annotations

import pytest
import torch
from soundbench_plugins.pooling.asp import ASP


@pytest.mark.parametrize("context", [True, False])
def test_it_is_mean_and_deviation_weighted_by_attention(context: bool) -> None:
    torch.manual_seed(0)
    pooling = ASP(5, attention=7, context=context).double().eval()
    pooling.norm.running_mean.normal_()
    pooling.norm.running_var.uniform_(0.5, 2.0)
    frames = torch.randn(2, 5, 9, dtype=torch.float64)
    pooled = pooling(frames, torch.tensor([9, 4]))
    for row, alone in zip(pooled, (frames[0], frames[1, :, :4]), strict=True):
        seen = alone
        if context:
            row_mean, row_std = alone.mean(1, keepdim=True), alone.std(1, correction=0, keepdim=True)
            seen = torch.cat([alone, row_mean.expand_as(alone), row_std.expand_as(alone)])
        hidden = pooling.norm(pooling.hidden(seen[None]).relu()).tanh()
        weights = pooling.score(hidden).softmax(2)[0]
        mean = (weights * alone).sum(1)
        std = (weights * (alone - mean[:, None]).square()).sum(1).sqrt()
        torch.testing.assert_close(row, torch.cat([mean, std]))


def test_it_has_the_published_number_of_parameters() -> None:
    channels = 1536
    expected = 3 * channels * 128 + 128 + 256 + 128 * channels + channels
    assert sum(p.numel() for p in ASP(channels).parameters()) == expected


def test_in_training_the_batch_norm_sees_zeros_for_padding() -> None:
    pooling = ASP(5, attention=7)
    seen = []
    pooling.norm.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    pooling(torch.randn(2, 5, 9), torch.tensor([9, 4]))
    assert not seen[0][1, :, 4:].any()
    assert seen[0][1, :, :4].any()
