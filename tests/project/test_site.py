"""The site: built without a warning, all links followed; its generated pages leave out no command, option or name."""

from __future__ import annotations

import importlib.util
import inspect
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import attrs
import click
import pytest
from helpers.browser import PROGRAM, browser

from soundbench.cli.main import group
from soundbench.contracts import KINDS
from soundbench.recipe.registry import Registry
from soundbench.recipe.structuring import key_of
from soundbench.recipe.tables import CORE, OWN, TABLES

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def generated() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generated", ROOT / "docs" / "site" / "generated.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def pages(generated: ModuleType) -> dict[str, str]:
    return generated.pages()


def section(page: str, heading: str) -> str:
    """What follows a heading of the second level that has this anchor."""
    found = re.search(rf"^## .*\{{ #{re.escape(heading)} \}}$(.*?)(?=^## |\Z)", page, re.MULTILINE | re.DOTALL)
    assert found, heading
    return found[1]


def all_commands(command: click.Command, path: str) -> list[tuple[str, click.Command]]:
    found = [(path, command)]
    if isinstance(command, click.Group):
        with click.Context(command) as context:
            for name in command.list_commands(context):
                below = command.get_command(context, name)
                assert below is not None
                found += all_commands(below, f"{path} {name}")
    return found


def test_every_option_of_every_command_is_shown(pages: dict[str, str]) -> None:
    for path, command in all_commands(group, "soundbench"):
        text = section(pages["docs/reference/commands.md"], path.replace(" ", "-"))
        for parameter in command.params:
            if isinstance(parameter, click.Option) and not parameter.hidden:
                assert all(option in text for option in parameter.opts), f"{path} {parameter.opts}"


@pytest.mark.parametrize("table", TABLES)
def test_every_key_of_a_table_and_every_component_is_shown(table: str, pages: dict[str, str]) -> None:
    page = pages[f"docs/reference/recipe/{table}.md"]
    settings = CORE.get(table) or OWN.get(table)
    for field in attrs.fields(settings) if settings else ():
        assert f"| `{key_of(field)}` |" in page
    for item in Registry().listings(table) if table in KINDS else ():
        assert f"[`{item.name}`](../components/{table}.md#{item.name})" in page


@pytest.mark.parametrize("kind", KINDS)
def test_every_option_of_every_component_is_shown(kind: str, pages: dict[str, str]) -> None:
    registry = Registry()
    for item in registry.listings(kind):
        text = section(pages[f"docs/reference/components/{kind}.md"], item.name)
        for field in attrs.fields(registry.get(kind, item.name).options):
            assert re.search(rf"^\| `{field.name}` \| .* \| .* \| \S.* \|$", text, re.MULTILINE), field.name
    assert f"`soundbench.{kind}`" in pages[f"docs/reference/kinds/{kind}.md"]


def test_every_public_name_is_shown(generated: ModuleType, pages: dict[str, str]) -> None:
    for module in generated.MODULES:
        page = pages[f"docs/reference/python/{module}.md"]
        for name in import_module(module).__all__:
            assert name.startswith("__") or section(page, name).strip(), f"{module}.{name}"


