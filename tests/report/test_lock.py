"""The lock of a run directory, between real processes."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from soundbench.errors import RunError
from soundbench.report.lock import held

HOLDER = """
import os, sys, time
from pathlib import Path
from soundbench.report.lock import held
with held(Path(sys.argv[1])):
    if len(sys.argv) > 2 and not os.fork():
        time.sleep(float(sys.argv[2]))
        os._exit(0)
    print("held", flush=True)
    time.sleep(600)
"""


def holder(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    line = [sys.executable, "-c", HOLDER, str(folder), *arguments]
    process = subprocess.Popen(line, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_the_second_says_who_holds_it_and_a_kill_frees_it(tmp_path: Path) -> None:
    process = holder(tmp_path)
    try:
        with pytest.raises(RunError) as caught, held(tmp_path):
            pass
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    name = re.escape(socket.gethostname())
    assert re.fullmatch(
        rf"{tmp_path}: process {process.pid} on {name} works here since \d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d\+\d\d:\d\d; "
        "wait until it has ended, or stop it",
        str(caught.value),
    )
    began = time.monotonic()
    with held(tmp_path):
        assert json.loads((tmp_path / ".lock.json").read_text())["process"] == os.getpid()
        with pytest.raises(RunError, match=f"process {os.getpid()} on"), held(tmp_path):
            pass
    assert time.monotonic() - began < 5
    assert not (tmp_path / ".lock.json").exists()


def test_processes_that_a_killed_one_has_forked_are_waited_for(tmp_path: Path) -> None:
    process = holder(tmp_path, "1.5")
    process.send_signal(signal.SIGKILL)
    process.wait()
    with held(tmp_path):
        pass


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "precious").write_text("precious")
    (tmp_path / "run" / ".lock").symlink_to(tmp_path / "precious")
    with pytest.raises(RunError, match="is a link"), held(tmp_path / "run"):
        pass
    assert (tmp_path / "precious").read_text() == "precious"


BY_NOBODY = json.dumps({"process": None, "host": socket.gethostname(), "since": 2})


@pytest.mark.parametrize("note", [None, "", "[]", "{}", '{"process": "x", "host": 1, "since": 2}', BY_NOBODY])
def test_a_note_that_says_nothing_is_no_obstacle(tmp_path: Path, note: str | None) -> None:
    process = holder(tmp_path)
    try:
        (tmp_path / ".lock.json").unlink()
        if note is not None:
            (tmp_path / ".lock.json").write_text(note)
        with pytest.raises(RunError, match="works here"), held(tmp_path):
            pass
    finally:
        process.kill()
        process.wait()
