"""The messages of the contract suite about a component, for tests of the suite."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

from soundbench.testing import ContractError, check_component


def broken(kind: str, component: Callable[..., Any], **more: Any) -> dict[str, str]:
    """The promises that a component breaks, each with its message."""
    with pytest.raises(ContractError) as raised:
        check_component(kind, component, **more)
    report = raised.value.report
    head, *lines = str(raised.value).splitlines()
    assert head == f"{kind} {report.name} breaks {len(report.broken)} of {len(report.results)} promises"
    assert lines == [f"  {result}" for result in report.broken]
    return {result.promise: result.message for result in report.broken}


def says(kind: str, component: Callable[..., Any], promise: str, message: str) -> None:
    """Assert that a component breaks a promise, perhaps among others, with a message that matches a pattern."""
    found = broken(kind, component)
    assert promise in found, found
    assert re.fullmatch(message, found[promise]), found[promise]
