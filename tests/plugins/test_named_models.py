"""An installed model by its name, in every command and call that takes a run: the same answers as by its folder."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from helpers.model_packages import install
from helpers.served import Server
from safetensors.torch import load_file

import soundbench
from soundbench import Recipe
from soundbench.cli.main import invoke
from soundbench.data import digests
from soundbench.errors import RecipeError, RunError
from soundbench.model import folder as model_folder
from soundbench.model.assembly import assemble
from soundbench.model.weights import initialize
from soundbench.recipe import model_tables

SMALL = {"use": "campplus", "growth": 4, "width": 8, "front": 2, "layers": [1]}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder of an untrained network."""
    recipe = Recipe(dataset="tones", backbone=SMALL)
    made = assemble(recipe)
    folder = tmp_path_factory.mktemp("made") / "model"
    model_folder.save_model(folder, model_tables(recipe, made.dataset.classes), made.network)
    return folder


@pytest.fixture
def site(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The model, installed as `pitches`, and a folder to work in with two sounds."""
    made, work = tmp_path / "site", tmp_path / "work"
    work.mkdir()
    folder = install(made, "pitches")
    shutil.copytree(model, folder, dirs_exist_ok=True)
    for path in folder.rglob("*"):  # as of a package of the system
        path.chmod(0o444)
    folder.chmod(0o555)
    monkeypatch.syspath_prepend(made)
    monkeypatch.setenv("PYTHONPATH", str(made), prepend=":")
    monkeypatch.chdir(work)
    for name in ("a", "b"):
        sound = 0.1 * np.random.default_rng(ord(name)).standard_normal(20_000)
        soundfile.write(f"{name}.wav", sound, 16000)
    return folder


def printed(capsys: pytest.CaptureFixture[str], *arguments: object) -> list[Any]:
    """The JSON lines of a command."""
    code = invoke([*map(str, arguments)])
    out, err = capsys.readouterr()
    assert code == 0, err
    return [json.loads(line) for line in out.splitlines()]


def test_infer_and_stream_print_what_they_print_for_the_folder(site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words in (("a.wav", "b.wav", "--json"), ("--source", "a.wav", "--json")):
        command = "stream" if "--source" in words else "infer"
        named, by_path = (printed(capsys, command, run, *words) for run in ("pitches", site))
        scores = [[row["scores"] for row in rows if "scores" in row] for rows in (named, by_path)]
        assert scores[0] == scores[1] != []


def test_infer_and_embed_continue_with_the_folder_where_the_name_began(
    site: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for words in (("infer", "{}", "a.wav", "--out", "scores"), ("embed", "{}", "a.wav", "--out", "vectors")):
        for run in ("pitches", site):
            assert invoke([word.format(run) for word in words]) == 0
    assert "pitches" not in capsys.readouterr().err


def test_load_from_python(site: Path) -> None:
    np.testing.assert_array_equal(
        soundbench.load("pitches").predict_proba("a.wav"), soundbench.load(site).predict_proba("a.wav")
    )


def test_evaluate_needs_data_and_a_place_as_for_a_folder(site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("table.csv").write_text("path,label\na.wav,swell\nb.wav,decay\n")
    assert invoke(["evaluate", "pitches", "--dataset", "table.csv"]) == 2
    assert capsys.readouterr().err == "pitches: a model alone has no place for reports: give a folder with --out\n"
    assert invoke(["evaluate", "pitches", "--out", "report"]) == 2
    assert capsys.readouterr().err.startswith("pitches: a model alone has no test set: ")
    assert invoke(["evaluate", "pitches", "--dataset", "table.csv", "--out", "report", "--no-cache"]) == 0
    assert json.loads(Path("report/report.json").read_text())["clips"] == 2


def test_export_needs_a_place(site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["export", "pitches", "--to", "pt2"]) == 2
    assert capsys.readouterr().err == "pitches: a model folder has no place for exports: give a file with --out\n"


def test_training_begins_with_its_weights(site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = Recipe(dataset="tones", backbone=SMALL, init={"from": "pitches"})
    network = assemble(recipe).network
    said: list[str] = []
    initialize(recipe, network, soundbench.load("pitches").classes, said.append)
    wanted = load_file(site / "weights.safetensors")
    for name, tensor in network.state_dict().items():
        if name in wanted and not name.endswith("num_batches_tracked"):
            torch.testing.assert_close(tensor, wanted[name], rtol=0, atol=0)
    assert said
    assert Recipe(dataset="tones", backbone=SMALL, init={"from": "pitches"}).to_toml().count('from = "pitches"') == 1
    Path("pitches").mkdir()
    beside = Recipe(dataset="tones", backbone=SMALL, init={"from": "pitches"})
    with pytest.raises(RecipeError, match=r"init\.from: pitches: not a run and not a model"):
        initialize(beside, network, (), said.append)
    assert "taken for the folder of this name here" in capsys.readouterr().err
    unknown = Recipe(dataset="tones", backbone=SMALL, init={"from": "pitchs"})
    with pytest.raises(RecipeError, match=r'init\.from: pitchs: .* did you mean "pitches"'):
        initialize(unknown, network, (), said.append)


def test_a_model_of_a_newer_version_is_refused_with_the_formats_that_this_one_knows(
    site: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    writable(site)
    newer = site / "model.toml"
    newer.write_text(newer.read_text().replace("format = 2", "format = 99", 1))
    digests.write_table(site / "digests.json", digests.table_of(site, ["model.toml", "weights.safetensors"]))
    line = "format: is 99, but this soundbench knows formats up to"
    assert invoke(["infer", "pitches", "a.wav"]) == 2
    assert line in capsys.readouterr().err
    for start in ("pitches", site, site / "weights.safetensors"):
        with pytest.raises(RecipeError, match=rf"init\.from: .*model\.toml: {line}"):
            begin_with(start)


@pytest.mark.parametrize("name", ["model.toml", "weights.safetensors", "digests.json", "assets"])
def test_a_file_that_is_missing_names_the_package_to_install_again(
    name: str, site: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    writable(site)
    if name == "assets":  # any other file that scores depend on
        table = digests.read_table(site / "digests.json") or {}
        digests.write_table(site / "digests.json", {**table, name: ["0"]})
    else:
        (site / name).unlink()
    Path("table.csv").write_text("path,label\na.wav,swell\nb.wav,decay\n")
    for call in (
        "infer pitches a.wav",
        "evaluate pitches --dataset table.csv --out report",
        "export pitches --to pt2 --out a.pt2",
        "models",
    ):
        assert invoke(call.split()) == (call != "models")
        said = "".join(capsys.readouterr())
        assert name in said
        assert "install acme-sounds 1.0 again" in said
        assert "put it back" not in said
    if name != "assets":
        with pytest.raises(RecipeError, match=rf"init\.from: .*{name}.* install acme-sounds 1\.0 again"):
            begin_with("pitches")


def begin_with(start: str | Path) -> None:
    """Begin a training with weights."""
    recipe = Recipe(dataset="tones", backbone=SMALL, init={"from": start})
    made = assemble(recipe)
    initialize(recipe, made.network, made.dataset.classes, lambda line: None)


def writable(folder: Path) -> None:
    for path in (folder, *folder.iterdir()):
        path.chmod(0o755)


def test_changes_are_accepted_for_the_call_and_the_package_stays_as_it_is(
    site: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    writable(site)
    (site / "model.toml").write_text((site / "model.toml").read_text() + "# mine\n")
    before = {path: path.read_bytes() for path in site.iterdir()}
    for _ in range(2):
        assert invoke(["infer", "pitches", "a.wav"]) == 1
        said = capsys.readouterr().err
        assert "model.toml: was changed since soundbench wrote it" in said
        assert "install acme-sounds 1.0 again, or accept it with --accept-changes" in said
        assert invoke(["infer", "pitches", "a.wav", "--accept-changes"]) == 0
    with pytest.raises(RunError, match=r"is part of acme-sounds 1\.0, and stays as it is; copy the folder"):
        model_folder.save_thresholds(site, [0.5] * 4)
    assert {path: path.read_bytes() for path in site.iterdir()} == before


@pytest.mark.slow
def test_a_server_names_the_model(site: Path) -> None:
    server = Server(Path("pitches"))
    try:
        card = server.json("GET", "/model")
    finally:
        server.process.terminate()
        server.process.communicate()
    assert card["card"]["model"] == "pitches"
