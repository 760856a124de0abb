"""What any project has: the citation file parses, and says the same as the package does."""

from __future__ import annotations

import tomllib
from pathlib import Path

import yaml

import soundbench

ROOT = Path(__file__).parents[2]


def test_the_citation_says_what_the_package_says() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    # The Citation File Format, version 1.2.0, requires these four.
    assert {"cff-version", "message", "title", "authors"} <= set(citation)
    assert citation["cff-version"] == "1.2.0"
    assert citation["title"] == project["name"]
    assert citation["version"] == soundbench.__version__
    assert citation["license"] == project["license"]
    assert citation["authors"] == project["authors"]
