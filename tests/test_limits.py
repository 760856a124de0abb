"""The limits that the system sets for a process, read and raised; where it has none, there is none."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from soundbench import limits

# Of a process that allows itself 64 open files, and at most 96.
RAISED = """
import json, resource
from soundbench import limits
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 96))
found = [limits.of_process("NOFILE")]
for wanted in (32, 80, 4096):
    limits.raise_of_process("NOFILE", wanted)
    found.append(resource.getrlimit(resource.RLIMIT_NOFILE)[0])
print(json.dumps(found))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="has no such limits")
def test_a_limit_is_raised_as_far_as_the_user_may_and_never_lowered() -> None:
    done = subprocess.run([sys.executable, "-c", RAISED], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == [64, 64, 80, 96]


def test_without_the_module_there_is_no_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "resource", None)
    assert limits.of_process("NOFILE") == float("inf")
    limits.raise_of_process("NOFILE", 4096)
