"""What benchmarks measure with."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

RESIDENT = Path(__file__).parents[2] / "benchmarks" / "resident.py"


@pytest.mark.skipif(sys.platform != "linux", reason="the system has no /proc")
def test_the_peak_of_a_command_is_not_that_of_the_process_that_started_it() -> None:
    program = f"""
import subprocess, sys
used = b"1" * 300_000_000
done = subprocess.run([sys.executable, {str(RESIDENT)!r}, "--version"], stderr=subprocess.PIPE, text=True, check=True)
print(done.stderr.splitlines()[-1])
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert 5_000_000 < int(done.stdout.splitlines()[-1]) < 200_000_000
