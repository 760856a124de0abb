"""What any project has: the citation file says the same as the package does, the changelog nothing twice."""

from __future__ import annotations

import shlex
import tomllib
from pathlib import Path

import click
import yaml

import soundbench
from soundbench.cli.main import group

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


def test_the_changelog_says_nothing_twice() -> None:
    lines = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8").splitlines()
    beginnings = [line[:50] for line in lines if line.startswith("- ")]
    assert sorted(beginnings) == sorted(set(beginnings))


def test_the_workflow_runs_what_is_there_on_three_systems() -> None:
    text = (ROOT / ".github/workflows/tests.yml").read_text(encoding="utf-8")
    (job,) = yaml.safe_load(text)["jobs"].values()
    assert {system.split("-")[0] for system in job["strategy"]["matrix"]["system"]} == {"ubuntu", "macos", "windows"}
    classifiers = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["classifiers"]
    versions = {f"Programming Language :: Python :: {version}" for version in job["strategy"]["matrix"]["python"]}
    assert versions <= set(classifiers)
    lines = [line for step in job["steps"] for line in step.get("run", "").splitlines()]
    calls = [shlex.split(line) for line in lines if line.startswith("python -m soundbench ")]
    assert [call[3] for call in calls] == ["list-plugins", "run", "infer"]
    for call in calls:
        command = group.get_command(click.Context(group), call[3])
        assert command is not None, call
        known = {option for parameter in command.params for option in parameter.opts}
        assert {word for word in call if word.startswith("--")} <= known
    assert all((ROOT / word).is_file() for call in calls for word in call if word.startswith("recipes/"))
    # It installs what the README's second command installs, and then runs the same tests.
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert "-m pip install -c constraints.txt" in text
    assert "pip install -c constraints.txt -e '.[av,dev]' && .venv/bin/python -m pytest\n" in readme
    assert lines[-1] == "python -m pytest"
    assert any(line.endswith('-e ".[av,dev]"') for line in lines)
