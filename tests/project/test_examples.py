"""The example of a plugin keeps to what its page, and the contract of backbones, promise."""

from __future__ import annotations

import importlib.util
import re
import runpy
import sys
import tomllib
from importlib.metadata import EntryPoints
from pathlib import Path
from types import ModuleType

import attrs
import pytest
import torch
from helpers.entry_points import fake, toy_registry

from soundbench import masks
from soundbench.contracts import KINDS, Batch, Hooks, Program, RunInfo
from soundbench.recipe.new_plugin.package import package_of
from soundbench.recipe.registry import Component
from soundbench.testing import check_component

ROOT = Path(__file__).parents[2]
TINY = ROOT / "docs" / "examples" / "soundbench-tiny"


@pytest.fixture(scope="module")
def module() -> ModuleType:
    spec = importlib.util.spec_from_file_location("soundbench_tiny", TINY / "soundbench_tiny.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def tiny(module: ModuleType, monkeypatch: pytest.MonkeyPatch) -> Component:
    """The component, found through the entry point that its pyproject.toml declares."""
    monkeypatch.setitem(sys.modules, "soundbench_tiny", module)
    project = tomllib.loads((TINY / "pyproject.toml").read_text())["project"]
    ((group, entries),) = project["entry-points"].items()
    ((name, value),) = entries.items()
    kind = group.removeprefix("soundbench.")
    return toy_registry(fake(kind, name, value, project["name"], project["version"])).get(kind, name)


def test_the_example_is_found_and_its_options_are_checked(tiny: Component) -> None:
    assert (tiny.kind, tiny.name, tiny.distribution) == ("backbone", "tiny", "soundbench-tiny")
    assert {field.name: field.default for field in attrs.fields(tiny.options)} == {"width": 96, "layers": 3}
    with pytest.raises(ValueError, match="width must be at least 1, is 0"):
        tiny.obj(80, width=0)


@pytest.mark.parametrize("bands", [16, 80])
@pytest.mark.parametrize("frames", [1, 2, 3, 98])
def test_any_input_gives_honest_lengths_and_every_parameter_a_gradient(
    tiny: Component, bands: int, frames: int
) -> None:
    network = tiny.obj(bands)
    lengths = torch.tensor([frames, max(1, frames - 1)])
    out, out_lengths = network(torch.randn(2, bands, frames), lengths)
    assert out.shape == (2, network.channels, -(-frames // 2))
    assert out_lengths.tolist() == [-(-length // 2) for length in lengths.tolist()]
    out.square().sum().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


def test_a_row_does_not_depend_on_its_padding_or_its_company(tiny: Component) -> None:
    torch.manual_seed(0)
    network = tiny.obj(16).eval()
    for norm in network.norms:
        norm.bias.data.normal_()
    rows = [torch.randn(16, frames) for frames in (1, 2, 17, 30)]
    padded = torch.full((4, 16, 40), 7.0)
    for number, row in enumerate(rows):
        padded[number, :, : row.shape[1]] = row
    lengths = torch.tensor([row.shape[1] for row in rows])
    together, out_lengths = network(padded, lengths)
    for number, row in enumerate(rows):
        alone, _ = network(row[None], lengths[number : number + 1])
        torch.testing.assert_close(together[number, :, : out_lengths[number]], alone[0], rtol=1e-5, atol=1e-5)
        assert not together[number, :, out_lengths[number] :].any()


def test_the_example_proves_its_contract(module: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    entries = [fake("pooling", "tap", "helpers.toys:ToyPooling"), fake("backbone", "tiny", "soundbench_tiny:Tiny")]
    monkeypatch.setattr("soundbench.recipe.registry.entry_points", lambda: EntryPoints(entries))
    monkeypatch.setitem(sys.modules, "soundbench_tiny", module)
    runpy.run_path(str(TINY / "test_soundbench_tiny.py"))["test_the_contract"]()
    check_component("backbone", module.Tiny, thorough=True)


def test_the_pages_show_the_files_as_they_are() -> None:
    source = (TINY / "soundbench_tiny.py").read_text()
    page = (ROOT / "docs" / "plugins.md").read_text()
    python = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    assert source in python
    assert (TINY / "test_soundbench_tiny.py").read_text() in python
    shown = re.findall(r"```toml[^\n]*\n(.*?)```", page + (TINY / "README.md").read_text(), re.DOTALL)
    assert (TINY / "pyproject.toml").read_text() in shown
    entry = '[project.entry-points."soundbench.backbone"]\ntiny = "soundbench_tiny:Tiny"\n'
    assert entry in shown


def test_the_page_names_what_each_kind_is_given() -> None:
    page = (ROOT / "docs" / "plugins.md").read_text()
    for kind in KINDS.values():
        given = ", ".join(f"`{name}`" for name in kind.supplied) or "nothing"
        assert f"| `{kind.name}` | {given} |" in page


KINDS_PAGE = (ROOT / "docs" / "kinds.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("kind", KINDS)
def test_the_page_of_kinds_shows_what_new_plugin_writes(kind: str) -> None:
    section = re.split(r"^## ", KINDS_PAGE.partition(f"\n## {kind}\n")[2], flags=re.MULTILINE)[0]
    assert package_of(kind, "mine")["soundbench_mine.py"] in re.findall(r"```python\n(.*?)```", section, re.DOTALL)


def test_the_dataset_of_files_on_the_page_keeps_its_contract(tmp_path: Path) -> None:
    (block,) = [block for block in re.findall(r"```python\n(.*?)```", KINDS_PAGE, re.DOTALL) if "class Yard" in block]
    (tmp_path / "yard.py").write_text(block, encoding="utf-8")
    check_component("dataset", f"{tmp_path}/yard.py:Yard")


def test_the_page_of_kinds_names_all_that_a_component_is_given() -> None:
    hooks = [name for name in vars(Hooks) if not name.startswith("_")]
    fields = [field.name for cls in (Batch, RunInfo, Program) for field in attrs.fields(cls)]
    for name in (*hooks, *fields, *masks.__all__):
        assert re.search(rf"`(\w+\(.*?\), )*{name}\b", KINDS_PAGE), name
