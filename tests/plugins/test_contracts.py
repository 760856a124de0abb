"""Everything that is installed keeps its contract."""

from __future__ import annotations

import pytest
from helpers.small_backbones import SMALL_BACKBONES

from soundbench.recipe.registry import Listing, Registry
from soundbench.testing import ContractError
from soundbench.testing.checking import examine_loaded

REGISTRY = Registry()


@pytest.mark.parametrize("listing", [pytest.param(item, id=f"{item.kind}-{item.name}") for item in REGISTRY.listings()])
def test_it_keeps_every_promise(listing: Listing) -> None:
    small = SMALL_BACKBONES.get(listing.name)  # backbones as large as by default take half a minute each
    report = examine_loaded(REGISTRY.load(listing), REGISTRY, options=small)
    if report.broken:
        raise ContractError(report)


@pytest.mark.slow
@pytest.mark.parametrize(
    "listing",
    [
        pytest.param(item, id=f"{item.kind}-{item.name}")
        for item in REGISTRY.listings()
        if item.kind in ("featurizer", "backbone", "pooling")
    ],
)
def test_it_can_be_exported_with_any_batch_and_length(listing: Listing) -> None:
    small = SMALL_BACKBONES.get(listing.name)
    report = examine_loaded(REGISTRY.load(listing), REGISTRY, options=small, thorough=True)
    assert not [result for result in report.broken if result.promise == "export"]
