"""The wheel stands alone: what is installed from it finds its plugins and its recipes without the checkout."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
RECIPES = sorted(path.name for path in (ROOT / "recipes").glob("*.toml"))

pytestmark = pytest.mark.slow

Call = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds what the wheel, built from a copy of the tree, installs."""
    folder = tmp_path_factory.mktemp("wheel")
    for name in ("soundbench", "plugins", "recipes"):
        shutil.copytree(ROOT / name, folder / "tree" / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, folder / "tree" / name)
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    alone = ["--no-build-isolation"] if find_spec("hatchling") else []
    subprocess.run([*pip, "wheel", "--no-deps", *alone, "-w", str(folder), str(folder / "tree")], check=True)
    (wheel,) = folder.glob("*.whl")
    subprocess.run([*pip, "install", "--no-deps", "--target", str(folder / "installed"), str(wheel)], check=True)
    shutil.rmtree(folder / "tree")
    return folder / "installed"


@pytest.fixture
def call(installed: Path, tmp_path: Path) -> Call:
    """Calls the installed program in an empty folder; `-S` leaves out the links of an editable installation."""
    libraries = {sysconfig.get_path("purelib"): None, sysconfig.get_path("platlib"): None}
    path = os.pathsep.join([str(installed), *libraries])
    environment = {**os.environ, "PYTHONPATH": path, "SOUNDBENCH_CACHE": str(tmp_path / "cache")}
    (tmp_path / "work").mkdir()

    def call(*arguments: str) -> subprocess.CompletedProcess[str]:
        line = [sys.executable, "-S", *arguments]
        return subprocess.run(
            line, cwd=tmp_path / "work", env=environment, capture_output=True, text=True, timeout=300, check=False
        )

    return call


def test_it_is_the_wheel_that_is_tested(call: Call, installed: Path) -> None:
    script = "import soundbench, soundbench_plugins; print(soundbench.__file__, soundbench_plugins.__path__[0])"
    done = call("-c", script)
    assert done.stdout.split() == [str(installed / "soundbench/__init__.py"), str(installed / "soundbench_plugins")]


def test_every_plugin_that_the_project_declares_is_found_and_sound(call: Call) -> None:
    done = call("-m", "soundbench", "list-plugins", "--check", "--json")
    assert done.returncode == 0, done.stderr
    declared = (ROOT / "pyproject.toml").read_text().count(' = "soundbench_plugins.')
    ours = [entry for entry in json.loads(done.stdout) if entry["distribution"] == "soundbench"]
    assert len(ours) == declared
    assert all(entry["ok"] and entry["summary"] for entry in ours)


# One that names a model of the hub is made of that model.
ALONE = [name for name in RECIPES if "\nmodel = " not in (ROOT / "recipes" / name).read_text(encoding="utf-8")]


@pytest.mark.parametrize("name", [*ALONE, f"recipes/{ALONE[0]}"])
def test_every_recipe_is_found_by_its_name(call: Call, name: str) -> None:
    done = call("-m", "soundbench", "describe", name, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["name"] == Path(name).stem


def test_a_name_that_is_none_of_them_is_told_with_all(call: Call) -> None:
    done = call("-m", "soundbench", "describe", "nothing_of_it.toml")
    assert (done.returncode, done.stderr) == (
        2,
        f"nothing_of_it.toml: there is no such file; soundbench brings {', '.join(RECIPES)}\n",
    )


def test_a_recipe_of_the_wheel_trains(call: Call, tmp_path: Path) -> None:
    small = ["--set", "dataset.clips=100", "--set", "train.epochs=1"]
    done = call("-m", "soundbench", "run", "quickstart.toml", *small, "--out", "run")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "run"
    assert json.loads((tmp_path / "work/run/report.json").read_text())["clips"] == 20
