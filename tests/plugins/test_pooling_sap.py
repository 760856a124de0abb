"""Self-attentive pooling."""

from __future__ import annotations

import torch
from soundbench_plugins.pooling.sap import SAP


def test_it_is_a_mean_weighted_by_attention() -> None:
    torch.manual_seed(0)
    pooling = SAP(5, attention=7).double()
    frames = torch.randn(2, 5, 9, dtype=torch.float64)
    pooled = pooling(frames, torch.tensor([9, 4]))
    for row, alone in zip(pooled, (frames[0], frames[1, :, :4]), strict=True):
        hidden = (pooling.hidden.weight[..., 0] @ alone + pooling.hidden.bias[:, None]).tanh()
        weights = (pooling.score.weight[..., 0] @ hidden + pooling.score.bias[:, None]).softmax(1)
        torch.testing.assert_close(row, (weights * alone).sum(1))


def test_it_has_the_published_number_of_parameters() -> None:
    assert sum(p.numel() for p in SAP(1536).parameters()) == 2 * 128 * 1536 + 128 + 1536