def without_comments(page: Path) -> list[str]:
    fences = re.findall(r"^```.*?^```$", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    return [re.sub(r"\s+# .*", "", fence) for fence in fences]


def prose(page: Path) -> str:
    """A page without its code blocks and its line of languages, with links as the English page has them."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    text = re.sub(r"^.*(?:简体中文|English\]).*\n", "", text, count=1)
    return re.sub(r"\.zh(?:-CN)?\.md", ".md", text)


@pytest.mark.parametrize("page", sorted((ROOT / "docs").glob("*.zh.md")), ids=lambda page: page.stem)
def test_a_page_in_chinese_has_the_code_links_headings_and_tables_of_the_english_one(page: Path) -> None:
    english = page.with_name(page.name.replace(".zh", ""))
    assert without_comments(page) == without_comments(english)
    text, other = prose(english), prose(page)
    assert sorted(re.findall(r"\]\((.*?)\)", other)) == sorted(re.findall(r"\]\((.*?)\)", text))
    titles = re.findall(r"^##+ (.*)$", text, re.MULTILINE)
    anchors = [re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles]
    assert re.findall(r"^<a id=\"(.*)\"></a>\n\n##+ ", other, re.MULTILINE) == anchors
    rows, others = (re.findall(r"^\| .*", text, re.MULTILINE) for text in (text, other))
    for row, same in zip(rows, others, strict=True):
        assert sorted(re.findall(r"`[^`]+`", same)) == sorted(re.findall(r"`[^`]+`", row))


@pytest.mark.parametrize("kind", KINDS)
def test_every_check_of_a_kind_is_explained(kind: str, pages: dict[str, str]) -> None:
    page = pages[f"docs/reference/kinds/{kind}.md"]
    listed = page.partition("## What `soundbench.testing")[2].partition("## An example")[0]
    checks = re.findall(r"^- \*\*.*", listed, re.MULTILINE)
    assert checks
    assert all(re.fullmatch(r"- \*\*[\w ]+\*\*: \S.*", check) for check in checks), checks


def test_what_a_docstring_lists_is_a_list_on_the_page(pages: dict[str, str]) -> None:
    page = pages["docs/reference/python/soundbench.contracts.md"]
    assert "**Attributes**\n\n- `label`: the class.\n- `start`: seconds" in section(page, "Annotation")
    assert "### `__call__` { #Backbone.call }" in page  # two underscores on each side would be bold there
    assert "`int`: `4194304`" in section(pages["docs/reference/python/soundbench.limits.md"], "TEXT")


def public_members(obj: Any) -> list[tuple[str, Any]]:
    """A public object, and of a class its own public methods and properties."""
    found = [(obj.__qualname__, obj)]
    for name, member in vars(obj).items() if inspect.isclass(obj) else ():
        function = member.fget if isinstance(member, property) else getattr(member, "__func__", member)
        if not name.startswith("_") and inspect.isfunction(function):
            found.append((f"{obj.__qualname__}.{name}", function))
    return found


def test_every_public_name_is_documented_and_typed(generated: ModuleType) -> None:
    lacking = []
    for module in map(import_module, generated.MODULES):
        assert module.__doc__
        for name in module.__all__:
            obj = getattr(module, name)
            for place, member in public_members(obj) if inspect.isclass(obj) or inspect.isfunction(obj) else ():
                if not inspect.getdoc(member):
                    lacking.append(f"{module.__name__}: {place} has no docstring")
                if inspect.isfunction(member) and not typed(member):
                    lacking.append(f"{module.__name__}: {place} is not typed: {inspect.signature(member)}")
    assert not lacking, "\n".join(lacking)


def typed(function: Any) -> bool:
    signature = inspect.signature(function)
    given = [one.annotation for one in signature.parameters.values() if one.name not in {"self", "cls"}]
    return inspect.Signature.empty not in [*given, signature.return_annotation]


class Fetched(HTMLParser):
    """What a browser loads by itself when it opens a page."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, Any]]) -> None:
        given = dict(attributes)
        if tag in {"script", "img", "iframe", "source", "audio", "video"}:
            self.addresses.append(given.get("src") or "")
        if tag == "link" and given.get("rel") != "canonical":
            self.addresses.append(given.get("href") or "")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the site, built without a warning."""
    folder = tmp_path_factory.mktemp("site")
    line = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(line, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.slow
def test_the_site_is_built_without_a_warning_and_fetches_nothing_from_elsewhere(site: Path) -> None:
    built = sorted(site.rglob("*.html"))
    assert len(built) > 100
    for page in built:
        fetched = Fetched()
        fetched.feed(page.read_text(encoding="utf-8"))
        for address in fetched.addresses:
            assert not address.startswith(("http:", "https:", "//")), page
            assert page.name == "404.html" or not address or (page.parent / address.partition("?")[0]).exists(), page


@pytest.mark.slow
@pytest.mark.skipif(PROGRAM is None, reason="needs Chromium")
def test_the_search_finds_pages_that_are_opened_from_the_disk(site: Path, tmp_path: Path) -> None:
    with browser(tmp_path) as page:
        page.look(1280)
        page.open((site / "docs" / "start.html").as_uri())
        page.run("document.querySelector('label.md-search__icon').click()")
        page.run(
            "const asked = document.querySelector('.md-search__input'); asked.value = 'microphone';"
            "asked.focus(); asked.dispatchEvent(new Event('keyup'))"
        )
        found = "[...document.querySelectorAll('a.md-search-result__link')].map(one => one.href)"
        page.wait(f"{found}.length")
        addresses = page.run(found)
        assert f"{site.as_uri()}/docs/live.html" in addresses  # and not the Chinese copy of a page in English


def test_the_navigation_names_each_page_once() -> None:
    named = re.findall(r"^ +- .*: (\S+\.md)$", (ROOT / "mkdocs.yml").read_text(encoding="utf-8"), re.MULTILINE)
    assert len(named) == len(set(named)) > 30
