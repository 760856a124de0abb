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
import wave
import zipfile
from collections.abc import Callable
from email.parser import Parser
from importlib.util import find_spec
from pathlib import Path

import pytest

from soundbench import __version__ as VERSION

ROOT = Path(__file__).parents[2]
RECIPES = sorted(path.name for path in (ROOT / "recipes").glob("*.toml"))
FOLDERS = ("soundbench/", "plugins/soundbench_plugins/", "recipes/")
ABOUT = f"soundbench-{VERSION}.dist-info"

PIP = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]

pytestmark = pytest.mark.slow

Call = Callable[..., subprocess.CompletedProcess[str]]


# What a tree in use has beside what belongs to a release.
JUNK = (
    ".mypy_cache/3.11/cache.json",
    ".venv/lib/soundbench/models.py",
    "build/lib/soundbench/errors.py",
    "data/ESC-50/audio/1-100032-A-0.wav",
    "plugins/soundbench_plugins/__pycache__/a.cpython-311.pyc",
    "recipes/__pycache__/a.pyc",
    "runs/quickstart/model/weights.safetensors",
    "soundbench/__pycache__/errors.cpython-311.pyc",
    "soundbench.egg-info/SOURCES.txt",
)


Build = Callable[[str, Path, Path], None]


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Build:
    """Builds a "wheel" or an "sdist" from one folder into another."""
    environment = dict(os.environ)
    if not find_spec("hatchling"):
        backend = tomllib.loads((ROOT / "pyproject.toml").read_text())["build-system"]["requires"]
        folder = str(tmp_path_factory.mktemp("backend"))
        subprocess.run([*PIP, "install", "--target", folder, *backend], check=True)
        environment["PYTHONPATH"] = folder

    def build(kind: str, source: Path, out: Path) -> None:
        line = [sys.executable, "-m", "hatchling", "build", "-t", kind, "-d", str(out)]
        subprocess.run(line, cwd=source, env=environment, check=True, capture_output=True)

    return build


@pytest.fixture(scope="module")
def dist(build: Build, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the source distribution, built from a tree in use, and the wheel, built from what is in it."""
    folder = tmp_path_factory.mktemp("dist")
    tree = folder / "tree"
    copy(tracked(), tree)
    for name in JUNK:
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_bytes(b"junk")
    build("sdist", tree, folder)
    build("wheel", tree, folder / "direct")
    (source,) = folder.glob("*.tar.gz")
    with tarfile.open(source) as archive:
        archive.extractall(folder, filter="data")
    unpacked = folder / source.name.removesuffix(".tar.gz")
    build("wheel", unpacked, folder)
    shutil.rmtree(tree)
    shutil.rmtree(unpacked)
    return folder


def copy(names: list[str], to: Path) -> None:
    """Copy these files of the checkout."""
    for name in names:
        (to / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, to / name)


def tracked() -> list[str]:
    """The files of the checkout, or where it is not one (an export of it) those of the folders that a release needs."""
    try:
        git = ["git", "-C", str(ROOT), "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
        listed = subprocess.run(git, capture_output=True, check=True).stdout.decode().split("\0")
        return [name for name in listed if name and (ROOT / name).is_file()]
    except (OSError, subprocess.CalledProcessError):
        folders = ("soundbench", "plugins", "recipes", "tests", "benchmarks", "docs")
        found = [path for name in folders for path in (ROOT / name).rglob("*")] + list(ROOT.glob("*"))
        return [path.relative_to(ROOT).as_posix() for path in found if path.is_file() and path.suffix != ".pyc"]


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


def test_the_wheel_holds_the_package_its_plugins_and_recipes_and_nothing_else(dist: Path) -> None:
    (wheel,) = dist.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        metadata = Parser().parsestr(archive.read(f"{ABOUT}/METADATA").decode())
        licence = archive.read(f"{ABOUT}/licenses/LICENSE")
    files = [name for name in tracked() if name.startswith(FOLDERS)]
    moved = [name.removeprefix("plugins/").replace("recipes/", "soundbench/recipes/", 1) for name in files]
    about = ["METADATA", "RECORD", "WHEEL", "entry_points.txt", "licenses/LICENSE", "licenses/NOTICE"]
    assert sorted(names) == sorted([*moved, *(f"{ABOUT}/{name}" for name in about)])
    assert {"soundbench/py.typed", "soundbench_plugins/py.typed"} <= set(names)
    assert licence == (ROOT / "LICENSE").read_bytes()
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata.get_all("License-File") == ["LICENSE", "NOTICE"]
    assert not [line for line in metadata.get_all("Classifier", []) if line.startswith("License")]
    assert metadata["Version"] == VERSION
    assert wheel.stat().st_size < 4.5e6


def test_the_source_distribution_holds_what_the_wheel_is_built_from_and_nothing_else(dist: Path) -> None:
    (source,) = dist.glob("*.tar.gz")
    with tarfile.open(source) as archive:
        names = [name.removeprefix(f"soundbench-{VERSION}/") for name in archive.getnames()]
    beside = ["CHANGELOG.md", "CITATION.cff", "LICENSE", "NOTICE", "README.md", "constraints.txt", "pyproject.toml"]
    made = ["PKG-INFO", ".gitignore"] if ".gitignore" in names else ["PKG-INFO"]
    assert sorted(names) == sorted([*(name for name in tracked() if name.startswith(FOLDERS)), *beside, *made])


def test_a_wheel_built_from_the_tree_is_the_same_byte_for_byte(dist: Path) -> None:
    (wheel,), (direct,) = dist.glob("*.whl"), dist.glob("direct/*.whl")
    with zipfile.ZipFile(wheel) as one, zipfile.ZipFile(direct) as other:
        assert one.namelist() == other.namelist()
        assert [name for name in one.namelist() if one.read(name) != other.read(name)] == []


def test_the_image_is_built_from_what_the_wheel_needs(build: Build, dist: Path, tmp_path: Path) -> None:
    lines = (ROOT / "Dockerfile").read_text(encoding="utf-8").splitlines()
    named = [name for line in lines if line.startswith("COPY ") for name in line.split()[1:-1]]
    assert "constraints.txt" in named
    copy([file for file in tracked() for name in named if file == name or file.startswith(f"{name}/")], tmp_path / "in")
    build("wheel", tmp_path / "in", tmp_path)
    (wheel,), (other,) = dist.glob("*.whl"), tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as one, zipfile.ZipFile(other) as two:
        assert two.namelist() == one.namelist()


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


def test_every_recipe_is_found_by_its_name(call: Call) -> None:
    done = call("-c", f"import soundbench\nfor name in {RECIPES}: print(soundbench.read_recipe(name).name)")
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [Path(name).stem for name in RECIPES]
    done = call("-m", "soundbench", "describe", f"recipes/{RECIPES[0]}", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["name"] == Path(RECIPES[0]).stem


def test_a_sound_has_an_answer_without_any_training(call: Call, tmp_path: Path) -> None:
    with wave.open(str(tmp_path / "work/own.wav"), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16000)
        file.writeframes(bytes(32000))
    done = call("-m", "soundbench", "infer", "esc10", "own.wav")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("own.wav\tunknown (nearest: ")  # it is silence


def test_a_package_of_a_plugin_is_written(call: Call, tmp_path: Path) -> None:
    done = call("-m", "soundbench", "new-plugin", "augmentation", "mine")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "work/mine/LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()


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
