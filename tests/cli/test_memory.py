"""Memory that was freed is kept: asking for it again costs no page faults, and keeping it takes none by itself."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from soundbench.cli import memory

STEPS = """
import json, resource, sys
from soundbench.cli import memory

kept = memory.keep() if sys.argv[1] == "keep" else False
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


RATIONED = """
import resource, sys
from pathlib import Path
from soundbench.cli import memory

def addresses():
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
if sys.argv[1] == "limit":
    resource.setrlimit(resource.RLIMIT_AS, (1 << 40, resource.RLIM_INFINITY))
elif sys.argv[1] == "system":
    Path(sys.argv[2]).write_text("2\\n")
    memory._OVERCOMMIT = Path(sys.argv[2])
before = addresses()
assert memory.keep()
print(addresses() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc's heap can be told")
@pytest.mark.parametrize(("by", "taken"), [("limit", False), ("system", False), ("nobody", True)])
def test_no_addresses_are_taken_where_they_are_counted(by: str, taken: bool, tmp_path: Path) -> None:
    """`ulimit -v`, and `vm.overcommit_memory=2`: sound that is mapped and other programs need them."""
    line = [sys.executable, "-c", RATIONED, by, str(tmp_path / "overcommit")]
    done = subprocess.run(line, capture_output=True, text=True, check=True)
    assert (int(done.stdout) > 1 << 28) is taken


# As tcmalloc does: an allocator of its own, and a `mallopt` that does nothing.
ALLOCATOR = """
#include <stddef.h>
void *__libc_malloc(size_t);
void *malloc(size_t size) { return __libc_malloc(size); }
int mallopt(int key, int value) { return 1; }
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc's heap can be told")
@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler")
def test_an_allocator_in_the_place_of_glibc_s_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "own.c").write_text(ALLOCATOR)
    library = tmp_path / "own.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, tmp_path / "own.c"], check=True)
    line = [sys.executable, "-c", "from soundbench.cli import memory; print(memory.keep())"]
    told = [
        subprocess.run(line, capture_output=True, text=True, check=True, env=os.environ | more).stdout
        for more in ({}, {"LD_PRELOAD": str(library)})
    ]
    assert told == ["True\n", "False\n"]


def test_another_c_library_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
    monkeypatch.setattr("ctypes.CDLL", lambda *_, **__: pytest.fail("it was touched"))
    assert not memory.keep.__wrapped__()
