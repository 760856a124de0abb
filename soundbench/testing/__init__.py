"""Check that a component keeps its contract, in one line of its author's own tests.

    from soundbench.testing import check_component

    def test_the_contract() -> None:
        check_component("backbone", Tiny)

It needs no test runner: broken promises raise a `ContractError`, an `AssertionError` that lists each one with its
numbers. `soundbench list-plugins --contract` does the same for all installed components.
"""

from __future__ import annotations

from soundbench.testing.checking import check_component, examine
from soundbench.testing.results import ContractError, Report, Result

__all__ = ["ContractError", "Report", "Result", "check_component", "examine"]
