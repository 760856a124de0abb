"""The wheel stands alone: what is installed from it finds its plugins and its recipes without the checkout."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import zipfile
from collections.abc import Callable
from email.parser import Parser
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
RECIPES = sorted(path.name for path in (ROOT / "recipes").glob("*.toml"))

PIP = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]

pytestmark = pytest.mark.slow

Call = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel and the source distribution, built from a copy of the tree."""
    folder = tmp_path_factory.mktemp("dist")
    tree = folder / "tree"
    for name in ("soundbench", "plugins", "recipes"):
        shutil.copytree(ROOT / name, tree / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tree / name)
    environment = dict(os.environ)
    if not find_spec("hatchling"):
        backend = tomllib.loads((tree / "pyproject.toml").read_text())["build-system"]["requires"]
        subprocess.run([*PIP, "install", "--target", str(folder / "backend"), *backend], check=True)
        environment["PYTHONPATH"] = str(folder / "backend")
    build = [sys.executable, "-m", "hatchling", "build", "-d", str(folder)]
    subprocess.run(build, cwd=tree, env=environment, check=True, capture_output=True)
    shutil.rmtree(tree)
    return folder


@pytest.fixture(scope="module")
def installed(dist: Path) -> Path:
    """A folder that holds what the wheel installs."""
    (wheel,) = dist.glob("*.whl")
    subprocess.run([*PIP, "install", "--no-deps", "--target", str(dist / "installed"), str(wheel)], check=True)
    return dist / "installed"


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


def test_the_wheel_holds_its_licence_its_types_and_its_recipes(dist: Path) -> None:
    (wheel,) = dist.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        metadata = Parser().parsestr(archive.read("soundbench-0.1.0.dist-info/METADATA").decode())
        licence = archive.read("soundbench-0.1.0.dist-info/licenses/LICENSE")
    assert licence == (ROOT / "LICENSE").read_bytes()
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata.get_all("License-File") == ["LICENSE"]
    assert names >= {"soundbench/py.typed", "soundbench_plugins/py.typed"}
    assert names >= {f"soundbench/recipes/{name}" for name in RECIPES}
    templates = (ROOT / "soundbench/report/html/templates").iterdir()
    assert names >= {f"soundbench/report/html/templates/{path.name}" for path in templates}
    assert {name.split("/")[0] for name in names} == {"soundbench", "soundbench_plugins", "soundbench-0.1.0.dist-info"}


def test_the_source_distribution_holds_what_the_wheel_is_built_from(dist: Path) -> None:
    (source,) = dist.glob("*.tar.gz")
    with tarfile.open(source) as archive:
        names = {name.removeprefix("soundbench-0.1.0/") for name in archive.getnames()}
    assert names >= {"LICENSE", "README.md", "pyproject.toml"}
    assert names >= {"soundbench/py.typed", "plugins/soundbench_plugins/py.typed"}
    assert names >= {f"recipes/{name}" for name in RECIPES}


def test_the_licence_is_the_published_text() -> None:
    # Of https://www.apache.org/licenses/LICENSE-2.0.txt
    published = "cfc7749b96f63bd31c3c42b5c471bf756814053e847c10f3eb003417bc523d30"
    assert hashlib.sha256((ROOT / "LICENSE").read_bytes()).hexdigest() == published


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
        f"nothing_of_it.toml: there is no such file; recipes of soundbench: {', '.join(RECIPES)}\n",
    )


def test_a_recipe_of_the_wheel_trains(call: Call, tmp_path: Path) -> None:
    small = ["--set", "dataset.clips=100", "--set", "train.epochs=1"]
    done = call("-m", "soundbench", "run", "quickstart.toml", *small, "--out", "run")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "run"
    assert json.loads((tmp_path / "work/run/report.json").read_text())["clips"] == 20
