"""`tiny` keeps the contract of its kind, backbone."""

from __future__ import annotations

from soundbench.testing import check_component


def test_the_contract() -> None:
    """Every promise of the component that the entry point names."""
    check_component("backbone", "tiny")
