"""A disk with so much room."""

from __future__ import annotations

import shutil
from collections import namedtuple

import pytest

Usage = namedtuple("Usage", "total used free")


def leave(monkeypatch: pytest.MonkeyPatch, free: int) -> None:
    """From now on so many bytes are free, on every disk."""
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(0, 0, free))
