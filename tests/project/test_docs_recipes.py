"""docs/recipes.md is true: its tables are the core's, its examples are read, its messages are the real ones."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import attrs
import pytest
from helpers.entry_points import toy_registry

from soundbench.errors import RecipeError
from soundbench.messages import show, spell
from soundbench.recipe import DEFAULTS, TABLES, compose
from soundbench.recipe.source_code import argument_docs
from soundbench.recipe.structuring import key_of
from soundbench.recipe.tables import CORE

PAGE = Path(__file__).parents[2] / "docs" / "recipes.md"


def default_of(field: attrs.Attribute) -> object:
    return field.default.factory() if isinstance(field.default, attrs.Factory) else field.default


def rows(table: str) -> list[str]:
    """The rows of a table of the core as the page shows them."""
    cls = attrs.resolve_types(CORE[table])
    docs = argument_docs(cls.__doc__, "Attributes:")
    assert list(docs) == [field.name for field in attrs.fields(cls)]
    return [
        f"| `{key_of(field)}` | {spell(field.type).replace(' | None', '').replace(' | ', ' or ')} "
        f"| {'' if field.default is None else show(default_of(field))} | {docs[field.name]} |"
        for field in attrs.fields(cls)
    ]


@pytest.mark.parametrize("table", CORE)
def test_the_page_shows_every_key_of_the_cores_tables(table: str) -> None:
    page = PAGE.read_text(encoding="utf-8")
    section = re.split(r"^## ", page.partition(f"\n## `[{table}]`")[2], flags=re.MULTILINE)[0]
    assert [line for line in section.splitlines() if line.startswith("| `")] == rows(table)


def test_the_page_names_every_table_and_every_default() -> None:
    page = PAGE.read_text(encoding="utf-8")
    for table in TABLES:
        assert f"| `{table}` |" in page
    for table, default in DEFAULTS.items():
        used = default[0]["use"] if isinstance(default, list) and default else default and default["use"]
        assert re.search(rf"^\| `{table}` \|.*\| {f'`{used}`' if used else 'none'} \|$", page, re.MULTILINE), table


def test_every_recipe_of_the_page_is_toml() -> None:
    blocks = re.findall(r"```toml[^\n]*\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) >= 4
    for block in blocks:
        assert set(tomllib.loads(block)) <= {*TABLES, "extends", "name"}


def test_the_mistakes_that_the_page_shows_are_told_so() -> None:
    page = PAGE.read_text(encoding="utf-8")
    text, told = re.findall(r"```toml[^\n]*\n([^`]*?)```\n\nis answered by\n\n```text\n(.*?)```", page, re.DOTALL)[0]
    names = {"dataset": "noise", "backbone": "conv", "featurizer": "spectra", "loss": "entropy"}
    names |= {"optimizer": "descent", "scheduler": "line", "calibration": "divide"}
    names |= {"observer": []}
    with pytest.raises(RecipeError) as caught:
        compose({**tomllib.loads(text), **names}, registry=toy_registry())
    shown = str(caught.value).replace("<python>", "mine.toml").splitlines()
    assert sorted(told.splitlines()) == sorted(shown)
