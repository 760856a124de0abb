"""Components from Python: the faces of the built-in ones, `create`, `list_components`, and what a mistake gets."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from importlib import import_module
from pathlib import Path

import pytest
import torch

import soundbench
from soundbench.contracts import KINDS
from soundbench.errors import CallError, RecipeError, UnknownPlugin
from soundbench.recipe.registry import Registry

ROOT = Path(__file__).parents[2]
ENTRIES = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["entry-points"]
FACES = {kind: "losses" if kind == "loss" else f"{kind}s" for kind in KINDS if kind not in ("importer", "exporter")}


def typed(face: str) -> set[str]:
    """What a type checker sees in a face, as `module:name`."""
    tree = ast.parse((ROOT / "soundbench" / f"{face}.py").read_text(encoding="utf-8"))
    (block,) = [node for node in tree.body if isinstance(node, ast.If)]
    return {
        f"{line.module}:{alias.name}"
        for line in block.body
        if isinstance(line, ast.ImportFrom)
        for alias in line.names
        if alias.asname is None
    }


@pytest.mark.parametrize("kind", FACES)
def test_a_face_has_every_built_in_of_its_kind_for_programs_and_for_type_checkers(kind: str) -> None:
    declared = ENTRIES[f"soundbench.{kind}"]
    face = import_module(f"soundbench.{FACES[kind]}")
    assert typed(FACES[kind]) == set(declared.values())
    assert sorted(face.__all__) == dir(face) == sorted(value.partition(":")[2] for value in declared.values())
    registry = Registry()
    for name, value in declared.items():
        found = getattr(face, value.partition(":")[2])
        assert found is registry.get(kind, name).obj
        assert registry.get(kind, found).name == name  # a recipe may name the class itself
    assert getattr(soundbench, FACES[kind]) is face


def test_a_name_that_is_not_there_is_answered_with_the_nearest() -> None:
    with pytest.raises(AttributeError, match=r"has no attribute 'CamPlus'; did you mean \"CAMPPlus\"\?"):
        soundbench.backbones.CamPlus  # noqa: B018
    with pytest.raises(AttributeError, match=r"has no attribute 'Recpie'; did you mean \"Recipe\"\?"):
        soundbench.Recpie  # noqa: B018
    with pytest.raises(ImportError, match="cannot import name 'Nothing'"):
        exec("from soundbench.losses import Nothing")


def test_faces_and_names_are_there_without_torch() -> None:
    code = (
        "import sys, soundbench\n"
        f"for face in {list(FACES.values())}: dir(getattr(soundbench, face))\n"
        "soundbench.list_components('backbone')\n"
        "print(sorted({'torch', 'numpy', 'soundbench_plugins'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_names_of_a_kind_are_those_of_the_entry_points() -> None:
    assert set(soundbench.list_components("pooling")) >= set(ENTRIES["soundbench.pooling"])
    with pytest.raises(CallError, match='there is no kind "poling"; did you mean "pooling"'):
        soundbench.list_components("poling")


def test_create_makes_what_the_constructor_makes() -> None:
    torch.manual_seed(0)
    by_name = soundbench.create("backbone", "tdnn", bands=40, channels=32)
    torch.manual_seed(0)
    by_class = soundbench.backbones.TDNN(40, channels=32)
    assert type(by_name) is type(by_class)
    pairs = zip(by_name.state_dict().items(), by_class.state_dict().items(), strict=True)
    assert all(one == other and torch.equal(left, right) for (one, left), (other, right) in pairs)
    assert soundbench.create("dataset", "tones", clips=20).count == 20
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = soundbench.create("optimizer", soundbench.optimizers.adamw, groups=[{"params": [parameter]}], lr=0.5)
    assert optimizer.param_groups[0]["lr"] == 0.5


def test_all_mistakes_of_create_are_reported_together() -> None:
    with pytest.raises(RecipeError) as caught:
        soundbench.create("backbone", "tdnn", chanels=32)
    first, second = caught.value.lines
    assert first == "create: backbone.bands: is missing; a backbone needs bands"
    assert second.startswith('create: backbone.chanels: unknown key; did you mean "channels"? known: ')
    with pytest.raises(RecipeError, match=r"^create: backbone.channels: must be an integer, is \"wide\"$"):
        soundbench.create("backbone", "tdnn", bands=40, channels="wide")
    with pytest.raises(RecipeError, match=r"^create: augmentation.rate: is missing; an augmentation needs rate$"):
        soundbench.create("augmentation", "gain")
    with pytest.raises(RecipeError, match=r"^create: dataset.clips: must be at least 10, one of each class, is 3$"):
        soundbench.create("dataset", "tones", clips=3)
    with pytest.raises(UnknownPlugin, match='there is no backbone "tdn"; did you mean "tdnn"'):
        soundbench.create("backbone", "tdn", bands=40)
    with pytest.raises(CallError, match='there is no kind "None"; known: dataset'):
        soundbench.create(None, "campplus")
    with pytest.raises(CallError, match='there is no kind "bakbone"; did you mean "backbone"'):
        soundbench.create("bakbone", "tdnn", bands=40)


def test_a_network_is_one_line() -> None:
    featurizer = soundbench.featurizers.Fbank(16000)
    pooling = soundbench.poolings.TAP(featurizer.bands)
    head = torch.nn.Linear(featurizer.bands, 3)
    network = soundbench.Network(featurizer, soundbench.backbones.Identity(featurizer.bands), pooling, head)
    assert repr(network) == "Network(Fbank, Identity, TAP, Linear: 243 parameters)"  # 80 x 3 and 3
