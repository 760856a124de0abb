"""The model `esc10` that comes with soundbench, as an installation finds it: by its name, in every command."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from types import SimpleNamespace
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
from soundbench.model.assembly import assemble
from soundbench.model.named.names import model_path
from soundbench.model.weights import initialize
from soundbench.training.starting.learnt import learnt_before

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "soundbench" / "models" / "esc10"
# Piczak, 2015, table 1, in the order of the targets of ESC-50.
CLASSES = (
    *("dog", "rooster", "rain", "sea_waves", "crackling_fire"),
    *("crying_baby", "sneezing", "clock_tick", "helicopter", "chainsaw"),
)


@pytest.fixture(autouse=True)
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty folder to work in, with one sound."""
    monkeypatch.chdir(tmp_path)
    soundfile.write("own.wav", noise(48000, -30, 0), 16000)


def noise(samples: int, level: float, seed: int) -> np.ndarray:
    """White noise at an RMS level in dB of full scale, clipped."""
    drawn = np.random.default_rng(seed).standard_normal(samples) * 10 ** (level / 20)
    return np.clip(drawn, -1, 1).astype(np.float32)


def printed(capsys: pytest.CaptureFixture[str], *words: str) -> list[Any]:
    """The JSON lines of a command."""
    code = invoke([*words, "--json"])
    out, err = capsys.readouterr()
    assert code == 0, err
    return [json.loads(line) for line in out.splitlines()]


def test_the_listing_has_figures_with_intervals_protocol_and_licences(capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["models", "--json"]) == 0
    (row,) = [one for one in json.loads(capsys.readouterr().out) if one["name"] == "esc10"]
    assert tuple(row["classes"]) == CLASSES
    assert row["distribution"] == "soundbench"
    accuracy = row["figures"]["accuracy"]
    assert 0 < accuracy["low"] < accuracy["value"] < accuracy["high"] < 1
    assert "400 test clips" in row["summary"]
    assert "cross-validation" in row["protocol"]
    assert (row["license"], row["data_license"], row["error"]) == ("apache-2.0", "CC-BY-3.0", "")


def test_it_is_small_and_says_nothing_of_the_machine_that_made_it() -> None:
    files = [path for path in FOLDER.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= 2_500_000
    assert {path.name for path in files} == {
        *("README.md", "digests.json", "model.toml", "reject.safetensors", "weights.safetensors")
    }
    for path in files:
        assert not re.search(rb"/(home|Users|root|tmp|work|mnt)/", path.read_bytes()), path


def test_card_and_notice_name_whose_sounds_it_has_learnt_from() -> None:
    for path in (FOLDER / "README.md", ROOT / "NOTICE"):
        text = path.read_text(encoding="utf-8")
        for name in ("ESC-10", "K. J. Piczak", "CC BY 3.0", "Freesound", "https://github.com/karolpiczak/ESC-50"):
            assert name in text, (path, name)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert "NOTICE" in project["license-files"]


def test_every_command_takes_it_by_its_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert model_path("esc10") == FOLDER
    (row,) = printed(capsys, "infer", "esc10", "own.wav")
    assert set(row["scores"]) == set(CLASSES)
    assert row["scores"] == pytest.approx(soundbench.load("esc10").predict("own.wav").scores, abs=1e-6)
    assert [one for one in printed(capsys, "stream", "esc10", "--source", "own.wav") if "scores" in one]
    assert invoke(["embed", "esc10", "own.wav", "--out", "vectors"]) == 0


def test_silence_and_white_noise_are_unknown() -> None:
    model = soundbench.load("esc10")
    silence = [np.zeros(count, np.float32) for count in (1, 1600, 80000, 480000)]
    assert {one.label for one in model.predict(silence, 16000)} == {"unknown"}
    noises = [
        noise(round(seconds * 16000), level, 10 * number)
        for number, level in enumerate((-90, -60, -45, -30, -20, -10, -3))
        for seconds in (1, 3, 5, 12)
    ]
    assert {one.label for one in model.predict(noises, 16000)} == {"unknown"}


def test_training_begins_with_its_weights() -> None:
    tables = tomllib.loads((FOLDER / "model.toml").read_text(encoding="utf-8"))
    parts = {name: tables[name] for name in ("audio", "featurizer", "backbone", "pooling", "head")}
    recipe = Recipe(dataset="tones", init={"from": "esc10"}, **parts)
    network = assemble(recipe).network
    initialize(recipe, network, CLASSES, lambda line: None)
    wanted, found = load_file(FOLDER / "weights.safetensors"), network.state_dict()
    same = [name for name, tensor in wanted.items() if name in found and found[name].shape == tensor.shape]
    learnt = [name for name in same if name.startswith("backbone.") and not name.endswith("num_batches_tracked")]
    assert len(learnt) > 10
    for name in learnt:
        torch.testing.assert_close(found[name], wanted[name], rtol=0, atol=0)


@pytest.mark.parametrize(("use", "warned"), [("esc50", True), ("folder", False)])
def test_a_training_that_tests_on_its_data_is_warned(use: str, warned: bool) -> None:
    recipe = Recipe(dataset={"use": use, "root": "."}, backbone="identity", init={"from": "esc10"})
    dataset: Any = SimpleNamespace(title="ESC-50") if warned else SimpleNamespace()
    table: Any = SimpleNamespace(paths=["a.wav", "b.wav"])
    said = learnt_before(recipe, dataset, table, np.arange(2))
    assert ("may have learnt from the test clips" in said) == warned
    assert learnt_before(recipe, dataset, table, np.arange(0)) == ""


def test_a_package_that_claims_the_name_and_a_folder_of_it_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    install(tmp_path / "site", "esc10")
    monkeypatch.syspath_prepend(tmp_path / "site")
    assert invoke(["infer", "esc10", "own.wav"]) == 3
    said = capsys.readouterr().err
    assert 'two models are called "esc10", of acme-sounds 1.0 ' in said
    assert "and soundbench " in said
    monkeypatch.setenv("SOUNDBENCH_PLUGINS", "soundbench")
    assert invoke(["infer", "esc10", "own.wav"]) == 0
    Path("esc10").mkdir()
    assert invoke(["infer", "esc10", "own.wav"]) == 1
    assert "esc10: taken for the folder of this name here, not for the model of soundbench" in capsys.readouterr().err


@pytest.mark.slow
def test_a_server_answers_with_it() -> None:
    server = Server(Path("esc10"))
    try:
        assert server.json("GET", "/model")["card"]["model"] == "esc10"
        answer = server.json("POST", "/predict", Path("own.wav").read_bytes(), {"Content-Type": "audio/wav"})
    finally:
        server.process.terminate()
        server.process.communicate()
    assert "scores" in json.dumps(answer)
