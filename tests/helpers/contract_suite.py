"""What the contract suite says of a component, for tests of the suite."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

from soundbench.testing import ContractError, check_component


def broken(kind: str, component: Callable[..., Any], **more: Any) -> dict[str, str]:
    """The promises that a component breaks, and what is said of each."""
    with pytest.raises(ContractError) as raised:
        check_component(kind, component, **more)
    report = raised.value.report
    head, *lines = str(raised.value).splitlines()
    assert head == f"{kind} {report.name} breaks {len(report.broken)} of {len(report.findings)} promises"
    assert lines == [f"  {finding}" for finding in report.broken]
    return {finding.promise: finding.message for finding in report.broken}


def says(kind: str, component: Callable[..., Any], promise: str, message: str) -> None:
    """A component breaks a promise, perhaps among others, and the suite says it in these words (a pattern)."""
    found = broken(kind, component)
    assert promise in found, found
    assert re.fullmatch(message, found[promise]), found[promise]
