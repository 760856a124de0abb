"""Prove that a component keeps to its contract, in one line of its author's own tests.

    from soundbench.testing import check_component

    def test_the_contract() -> None:
        check_component("backbone", Tiny)

It needs no test runner: a broken promise raises a `ContractError`, an `AssertionError` that lists every one with its
numbers. `soundbench list-plugins --contract` does the same for all that is installed.
"""

from __future__ import annotations

from soundbench.testing.checking import check_component, examine
from soundbench.testing.findings import ContractError, Finding, Report

__all__ = ["ContractError", "Finding", "Report", "check_component", "examine"]
