"""Where nothing of POSIX is there, such as on Windows: all is imported, runs, or says in one line that it cannot.

`helpers/without_posix.py` says what is hidden from a real process, and what is not simulated.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

ROOT = Path(__file__).parents[1]
SMALL = ["quickstart.toml", "--set", "dataset.clips=100", "--set", "train.epochs=1", "--set", "train.threads=1"]

Call = Callable[..., subprocess.CompletedProcess[str]]

# What is hidden, seen from a module of soundbench and from this one, and every module that cannot be imported.
LOOK = """
import json, os, pkgutil, sys
import helpers.without_posix
import soundbench, soundbench_plugins, soundbench.signals as ours

def refused(call):
    try:
        call()
    except OSError as error:
        return type(error).__name__
    return ""

with open("held", "wb") as held:
    kept = refused(lambda: os.replace("other", "held")), refused(lambda: os.unlink("held"))
names = ("killpg", "setsid", "sched_getaffinity", "O_NOFOLLOW")
failed = {}
found = [*pkgutil.walk_packages(soundbench.__path__, "soundbench."),
         *pkgutil.walk_packages(soundbench_plugins.__path__, "soundbench_plugins.")]
for one in found:
    try:
        __import__(one.name)
    except BaseException as error:
        failed[one.name] = f"{type(error).__name__}: {error}"
print(json.dumps({
    "hidden": [name for name in names if not hasattr(ours.os, name)],
    "there": [name for name in names if hasattr(os, name)],
    "sigkill": hasattr(ours.signal, "SIGKILL"),
    "proc": refused(lambda: open("/proc/cpuinfo")),
    "kept": kept,
    "modules": len(found),
    "failed": failed,
}))
"""


@pytest.fixture
def call(tmp_path: Path) -> Call:
    """Calls a program, or `soundbench` without POSIX, in an empty folder."""
    paths = [str(ROOT), str(ROOT / "plugins"), str(ROOT / "tests"), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "SOUNDBENCH_CACHE": str(tmp_path / "cache")}
    (tmp_path / "other").write_bytes(b"")

    def call(*arguments: str, program: tuple[str, ...] = ("-m", "helpers.without_posix")) -> Call:
        line = [sys.executable, *program, *arguments]
        return subprocess.run(line, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)

    return call


@pytest.mark.slow
def test_every_module_is_imported(call: Call) -> None:
    done = call(program=("-c", LOOK))
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    # First that something is hidden at all, and only from soundbench.
    assert found["hidden"] == found["there"] == ["killpg", "setsid", "sched_getaffinity", "O_NOFOLLOW"]
    assert (found["sigkill"], found["proc"]) == (False, "FileNotFoundError")
    assert found["kept"] == ["PermissionError", "PermissionError"]
    assert found["failed"] == {}
    assert found["modules"] > 300


def test_several_processes_are_refused_in_a_line(call: Call) -> None:
    done = call("run", *SMALL, "--processes", "2")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "--processes needs Linux or macOS; leave it out to use one process\n"


@pytest.mark.slow
def test_a_network_is_trained_with_a_spawned_worker_and_used(call: Call, tmp_path: Path) -> None:
    done = call("run", *SMALL, "--set", "train.num_workers=1", "--out", "run")
    assert (done.returncode, done.stdout) == (0, "run\n"), done.stderr
    assert "Traceback" not in done.stderr
    sounds = ["a.wav", "b.wav", "c.wav"]
    for seed, name in enumerate(sounds):
        soundfile.write(tmp_path / name, 0.1 * np.random.default_rng(seed).standard_normal(16_000), 16_000)

    done = call("infer", "run", *sounds, "--out", "results", "--format", "csv")
    assert done.returncode == 0, done.stderr
    assert len((tmp_path / "results" / "results.csv").read_text().splitlines()) == 1 + len(sounds)
    for done in (call("report", "run"), call("cache", "prune", "--unused", "0")):
        assert done.returncode == 0, done.stderr
    assert list((tmp_path / "cache").iterdir()) == []


@pytest.mark.slow
def test_a_sweep_runs(call: Call, tmp_path: Path) -> None:
    cells = 'extends = "quickstart.toml"\ndataset = {use = "tones", clips = 100}\ntrain = {epochs = 1, threads = 1}\n'
    (tmp_path / "sweep.toml").write_text(f"{cells}[sweep]\nseeds = [1]\n")
    done = call("sweep", "sweep.toml", "--out", "sweep")
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "sweep"), done.stderr
    assert len(list((tmp_path / "sweep").glob("*/report.json"))) == 1
