"""The rooms of docs/design.md, held to: who imports whom, how long and how many things are, what an import loads."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import soundbench
from soundbench.contracts import KINDS

ROOT = Path(__file__).parents[2]
CORE = ROOT / "soundbench"
BUILTINS = ROOT / "plugins" / "soundbench_plugins"
OPEN = {"contracts", "errors", "audio", "chance", "masks", "terminal", "files", "limits", "sources"}
# They stand above all rooms, and nothing imports them: the face, and `python -m soundbench`.
ABOVE = {"soundbench", "soundbench.__main__"}
# The faces of the built-in components, such as `soundbench.backbones`; they stand there too.
FACES = {"losses" if kind == "loss" else f"{kind}s" for kind in KINDS} - {"importers", "exporters"}
ABOVE |= {f"soundbench.{face}" for face in FACES}
FILES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(CORE.rglob("*.py"))
}


def tiers() -> dict[str, int]:
    """The rooms of the one line of the design that orders them, each with its place."""
    text = (ROOT / "docs" / "design.md").read_text(encoding="utf-8")
    (line,) = [line for line in text.splitlines() if line.startswith("    ground < ")]
    return {room.strip(): place for place, tier in enumerate(line.split("<")) for room in tier.split(",")}


def room(module: str) -> str:
    inside = module.split(".")[1:2]
    return inside[0] if inside and (CORE / inside[0]).is_dir() else "ground"


def imports(path: Path, package: str) -> Iterator[str]:
    """The modules of a package that a file imports when it runs, wherever in the file it says so."""
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
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == package:
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                yield whole if whole in FILES else str(node.module)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.split(".")[0] == package)


@cache
def graph() -> Mapping[str, frozenset[str]]:
    """Of each file of the core, those that it imports."""
    return {name: frozenset(imports(path, "soundbench")) - {name} for name, path in FILES.items()}


def test_every_room_is_in_the_line_and_every_name_in_the_line_is_a_room() -> None:
    assert {room(name) for name in FILES} == set(tiers())
    line = "    ground < "
    design, contributing = (
        [one for one in (ROOT / page).read_text(encoding="utf-8").splitlines() if one.startswith(line)]
        for page in ("docs/design.md", "CONTRIBUTING.md")
    )
    assert contributing == design


@pytest.mark.parametrize("name", [name for name in FILES if name not in ABOVE])
def test_a_file_imports_rooms_before_its_own_and_no_sibling(name: str) -> None:
    order, own = tiers(), room(name)
    others = {other for other in graph()[name] if room(other) != own}
    assert not {other for other in others if order[room(other)] >= order[own]}
    assert not graph()[name] & ABOVE


def test_no_file_imports_in_a_circle() -> None:
    TopologicalSorter(graph()).prepare()  # raises where there is one, and names it


def test_there_are_at_most_ten_floors() -> None:
    """A room stands above all that it imports; a file of the ground is a room of its own."""
    floors: dict[str, int] = {}
    places = {name: name if room(name) == "ground" else room(name) for name in FILES}
    below: dict[str, set[str]] = {place: set() for place in places.values()}
    for name, found in graph().items():
        below[places[name]] |= {places[other] for other in found} - {places[name]}
    for place in TopologicalSorter(below).static_order():
        floors[place] = 1 + max((floors[other] for other in below[place]), default=0)
    assert max(floors.values()) <= 10, floors


@pytest.mark.parametrize(
    "folder",
    ["", "recipe", "audio", "data", "model", "report", "training", "studies", "inference", "serving", "doctor"],
)
def test_a_room_has_a_dozen_files_at_most(folder: str) -> None:
    outside = {"__init__", "__main__", *FACES}
    assert len([path for path in (CORE / folder).glob("*.py") if path.stem not in outside]) <= 12


def test_the_core_and_its_tests_import_no_built_in() -> None:
    tests = [path for path in (ROOT / "tests").rglob("*.py") if path.parent.name != "plugins"]
    assert not [str(path) for path in [*FILES.values(), *tests] if list(imports(path, "soundbench_plugins"))]


def test_no_test_imports_another() -> None:
    names = {path.stem for path in (ROOT / "tests").rglob("test_*.py")}
    wrong = [(str(path), name) for path in (ROOT / "tests").rglob("*.py") for name in names if _names(path, name)]
    assert not wrong


def _names(path: Path, module: str) -> bool:
    text = path.read_text(encoding="utf-8")
    return f"from {module} import" in text or f"import {module}\n" in text


@pytest.mark.parametrize("path", sorted(BUILTINS.rglob("*.py")), ids=lambda path: str(path.relative_to(BUILTINS)))
def test_a_built_in_imports_what_is_open_to_any_plugin(path: Path) -> None:
    opened = {name.removeprefix("soundbench").lstrip(".").split(".")[0] for name in imports(path, "soundbench")}
    assert opened <= OPEN
    assert {name.split(".")[1] for name in imports(path, "soundbench_plugins")} <= {"layers"}


def test_torch_stays_out_of_the_rooms_that_do_not_know_it() -> None:
    known = {"soundbench.distributed", "soundbench.masks", "soundbench.__main__"}
    names = [
        name for name in FILES if room(name) in {"ground", "recipe", "audio", "report", "studies"} and name not in known
    ]
    assert len(names) > 40
    code = f"import sys\nfor name in {names}: __import__(name)\nprint('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"


def test_a_bare_import_loads_neither_torch_nor_numpy() -> None:
    code = "import sys, soundbench; print(sorted({'torch', 'numpy', 'ignite', 'attrs', 'click'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_the_public_face_is_small_and_every_name_of_it_is_there() -> None:
    assert len(set(soundbench.__all__) - FACES) <= 26
    for name in soundbench.__all__:
        assert getattr(soundbench, name) is not None
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        soundbench.nothing  # noqa: B018


def test_no_module_outgrows_a_reader() -> None:
    lengths = {
        str(path.relative_to(ROOT)): len(path.read_text().splitlines())
        for path in [*CORE.rglob("*.py"), *BUILTINS.rglob("*.py"), *(ROOT / "tests" / "helpers").glob("*.py")]
    }
    contracts = lengths.pop("soundbench/contracts.py")  # the one file that a plugin's author reads, most of it prose
    assert contracts <= 600
    assert not {name: length for name, length in lengths.items() if length > 400}
