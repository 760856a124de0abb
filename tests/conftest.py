"""What every test may ask for."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def data() -> Path:
    """The folder of real sounds, laid out as their official distributions look."""
    folder = os.environ.get("SOUNDBENCH_DATA")
    if not folder:
        pytest.skip("SOUNDBENCH_DATA is not set: no real sounds to test on")
    return Path(folder)
