"""A model of another program becomes a model folder: whole, or not at all."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tomli
import torch
from helpers.entry_points import TOYS, fake, toy_registry
from helpers.toys import ToyBackbone
from safetensors.torch import load_file
from torch import Tensor

import soundbench
from soundbench import recipe as recipes
from soundbench.cli import main as cli
from soundbench.errors import BrokenPlugin, CallError, RecipeError, RunError, RunPlaceError, UnknownPlugin
from soundbench.model import assembly
from soundbench.model.folder import read_model_tables
from soundbench.model.importing import import_model
from soundbench.recipe.registry import Component, Registry

TABLES = {
    "classes": ["low", "high"],
    "audio": {"rate": 8000, "window": 1.0},
    "featurizer": "spectra",
    "backbone": {"use": "conv", "channels": 4},
    "pooling": "mean",
    "head": {"embedding": 8},
    "loss": "entropy",
}
Save = Callable[..., Path]


class Filters(ToyBackbone):
    """A backbone with a constant of its own."""

    filters: Tensor

    def __init__(self, bands: int, *, channels: int = 16) -> None:
        super().__init__(bands, channels=channels)
        self.register_buffer("filters", torch.eye(3), persistent=False)


@pytest.fixture
def save(tmp_path: Path) -> Save:
    """Writes a third-party model: the toy network with other weights, some of them changed."""

    def save(**changes: Tensor | None) -> Path:
        model = recipes.read_model(TABLES, registry=toy_registry())
        torch.manual_seed(7)
        network, _ = assembly.make_network(model, "")
        tensors = {f"net.{name}": tensor for name, tensor in network.state_dict().items()}
        for name, tensor in changes.items():
            tensors.pop(name.replace("__", "."), None)
            if tensor is not None:
                tensors[name.replace("__", ".")] = tensor
        torch.save(tensors, tmp_path / "stranger.pt")
        return tmp_path / "stranger.pt"

    return save


def test_the_folder_holds_every_tensor_and_every_default(save: Save, tmp_path: Path) -> None:
    path = save()
    done = import_model("stranger", path, tmp_path / "out", registry=toy_registry())
    assert (done.folder, done.classes, list(done.notes)) == (tmp_path / "out", 2, ["nothing was left out"])
    assert sorted(item.name for item in done.folder.iterdir()) == [
        "digests.json",
        "model.toml",
        "weights.safetensors",
    ]
    tables = read_model_tables(done.folder)
    assert tables["classes"] == ["low", "high"]
    assert tables["multilabel"] is False
    assert tables["backbone"] == {"use": "conv", "channels": 4, "dropout": 0.2}
    assert tables["pooling"] == {"use": "mean"}
    assert tables["head"]["embedding"] == 8
    assert tables["audio"]["level"] == "off"
    given = torch.load(path, weights_only=True)
    kept = load_file(done.folder / "weights.safetensors")
    assert {f"net.{name}" for name in kept} == set(given)
    assert all(torch.equal(kept[name], given[f"net.{name}"]) for name in kept)
    learnt = sum(tensor.numel() for name, tensor in kept.items() if "running" not in name and "num_" not in name)
    assert done.parameters == learnt


def test_load_scores_with_it(save: Save, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("soundbench.recipe.resolving.Registry", toy_registry)
    monkeypatch.setattr("soundbench.model.importing.Registry", toy_registry)
    path = save()
    import_model("stranger", path, tmp_path / "out")
    sound = np.random.default_rng(0).standard_normal(5000).astype(np.float32) * 0.1
    scores = soundbench.load(tmp_path / "out", device="cpu").predict(sound, rate=8000).scores
    network, loss = assembly.make_network(recipes.read_model(TABLES), "")
    given = {name.removeprefix("net."): tensor for name, tensor in torch.load(path, weights_only=True).items()}
    network.load_state_dict(given)
    wave = torch.from_numpy(sound)[None]
    with torch.no_grad():
        wanted = loss.scores(network.eval()(wave, torch.tensor([5000])))[0]
    assert [scores["low"], scores["high"]] == pytest.approx(wanted.tolist(), abs=1e-4)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"net__backbone__conv__weight": None}, "1 missing: backbone.conv.weight"),
        ({"net__other": torch.zeros(2)}, "1 left over: other"),
        (
            {"net__head__classify__bias": torch.zeros(3)},
            r"1 of another shape: head.classify.bias has the shape \(3,\), not \(2,\)",
        ),
        ({"net__head__classify__bias": torch.tensor([0.0, torch.nan])}, "NaN or infinity in head.classify.bias"),
        (
            {f"net__x{number}": torch.zeros(1) for number in range(11)},
            "11 left over: x0, x1, x2, x3, x4, x5, x6, x7 and 3 more",
        ),
    ],
)
def test_tensors_that_are_not_the_networks_are_named_and_nothing_is_written(
    save: Save, tmp_path: Path, changes: dict[str, Tensor | None], message: str
) -> None:
    with pytest.raises(RunError, match=message):
        import_model("stranger", save(**changes), tmp_path / "out", registry=toy_registry())
    assert not (tmp_path / "out").exists()


def test_the_count_of_batch_norms_steps_may_be_missing(save: Save, tmp_path: Path) -> None:
    path = save(net__backbone__norm__num_batches_tracked=None)
    assert import_model("stranger", path, tmp_path / "out", registry=toy_registry()).classes == 2


def test_a_convolution_over_one_frame_is_a_matrix(save: Save, tmp_path: Path) -> None:
    matrix = torch.arange(16.0).reshape(2, 8)
    path = save(net__head__classify__weight=matrix[:, :, None])
    done = import_model("stranger", path, tmp_path / "out", registry=toy_registry())
    assert torch.equal(load_file(done.folder / "weights.safetensors")["head.classify.weight"], matrix)
    with pytest.raises(RunError, match="1 of another shape"):
        import_model("stranger", save(net__head__classify__weight=matrix.t()), tmp_path / "x", registry=toy_registry())


def test_constants_are_compared_with_the_networks_own(save: Save, tmp_path: Path) -> None:
    registry = Registry([fake(*entry) for entry in _with_filters()])
    near = save(backbone__filters=torch.eye(3) * (1 + 1e-6))
    import_model("stranger", near, tmp_path / "near", registry=registry)
    for changed, message in [
        (torch.eye(3) * 1.01, "backbone.filters differs from the network's by 0.01 of its largest value"),
        (torch.eye(4), r"backbone.filters has the shape \(4, 4\), the network's is \(3, 3\)"),
    ]:
        with pytest.raises(RunError, match=message):
            import_model("stranger", save(backbone__filters=changed), tmp_path / "far", registry=registry)
    with pytest.raises(RunError, match=r"the network has no constant backbone\.filters_b, which the model has"):
        import_model("stranger", save(backbone__filters_b=torch.eye(3)), tmp_path / "far", registry=registry)


def _with_filters() -> list[tuple[str, str, str]]:
    return [*(toy for toy in TOYS if toy[1] != "conv"), ("backbone", "conv", "test_importing:Filters")]


def test_options_are_checked_and_told_by_their_names(save: Save, tmp_path: Path) -> None:
    names = tmp_path / "labels.txt"
    names.write_text("dull bright")
    done = import_model("stranger", save(), tmp_path / "out", {"labels": names}, toy_registry())
    assert tomli.loads((done.folder / "model.toml").read_text())["classes"] == ["dull", "bright"]
    for options, message in [
        ({"spare": "one"}, 'import stranger: spare: must be an integer, is "one"'),
        ({"spare": -1}, "import stranger: spare: must be at least 0, is -1"),
        ({"label": names}, 'import stranger: label: unknown key; did you mean "labels"'),
    ]:
        with pytest.raises(RecipeError) as caught:
            import_model("stranger", save(), tmp_path / "other", options, toy_registry())
        assert str(caught.value).startswith(message)


def test_a_place_that_is_taken_is_refused(save: Save, tmp_path: Path) -> None:
    with pytest.raises(RunPlaceError, match="exists and is not empty; give another folder with --out"):
        import_model("stranger", save(), tmp_path, registry=toy_registry())


def test_what_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(CallError, match="no such file or folder"):
        import_model("stranger", tmp_path / "none", registry=toy_registry())
    with pytest.raises(UnknownPlugin, match='there is no importer "strange"; did you mean "stranger"'):
        import_model("strange", tmp_path, registry=toy_registry())


def test_an_importer_that_breaks_is_told_as_a_plugin(tmp_path: Path) -> None:
    (tmp_path / "broken.pt").write_bytes(b"\x80\x02X")
    with pytest.raises(BrokenPlugin, match="importer 'stranger' of toys raised"):
        import_model("stranger", tmp_path / "broken.pt", registry=toy_registry())


def test_the_command_has_the_importers_options(
    save: Save, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for place in (
        "soundbench.recipe.registry.Registry",
        "soundbench.model.importing.Registry",
        "soundbench.recipe.resolving.Registry",
    ):
        monkeypatch.setattr(place, toy_registry)
    monkeypatch.chdir(tmp_path)
    path = str(save())
    assert cli.invoke(["import", "--help"]) == 0
    assert "stranger  A network of toys, saved by `torch.save`" in capsys.readouterr().out
    assert cli.invoke(["import", "stranger", "--help"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "--labels PATH A file with a class name a line." in shown
    assert "--spare INTEGER Clips that nobody needs. Default: 0." in shown
    assert cli.invoke(["import", "stranger", path]) == 0
    out, err = capsys.readouterr()
    assert (err, out) == ("nothing was left out\n", f"imported/toy: 2 classes, {_learnt():,} parameters\n")
    assert cli.invoke(["import", "stranger", path, "--spare", "-2", "--out", "other"]) == 2
    assert capsys.readouterr().err == "import stranger: spare: must be at least 0, is -2\n"
    assert cli.invoke(["import", "stranger", path, "--spare", "x"]) == 2
    assert cli.invoke(["import", "nobody", path]) == 2


def _learnt() -> int:
    """Conv1d(32, 4, 3), batch norm of 4, an embedding of 8, two classes."""
    return 4 * 32 * 3 + 4 + 2 * 4 + 4 * 8 + 8 + 8 * 2 + 2


def test_an_importer_is_a_component_like_any_other() -> None:
    found = toy_registry().get("importer", "stranger")
    assert isinstance(found, Component)
    assert found.structure({}, "")[0] == {"prefix": "net.", "spare": 0}
