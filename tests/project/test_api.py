"""The plugin API stays what docs/stability.md says: no public name goes without a change of its version."""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path

import pytest

import soundbench

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "stability.md").read_text(encoding="utf-8")
# A name in each line, `module:name`, those of the first release with this version; names may be added at any time.
NAMES = (Path(__file__).parent / f"api-{soundbench.API_VERSION}.txt").read_text(encoding="utf-8").split()


def modules() -> list[str]:
    """The modules that the page names."""
    text = re.search(r"the names in `__all__` of these modules.*?;\n", PAGE, re.DOTALL)
    assert text is not None
    return re.findall(r"`(soundbench[\w.]*)`", text[0])


def test_the_version_is_that_of_soundbench_without_its_last_number() -> None:
    assert soundbench.__version__.rpartition(".")[0] == soundbench.API_VERSION
    assert f'`soundbench.API_VERSION` is `"{soundbench.API_VERSION}"`' in PAGE


@pytest.mark.parametrize("module", modules())
def test_no_name_of_the_api_is_gone(module: str) -> None:
    kept = {name for place, _, name in (line.partition(":") for line in NAMES) if place == module}
    public = import_module(module)
    assert kept
    assert kept <= set(public.__all__)
    assert all(hasattr(public, name) for name in public.__all__)


def test_the_list_names_no_other_module() -> None:
    assert {line.partition(":")[0] for line in NAMES} == set(modules())
