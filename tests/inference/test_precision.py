"""Scoring in bf16: only where it is asked for, by all threads, and stated in every output."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from helpers.networks import toy_network
from helpers.toys import ToyLoss
from torch import nn

import soundbench
from soundbench.cli.main import invoke
from soundbench.data.batches import Grid
from soundbench.errors import CallError
from soundbench.inference.classifier import Classifier
from soundbench.inference.formats import FORMATS, find
from soundbench.machine import Machine
from soundbench.model.scoring import Scorer

CPU = Machine(torch.device("cpu"), "fp32", 1, False)
WINDOWS = 24


def classifier(precision: Any) -> Classifier:
    scorer = Scorer(toy_network().eval(), ToyLoss(5), CPU, "off", precision=precision)
    return Classifier(scorer, [str(number) for number in range(5)], 8000, Grid(1600, 1600))


def sound() -> np.ndarray:
    return 0.1 * np.random.default_rng(0).standard_normal(1600 * WINDOWS).astype(np.float32)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from helpers.runs import RECIPE

    folder = tmp_path_factory.mktemp("toy")
    (folder / "toy.toml").write_text(RECIPE)
    soundfile.write(folder / "a.wav", sound()[:8000], 8000)
    recipe = soundbench.read_recipe(folder / "toy.toml", ["train.epochs=1", "dataset.clips=24"])
    return soundbench.run(recipe, out=folder / "run", cache=False, say=lambda _: None).path


@pytest.mark.parametrize("threads", [1, 4])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_every_thread_computes_in_the_precision_and_scores_are_float32(threads: int, precision: str) -> None:
    found = classifier(precision)
    types: list[tuple[torch.dtype, int]] = []

    def note(_module: nn.Module, _given: Any, out: torch.Tensor) -> None:
        types.append((out.dtype, len(out)))

    found.network.get_submodule("backbone.conv").register_forward_hook(note)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        scores = found.predict_proba(sound(), 8000, batch=WINDOWS)
        vectors, logits = found.embed(sound(), 8000, batch=WINDOWS), found.predict_logits(sound(), 8000, batch=WINDOWS)
    finally:
        torch.set_num_threads(before)
    assert {kind for kind, _ in types} == {torch.bfloat16 if precision == "bf16" else torch.float32}
    assert len(types) == 3 * threads
    assert scores.dtype == vectors.dtype == logits.dtype == np.float32
    np.testing.assert_allclose(scores.sum(1), 1, atol=1e-6)


def test_scores_in_bf16_are_near_those_in_float32_and_are_not_the_same() -> None:
    exact, rough = (classifier(precision).predict_proba(sound(), 8000) for precision in ("fp32", "bf16"))
    np.testing.assert_allclose(rough, exact, atol=0.01)
    assert not np.array_equal(rough, exact)


def test_a_classifier_states_its_precision(run: Path) -> None:
    assert ", cpu, bf16: " in repr(soundbench.load(run, device="cpu", trust_code=True, precision="bf16"))
    assert "bf16" not in repr(soundbench.load(run, device="cpu", trust_code=True))
    with pytest.raises(CallError, match=r"^precision must be 'fp32' or 'bf16', is 'fp16'$"):
        soundbench.load(run, precision="fp16")  # type: ignore[arg-type]


def printed(capsys: pytest.CaptureFixture[str], run: Path, *options: str) -> tuple[str, str]:
    assert invoke(["infer", str(run), str(run.parent / "a.wav"), "--device", "cpu", "--trust-code", *options]) == 0
    return capsys.readouterr()


def test_printed_results_state_it(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for per in ("clip", "window", "event"):
        rows = [
            printed(capsys, run, "--per", per, "--format", "csv", "--threshold", "0.1", "--precision", precision)[0]
            for precision in ("fp32", "bf16")
        ]
        plain, stated = (list(csv.DictReader(io.StringIO(text))) for text in rows)
        assert {row["precision"] for row in stated} == {"bf16"}
        assert [name for name in stated[0] if name != "precision"] == list(plain[0])
    lines = printed(capsys, run, "--json", "--precision", "bf16")[0].splitlines()
    assert [json.loads(line)["precision"] for line in lines] == ["bf16"]
    assert printed(capsys, run, "--precision", "bf16")[0].splitlines()[0] == "scores are computed in bf16"
    counts = printed(capsys, run, "--summary", "--json", "--precision", "bf16")[0].splitlines()
    assert {json.loads(line)["precision"] for line in counts} == {"bf16"}
    raven = printed(capsys, run, "--format", "raven", "--per", "window", "--precision", "bf16")[0]
    table = list(csv.DictReader(io.StringIO(raven), delimiter="\t"))
    assert {row["Precision"] for row in table} == {"bf16"}
    out, errors = printed(capsys, run, "--format", "audacity", "--per", "window", "--precision", "bf16")
    assert all(len(line.split("\t")) == 3 for line in out.splitlines())
    assert "scores are computed in bf16" in errors


def test_columns_of_classes_come_after_it(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text, _ = printed(capsys, run, "--format", "csv", "--scores", "--precision", "bf16")
    (row,) = csv.DictReader(io.StringIO(text))
    assert list(row)[-3:] == ["precision", "low", "high"]
    assert float(row["low"]) + float(row["high"]) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_has_a_place_for_it_or_says_that_it_has_none(name: str) -> None:
    form = find(name)("window", ["a"], 8000, precision="bf16")
    assert form.states == (name != "audacity")
    assert find(name)("window", ["a"], 8000).stated == {}
    assert find(name)("window", ["a"], 8000).header() == find(name)("window", ["a"], 8000, precision="fp32").header()


def test_a_folder_keeps_its_precision(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "found"
    printed(capsys, run, "--out", str(out), "--precision", "bf16")
    assert json.loads((out / "settings.json").read_text())["precision"] == "bf16"
    assert (out / "results.txt").read_text().startswith("scores are computed in bf16\n")
    assert invoke(["infer", str(run), str(run.parent / "a.wav"), "--trust-code", "--out", str(out)]) == 2
    assert "was begun with precision 'bf16', now None; use another --out" in capsys.readouterr().err


def test_an_exported_file_has_the_precision_that_it_has(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(b"never opened")
    assert invoke(["infer", str(path), __file__, "--precision", "bf16"]) == 2
    line = f"{path}: an exported file is computed as it was exported; leave out the precision\n"
    assert capsys.readouterr().err == line
