"""`soundbench new-plugin`: a package of every kind that is well made, and one line for what cannot be one."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
import tomllib
from collections.abc import Callable
from importlib.metadata import EntryPoints
from pathlib import Path

import pytest
from helpers.entry_points import TOYS, fake, toy_registry

import soundbench
from soundbench.cli.main import invoke
from soundbench.contracts import KINDS
from soundbench.recipe.new_plugin.package import package_of, write_package
from soundbench.recipe.registry import Registry
from soundbench.testing import check_component

ROOT = Path(__file__).parents[2]
TINY = ROOT / "docs" / "examples" / "soundbench-tiny"

Call = Callable[..., tuple[int, str, str]]


@pytest.fixture
def call(only_toys: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    """Calls `new-plugin` in an empty folder, where nothing but the toys is installed."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str) -> tuple[int, str, str]:
        code = invoke(["new-plugin", *arguments])
        return code, *capsys.readouterr()

    return call


def contents(folder: Path) -> dict[str, bytes]:
    files = {path.relative_to(folder): path for path in folder.rglob("*") if path.is_file()}
    own = [path for path in files if "cache" not in path.parts[0] and path.parts[0] != "runs"]  # of tools, and of a try
    return {path.as_posix(): files[path].read_bytes() for path in own}


@pytest.mark.parametrize("name", ["tiny", "soundbench-tiny"])
def test_the_example_is_what_it_writes_byte_for_byte(call: Call, tmp_path: Path, name: str) -> None:
    code, out, err = call("backbone", name)
    assert (code, out) == (0, f"{name}\n")
    assert err == f"next: cd {name} && pip install -e . pytest && pytest && soundbench run tiny.toml\n"
    assert contents(tmp_path / name) == contents(TINY)


def test_an_empty_folder_is_written_into(call: Call, tmp_path: Path) -> None:
    (tmp_path / "tiny").mkdir()
    assert call("backbone", "tiny")[0] == 0
    assert contents(tmp_path / "tiny") == contents(TINY)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_has_all_that_a_distribution_needs(kind: str, tmp_path: Path) -> None:
    folder = write_package(kind, "odd-one", toy_registry(), tmp_path)
    assert folder == tmp_path / "odd-one"
    files = {path: text.decode() for path, text in contents(folder).items()}
    assert set(files) == {
        *("soundbench_odd_one.py", "test_soundbench_odd_one.py", "odd-one.toml", "pyproject.toml", "README.md"),
        *("LICENSE", ".github/workflows/test.yml"),
    }
    project = tomllib.loads(files["pyproject.toml"])["project"]
    assert project["name"] == "soundbench-odd-one"
    assert project["dependencies"] == [f"soundbench>={soundbench.API_VERSION}"]
    assert files["LICENSE"] == (ROOT / "LICENSE").read_text()
    ((group, entries),) = project["entry-points"].items()
    module, _, name = entries["odd-one"].partition(":")
    assert (group, module) == (f"soundbench.{kind}", "soundbench_odd_one")
    assert name in {getattr(node, "name", "") for node in ast.parse(files["soundbench_odd_one.py"]).body}
    assert f'check_component("{kind}", "odd-one")' in files["test_soundbench_odd_one.py"]
    assert "${" not in "".join(files.values())


