"""The way in: the README's two commands, its links, and that every command shown anywhere exists."""

from __future__ import annotations

import re
import shlex
import tomllib
from pathlib import Path

import click
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from soundbench.cli.main import group

ROOT = Path(__file__).parents[2]
READMES = [ROOT / "README.md", ROOT / "README.zh-CN.md"]
PAGES = [*READMES, ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md", *sorted((ROOT / "docs").rglob("*.md"))]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def blocks(page: Path) -> list[str]:
    return re.findall(r"^```[^\n]*\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)


def commands() -> list[tuple[str, str]]:
    """Every line of a code block, and of a README every code in its text, that calls soundbench, with its page."""
    found = []
    for page in PAGES:
        for block in blocks(page):
            joined = block.replace("\\\n", " ")
            for line in re.findall(r"^(?:\$ )?(soundbench [a-z].*)$", joined, re.MULTILINE):
                found.append((page.name, re.split(r"\s{3,}| # ", line)[0]))
        if page in READMES:
            text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
            found += [(page.name, line) for line in re.findall(r"`(soundbench [a-z][^`]*)`", text)]
    return found


def headings(page: Path) -> set[str]:
    """What a link to a heading of the page may end in."""
    text = page.read_text()
    titles = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    named = set(re.findall(r"<a id=\"(.*?)\">", text))
    return named | {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def test_it_begins_with_an_answer_and_the_next_two_blocks_are_the_way_in() -> None:
    answer, run, test = blocks(ROOT / "README.md")[:3]
    assert re.findall(r"^\$ (\w+ \w+)", answer, re.MULTILINE) == ["pip install", "soundbench infer"]
    assert run.count("\n") == test.count("\n") == 1
    assert run.strip().endswith("soundbench run recipes/quickstart.toml")
    assert test.strip().endswith("-m pytest")
    for line in (run, test):
        assert "python3 -m venv .venv && " in line
        assert "pip install -c constraints.txt" in line
    extras = re.search(r"\.\[(.*?)\]", test)
    assert extras is not None
    assert set(extras[1].split(",")) <= set(PROJECT["optional-dependencies"])


def test_the_readme_in_chinese_moves_with_the_other() -> None:
    english, chinese = ([re.sub(r"\s+# .*", "", block) for block in blocks(page)] for page in READMES)
    assert chinese == english
    english_links, chinese_links = (re.findall(r"\]\((.*?)\)", page.read_text(encoding="utf-8")) for page in READMES)
    assert ["README.zh-CN.md" if link == "README.md" else link.replace(".zh.md", ".md") for link in chinese_links] == (
        english_links
    )
    english_rows, chinese_rows = (
        re.findall(r"^\| .*", page.read_text(encoding="utf-8"), re.MULTILINE) for page in READMES
    )
    assert len(chinese_rows) == len(english_rows)
    for row, other in zip(english_rows, chinese_rows, strict=True):
        assert re.findall(r"`[^`]+`", other) == re.findall(r"`[^`]+`", row)


def test_constraints_pin_every_dependency_to_a_version_that_it_allows() -> None:
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    pinned = {canonicalize_name(name): version for name, version in (line.split("==") for line in lines)}
    assert pinned["torch"] == "2.13.0"
    extras = PROJECT["optional-dependencies"]
    wanted = PROJECT["dependencies"] + extras["dev"] + extras["av"]
    for requirement in map(Requirement, wanted):
        assert requirement.specifier.contains(pinned[canonicalize_name(requirement.name)]), requirement


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target, place in re.findall(r"\]\(([^)#]*)(?:#([^)]*))?\)", page.read_text()):
        if not target.startswith("http"):
            there = page.parent / target if target else page
            assert there.exists(), target
            assert not place or place in headings(there), f"{target}#{place}"


@pytest.mark.parametrize(
    "page", [page for page in PAGES if "pip install" in page.read_text()], ids=lambda page: page.name
)
def test_every_page_that_installs_says_how_to_get_the_small_build(page: Path) -> None:
    assert "--extra-index-url https://download.pytorch.org/whl/cpu" in page.read_text()


@pytest.mark.parametrize(("page", "line"), commands())
def test_every_command_shown_exists(page: str, line: str) -> None:
    words = shlex.split(line)[1:]
    command: click.Command = group
    while isinstance(command, click.Group) and words:
        name = words.pop(0)
        found = command.get_command(click.Context(command), name)
        assert found is not None, f"{page}: no command {name}"
        command = found
    known = {option for parameter in command.params for option in parameter.opts} | {"--help"}
    used = [word.split("=")[0] for word in words if word.startswith("--")]
    assert set(used) <= known, f"{page}: {line}"
    recipes = [word for word in words if word.startswith("recipes/")]
    assert all((ROOT / recipe).exists() for recipe in recipes), f"{page}: {line}"
