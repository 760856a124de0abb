"""Whether results are the same, but for the last digits of numbers."""

from __future__ import annotations

from typing import Any

import pytest


def near(one: Any, other: Any) -> None:
    """Assert that values of JSON are the same, and fractions to 1e-6."""
    if isinstance(one, dict):
        assert list(one) == list(other)
        for name in one:
            near(one[name], other[name])
    elif isinstance(one, list):
        assert len(one) == len(other)
        for mine, theirs in zip(one, other, strict=True):
            near(mine, theirs)
    elif isinstance(one, float):
        assert one == pytest.approx(other, rel=0, abs=1e-6)
    else:
        assert one == other