def test_every_kind_is_formatted_and_passes_the_linter_with_the_rules_of_the_project(tmp_path: Path) -> None:
    for kind in KINDS:
        for name in ("a", f"odd-{kind}-{'x' * 40}"[:40]):
            write_package(kind, name, toy_registry(), tmp_path / kind)
    rules = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["ruff"]["lint"]
    chosen = ["--select", ",".join(rules["select"]), "--ignore", ",".join(rules["ignore"])]
    for arguments in (["check", *chosen], ["format", "--check"]):
        ruff = [sys.executable, "-m", "ruff", *arguments, "--no-cache", str(tmp_path)]
        done = subprocess.run(ruff, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout


# The rest of the kinds, and their recipes, are tried in tests/plugins/test_new_plugins.py.
@pytest.mark.parametrize("kind", ["augmentation", "backbone", "loss", "scheduler", "observer", "importer"])
def test_it_keeps_its_contract(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = f"contract-{kind}"
    folder = write_package(kind, name, toy_registry(), tmp_path)
    monkeypatch.syspath_prepend(folder)
    ((_, entries),) = tomllib.loads((folder / "pyproject.toml").read_text())["project"]["entry-points"].items()
    installed = [*(fake(*toy) for toy in TOYS), fake(kind, name, entries[name], "strangers"), fake(*TAP)]
    monkeypatch.setattr("soundbench.recipe.registry.entry_points", lambda: EntryPoints(installed))
    importlib.import_module(f"test_{entries[name].partition(':')[0]}").test_the_contract()


TAP = ("pooling", "tap", "helpers.toys:ToyPooling")  # that of the new backbone


def test_a_component_without_its_promise_is_found_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The test of a new package fails where the component is broken."""
    folder = write_package("loss", "wrong-loss", toy_registry(), tmp_path)
    path = folder / "soundbench_wrong_loss.py"
    path.write_text(path.read_text().replace("logits.softmax(1)", "logits"))
    monkeypatch.syspath_prepend(folder)
    module = importlib.import_module("soundbench_wrong_loss")
    with pytest.raises(AssertionError, match=r"scores are from .* \(allowed 0 to 1\)"):
        check_component("loss", module.WrongLoss)


@pytest.mark.parametrize(
    ("kind", "name", "own"),
    [
        ("backbone", "none", "NoneBackbone"),  # a keyword
        ("pooling", "tensor", "TensorPooling"),  # imported by the module
        ("optimizer", "lambda", "lambda_optimizer"),
        ("optimizer", "torch", "torch_optimizer"),
        ("importer", "test", "importer_test"),  # pytest would call `test` and miss the fixture `path`
        ("backbone", "my-net2", "MyNet2"),
    ],
)
def test_a_name_that_python_cannot_take_gets_its_kind(kind: str, name: str, own: str) -> None:
    files = package_of(kind, name)
    module = f"soundbench_{name.replace('-', '_')}"
    assert f'{name} = "{module}:{own}"\n' in files["pyproject.toml"]
    assert own in {getattr(node, "name", "") for node in ast.parse(files[f"{module}.py"]).body}


# -- bad input -----------------------------------------------------------------------------------------------------


def test_a_kind_that_is_none_is_told_with_the_nearest(call: Call) -> None:
    known = ", ".join(KINDS)
    assert call("backbon", "x") == (2, "", f'there is no kind "backbon"; did you mean "backbone"? known: {known}\n')


def test_a_name_that_is_taken_is_refused_with_its_owner(call: Call, tmp_path: Path) -> None:
    told = 'there is a backbone "conv" already, of toys 1.0; choose another name\n'
    assert call("backbone", "conv") == (2, "", told)
    assert call("backbone", "soundbench-conv") == (2, "", told)
    assert call("augmentation", "drop")[2].startswith('there is an augmentation "drop" already')
    assert call("pooling", "conv")[0] == 0  # a name is one of its kind


def test_a_module_that_exists_is_not_hidden(call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "libraries").mkdir()
    (tmp_path / "libraries" / "soundbench_taken.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path / "libraries")
    told = 'there is a module "soundbench_taken" already; choose another name than "taken"\n'
    assert call("backbone", "taken") == (2, "", told)


@pytest.mark.parametrize(
    "name", ["Tiny", "2tiny", "ti_ny", "tiny-", "-tiny", "../tiny", "a/b", "", "tiny.net", "ünny", "a" * 41, "a\nb"]
)
def test_a_name_that_is_none_is_refused_with_the_rule(call: Call, tmp_path: Path, name: str) -> None:
    code, out, err = call("backbone", "--", name)
    assert (code, out, err.count("\n")) == (2, "", 1)
    rule = "must be lower-case letters, digits and single hyphens, a letter first, at most 40 in all, such as my-net"
    assert err.endswith(f"cannot be the name of a plugin: it {rule}\n")
    assert not list(tmp_path.iterdir())


def test_a_name_whose_recipe_would_be_another_file_is_refused(call: Call, tmp_path: Path) -> None:
    told = '"pyproject" cannot be the name of a plugin: its recipe would be the file pyproject.toml\n'
    assert call("backbone", "pyproject") == (2, "", told)
    told = '"com1" cannot be the name of a plugin: Windows has no files of that name\n'
    assert call("backbone", "com1") == (2, "", told)
    assert not list(tmp_path.iterdir())


def test_what_is_there_is_never_overwritten(call: Call, tmp_path: Path) -> None:
    told = "tiny: there is such a folder or file already, and it is not an empty folder\n"
    (tmp_path / "tiny").mkdir()
    (tmp_path / "tiny" / ".hidden").write_text("mine")
    assert call("backbone", "tiny") == (2, "", told)
    assert contents(tmp_path / "tiny") == {".hidden": b"mine"}
    (tmp_path / "file").write_text("mine")
    assert call("backbone", "file") == (2, "", told.replace("tiny", "file"))
    (tmp_path / "link").symlink_to("nowhere")
    assert call("backbone", "link") == (2, "", told.replace("tiny", "link"))


def test_all_installed_names_of_a_kind_are_taken() -> None:
    """Those of the built-in components are too, whatever they are."""
    for item in Registry().listings("scheduler"):
        with pytest.raises(soundbench.SoundbenchError, match="already, of soundbench"):
            write_package("scheduler", item.name)
