"""Memory that was freed is kept: asking for it again costs no page faults, and keeping it takes none by itself."""

from __future__ import annotations

import json
import platform
import subprocess
import sys

import pytest

from soundbench import heap

STEPS = """
import json, resource, sys
from soundbench import heap

kept = heap.keep() if sys.argv[1] == "keep" else False
def used():
    return resource.getrusage(resource.RUSAGE_SELF)
before = used().ru_maxrss
def step():
    blocks = [bytearray(size << 20) for size in (48, 64, 16)]
    del blocks
faults = []
for _ in range(4):
    begun = used().ru_minflt
    step()
    faults.append(used().ru_minflt - begun)
print(json.dumps({"kept": kept, "start": before, "faults": faults, "peak": used().ru_maxrss}))
"""


def steps(how: str) -> dict[str, object]:
    done = subprocess.run([sys.executable, "-c", STEPS, how], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc's heap can be told")
def test_a_step_finds_the_memory_of_the_step_before() -> None:
    plain, kept = steps("plain"), steps("keep")
    assert kept["kept"]
    assert min(plain["faults"][1:]) > 10 * max(kept["faults"][1:])
    assert kept["start"] < plain["start"] + 4096  # KB: the room ahead is of addresses alone
    assert kept["peak"] < 1.2 * plain["peak"]


def test_another_c_library_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
    monkeypatch.setattr("ctypes.CDLL", lambda *_, **__: pytest.fail("it was touched"))
    assert not heap.keep.__wrapped__()
