"""docs/models.md is what its command writes, and no network is another size than it should be."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "models.md").read_text(encoding="utf-8")


def written() -> list[str]:
    return PAGE.partition("<!-- models: begin -->\n")[2].partition("<!-- models: end -->")[0].splitlines()


@pytest.mark.slow
def test_the_page_is_what_the_command_writes() -> None:
    line = [sys.executable, "benchmarks/models.py"]
    done = subprocess.run(line, cwd=ROOT, check=True, capture_output=True, text=True)
    assert done.stdout.splitlines() == written()


def test_every_recipe_but_the_pretrained_ones_has_its_row() -> None:
    rows = {row.partition("](")[0].removeprefix("| [") for row in written()[2:]}
    assert rows == {path.stem for path in (ROOT / "recipes").glob("*.toml")} - {
        "urbansound_wavlm",
        "urbansound_wavlm_frozen",
    }


def test_every_size_is_within_a_hundredth_of_what_is_published() -> None:
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in written()[2:]]
    sizes = {row[1]: (int(row[4].replace(",", "")), float(row[5].removesuffix(" M")) * 1e6) for row in cells if row[5]}
    assert len(sizes) == 11
    for backbone, (here, published) in sizes.items():
        assert here == pytest.approx(published, rel=0.01), backbone
