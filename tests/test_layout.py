"""The floors of docs/design.md, held to: who imports whom, how long things are, what a bare import loads."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import soundbench

ROOT = Path(__file__).parents[1]
CORE = ROOT / "soundbench"
BUILTINS = ROOT / "plugins" / "soundbench_plugins"
OPEN = {"contracts", "errors", "audio", "chance", "masks", "optional"}


def floors() -> dict[str, tuple[int, int]]:
    """Of each module or folder of the core, its floor and the number of its room, from the table of the design."""
    table = re.findall(r"^\| (\d) \| (.+?) \|", (ROOT / "docs" / "design.md").read_text(), re.MULTILINE)
    return {
        name.removesuffix(".py").removesuffix("/"): (int(floor), room)
        for room, (floor, names) in enumerate(table)
        for name in re.findall(r"`([^`]+)`", names)
    }


def rooms() -> Iterator[tuple[str, Path]]:
    for path in sorted(CORE.rglob("*.py")):
        yield path.relative_to(CORE).parts[0].removesuffix(".py"), path


def imports(path: Path, package: str) -> Iterator[str]:
    """The first part below `package` of every import in a file that is executed, wherever in the file it stands."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    ignored = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if id(node) in ignored:
            continue
        if isinstance(node, ast.ImportFrom):
            parts = (node.module or "").split(".")
            if parts[0] == package:
                yield from [parts[1]] if len(parts) > 1 else [alias.name for alias in node.names]
        elif isinstance(node, ast.Import):
            for alias in node.names:
                parts = alias.name.split(".")
                if parts[0] == package:
                    yield parts[1] if len(parts) > 1 else ""


def test_every_module_has_a_floor_and_every_floor_its_modules() -> None:
    there = {room for room, _ in rooms()} - {"__init__"}
    assert there == set(floors())


@pytest.mark.parametrize(
    ("room", "path"), [pytest.param(room, path, id=str(path.relative_to(CORE))) for room, path in rooms()]
)
def test_a_module_imports_only_from_floors_below(room: str, path: Path) -> None:
    table = floors()
    if room == "__init__":
        assert not list(imports(path, "soundbench"))
        return
    own = table[room]
    names = {name for name in imports(path, "soundbench") if name and not name.startswith("__version")}
    wrong = {name: table[name] for name in names if table[name][0] >= own[0] and table[name][1] != own[1]}
    assert not wrong, f"{room} on floor {own[0]} imports {wrong}"


def test_the_core_and_its_tests_import_no_built_in() -> None:
    files = [*(path for _, path in rooms()), *(ROOT / "tests").glob("*.py"), *(ROOT / "tests" / "cli").glob("*.py")]
    assert not [str(path) for path in files if list(imports(path, "soundbench_plugins"))]


@pytest.mark.parametrize("path", sorted(BUILTINS.rglob("*.py")), ids=lambda path: str(path.relative_to(BUILTINS)))
def test_a_built_in_imports_what_is_open_to_any_plugin(path: Path) -> None:
    assert set(imports(path, "soundbench")) <= OPEN
    assert set(imports(path, "soundbench_plugins")) <= {"layers"}


def test_torch_stays_out_of_the_rooms_that_say_so() -> None:
    table = re.findall(r"^\| \d \| (.+?) \| .*No torch", (ROOT / "docs" / "design.md").read_text(), re.MULTILINE)
    names = [name.removesuffix(".py").removesuffix("/") for row in table for name in re.findall(r"`([^`]+)`", row)]
    assert len(names) > 8
    code = f"import sys\nfor name in {names}: __import__('soundbench.' + name)\nprint('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"


def test_a_bare_import_loads_neither_torch_nor_numpy() -> None:
    code = "import sys, soundbench; print(sorted({'torch', 'numpy', 'ignite', 'attrs', 'click'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_the_public_face_is_small_and_every_name_of_it_is_there() -> None:
    assert len(soundbench.__all__) <= 20
    for name in soundbench.__all__:
        assert getattr(soundbench, name) is not None
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        soundbench.nothing  # noqa: B018


def test_no_module_outgrows_a_reader() -> None:
    lengths = {
        str(path.relative_to(ROOT)): len(path.read_text().splitlines())
        for path in [*CORE.rglob("*.py"), *BUILTINS.rglob("*.py")]
    }
    assert not {name: length for name, length in lengths.items() if length > 400}


@pytest.mark.parametrize(
    "line",
    [
        ["-m", "ruff", "check", "."],
        ["-m", "ruff", "format", "--check", "."],
    ],
    ids=["lint", "format"],
)
def test_ruff_is_clean(line: list[str]) -> None:
    done = subprocess.run([sys.executable, *line], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_type_checker_is_clean() -> None:
    done = subprocess.run([sys.executable, "-m", "mypy"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
