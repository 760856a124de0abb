"""The packages below plugins/ are of one kind: licence, Python and soundbench that they are for, pages and tests."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CORE = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
# All but soundbench-runtime, which needs no soundbench.
PACKAGES = sorted(folder.parent for folder in (ROOT / "plugins").glob("soundbench-*/tests"))


@pytest.mark.parametrize("folder", PACKAGES, ids=lambda folder: folder.name)
def test_a_package_is_like_the_others(folder: Path) -> None:
    project = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["name"] == folder.name
    assert (project["license"], project["license-files"]) == ("Apache-2.0", ["LICENSE"])
    assert (folder / "LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()
    assert project["requires-python"] == CORE["requires-python"]
    assert "soundbench>=0.1" in project["dependencies"]
    assert all(group.startswith("soundbench.") for group in project["entry-points"])


@pytest.mark.parametrize("folder", PACKAGES, ids=lambda folder: folder.name)
def test_its_page_says_how_to_install_it(folder: Path) -> None:
    page = (folder / "README.md").read_text(encoding="utf-8")
    (install,) = (line for line in page.splitlines() if line.startswith("pip install"))
    assert install.startswith("pip install --extra-index-url https://download.pytorch.org/whl/cpu ")
    assert install.endswith(f" . ./plugins/{folder.name}")


def test_there_are_some() -> None:
    assert len(PACKAGES) >= 3
