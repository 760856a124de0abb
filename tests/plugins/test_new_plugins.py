"""What `soundbench new-plugin` writes works: every kind, installed, keeps its contract, and its first run ends."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers.plugin_packages import install

from soundbench.contracts import KINDS
from soundbench.recipe.new_plugin.package import first_run, write_package

pytestmark = pytest.mark.slow

Python = Callable[..., subprocess.CompletedProcess[str]]

# Several first runs in one process: torch is imported once.
RUNS = """
import json, os, shlex, sys
from pathlib import Path
from soundbench.cli.main import invoke

done = {}
for folder, lines in json.loads(sys.argv[1]).items():
    os.chdir(folder)
    for line in lines:
        words = shlex.split(line)
        if words[0] == "python":
            exec(words[2])
            continue
        small = ["--set", "train.epochs=1", "--set", "report.sounds=0"] if words[1] == "run" else []
        if words[1] == "run" and not folder.endswith("dataset"):
            small += ["--set", "dataset.clips=50"]
        done[f"{Path(folder).name}: {line}"] = invoke([*words[1:], *small])
print(json.dumps(done))
"""


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A new package of every kind."""
    folder = tmp_path_factory.mktemp("new")
    return {kind: write_package(kind, f"new-{kind}", parent=folder) for kind in KINDS}


@pytest.fixture(scope="module")
def python(packages: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Python:
    """Calls Python where all of them are installed."""
    site = tmp_path_factory.mktemp("site")
    for package in packages.values():
        install(package, site)
    path = os.pathsep.join([str(site), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {**os.environ, "PYTHONPATH": path, "SOUNDBENCH_CACHE": str(tmp_path_factory.mktemp("cache"))}

    def call(*arguments: str) -> subprocess.CompletedProcess[str]:
        line = [sys.executable, *arguments]
        return subprocess.run(line, env=environment, capture_output=True, text=True, check=False)

    return call


def test_every_kind_passes_its_own_test(python: Python, packages: dict[str, Path]) -> None:
    folders = [str(package) for package in packages.values()]
    done = python("-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", *folders)
    assert done.returncode == 0, done.stdout
    assert f"{len(KINDS)} passed" in done.stdout


def test_the_first_run_of_every_kind_ends(python: Python, packages: dict[str, Path]) -> None:
    runs = {str(package): first_run(kind, f"new-{kind}") for kind, package in packages.items()}
    done = python("-c", RUNS, json.dumps(runs))
    codes = json.loads(done.stdout.splitlines()[-1])
    assert len(codes) == len(KINDS) + 2  # an importer imports first, an exporter exports at last
    assert set(codes.values()) == {0}, (codes, done.stderr)
    observed = next((packages["observer"] / "runs").glob("*/soundbench-new-observer.json"))
    assert json.loads(observed.read_text())["epoch"] == 1
