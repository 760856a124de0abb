"""Tiny keeps the contract of backbones."""

from __future__ import annotations

from soundbench_tiny import Tiny

from soundbench.testing import check_component


def test_the_contract() -> None:
    """Every promise."""
    check_component("backbone", Tiny)
