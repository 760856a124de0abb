"""Recipes by their names: `soundbench recipes`, and which file a bare name stands for."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from soundbench.cli.main import invoke
from soundbench.errors import RecipeError
from soundbench.recipe import find_recipe

OURS = Path(__file__).parents[2] / "recipes"
Call = Callable[..., tuple[int, str, str]]


@pytest.fixture
def call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    """Calls a command in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str) -> tuple[int, str, str]:
        code = invoke(arguments)
        return code, *capsys.readouterr()

    return call


def test_every_recipe_is_listed_with_its_first_line(call: Call) -> None:
    code, out, err = call("recipes")
    assert (code, err) == (0, "")
    names = [path.stem for path in sorted(OURS.glob("*.toml"))]
    assert [line.split()[0] for line in out.splitlines()] == names
    found = json.loads(call("recipes", "--json")[1])
    assert list(found) == names
    for name, summary in found.items():
        assert (OURS / f"{name}.toml").read_text().startswith(f"# {summary}\n")
        assert summary


def test_a_copy_has_every_byte_and_takes_no_file_away(call: Call, tmp_path: Path) -> None:
    assert call("recipes", "copy", "esc10_campplus") == (0, "esc10_campplus.toml\n", "")
    copy = tmp_path / "esc10_campplus.toml"
    assert copy.read_bytes() == (OURS / copy.name).read_bytes()
    copy.write_text("mine")
    code, out, err = call("recipes", "copy", "esc10_campplus")
    assert (code, out) == (2, "")
    assert err == "esc10_campplus.toml exists, and is kept; give another file: --out FILE\n"
    assert copy.read_text() == "mine"
    assert call("recipes", "copy", "esc10_campplus", "--out", "other.toml")[0] == 0


def test_a_copy_still_extends_what_it_extended(call: Call, tmp_path: Path) -> None:
    assert call("recipes", "copy", "esc10_campplus", "--out", "mine.toml")[0] == 0  # it extends esc50_campplus.toml
    code, out, _ = call("describe", "mine.toml", "--json")
    assert code == 0
    assert json.loads(call("describe", "esc10_campplus", "--json")[1])["parameters"] == json.loads(out)["parameters"]


def test_a_recipe_that_is_not_there_is_answered_with_the_nearest(call: Call) -> None:
    code, _, err = call("recipes", "copy", "quikstart")
    assert code == 2
    assert err.startswith('there is no recipe "quikstart" of soundbench; did you mean "quickstart"? known: ')
    code, _, err = call("describe", "quikstart")
    assert code == 2
    assert err.startswith('quikstart: there is no such file; did you mean "quickstart.toml"? recipes of soundbench: ')


def test_a_bare_name_is_a_recipe_of_ours_but_a_file_of_the_folder_wins_and_is_said(call: Call, tmp_path: Path) -> None:
    assert find_recipe("quickstart") == OURS / "quickstart.toml"
    assert call("describe", "quickstart", "--json")[2] == ""
    (tmp_path / "quickstart").mkdir()  # a folder is no recipe
    assert find_recipe("quickstart") == OURS / "quickstart.toml"
    mine = tmp_path / "quickstart.toml"
    mine.write_text((OURS / "quickstart.toml").read_text().replace("width = 32", "width = 16"))
    assert find_recipe("quickstart") == Path("quickstart.toml")
    code, _, err = call("describe", "quickstart", "--json")
    assert code == 0
    assert err == "quickstart: the file quickstart.toml of this folder, not the recipe of soundbench with this name\n"
    (tmp_path / "quickstart").rmdir()
    (tmp_path / "quickstart").write_text("as given")
    assert find_recipe("quickstart") == Path("quickstart")
    (tmp_path / "own.toml").write_text("")
    assert find_recipe("own") == Path("own.toml")
    assert find_recipe("recipes/quickstart.toml") == OURS / "quickstart.toml"
    with pytest.raises(RecipeError, match="there is no such file"):
        find_recipe("elsewhere/quickstart")
