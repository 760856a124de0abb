"""What every test may ask for."""

from __future__ import annotations

import gc
import os
import subprocess
from collections.abc import Iterator
from importlib.metadata import EntryPoints
from pathlib import Path

import pytest
from helpers import TESTS
from helpers.entry_points import TOYS, fake
from helpers.runs import RECIPE

from soundbench.cli.process import shorten_waiting

# Before torch is imported: other programs may use the cores while tests run.
shorten_waiting()
# Processes that tests start find the helpers too.
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(TESTS), os.environ.get("PYTHONPATH")]))


def pytest_collection_finish() -> None:
    """What is imported by now stays: the garbage collector need not look through it again and again."""
    gc.freeze()


@pytest.fixture(scope="session")
def data() -> Path:
    """The folder of real sounds, laid out as their official distributions look."""
    folder = os.environ.get("SOUNDBENCH_DATA")
    if not folder:
        pytest.skip("SOUNDBENCH_DATA is not set: no real sounds to test on")
    return Path(folder)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The cache, a folder of the test's own."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("SOUNDBENCH_CACHE", str(folder))
    return folder


@pytest.fixture(scope="module")
def one_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The cache, one folder for all tests of a module."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SOUNDBENCH_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    """A recipe of toys, written to a file."""
    path = tmp_path / "toy.toml"
    path.write_text(RECIPE)
    return path


@pytest.fixture
def bound(tmp_path: Path) -> None:
    """Only where permissions bind this user; root is above them."""
    probe = tmp_path / "probe"
    probe.touch(mode=0o000)
    try:
        probe.read_bytes()
    except PermissionError:
        probe.unlink()
        return
    pytest.skip("permissions do not bind this user; .ci/run runs this test where they do")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 128 KiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=128k", "tmpfs", str(folder)]
    try:
        done = subprocess.run(mount, capture_output=True, check=False).returncode == 0
    except OSError:
        done = False
    if not done:
        pytest.skip("this user may not mount a small disk")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.fixture
def only_toys(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing but the toys is installed."""
    entries = [fake(*toy) for toy in TOYS]
    monkeypatch.setattr("soundbench.recipe.registry.entry_points", lambda: EntryPoints(entries))
