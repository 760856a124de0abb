"""Any pooling stands behind any backbone, whatever the lengths of its rows."""

from __future__ import annotations

import pytest
import torch

from soundbench.recipe.registry import Registry

REGISTRY = Registry()


@pytest.mark.slow
@pytest.mark.parametrize("name", [listing.name for listing in REGISTRY.listings("backbone")])
def test_any_pooling_works_with_any_backbone(name: str) -> None:
    torch.manual_seed(0)
    backbone = REGISTRY.get("backbone", name).obj(64).eval()
    with torch.no_grad():
        frames, lengths = backbone(torch.randn(2, 64, 70), torch.tensor([70, 9]))
        for listing in REGISTRY.listings("pooling"):
            pooling = REGISTRY.get("pooling", listing.name).obj(backbone.channels).eval()
            pooled = pooling(frames, lengths)
            assert pooled.shape == (2, pooling.features), listing.name
            assert torch.isfinite(pooled).all(), listing.name
