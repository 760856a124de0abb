"""Models of built-ins, trained and exported to ONNX: predict, events, embed and evaluate give what the run gives."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from soundbench_plugins.dataset.tones import Tones

import soundbench
from soundbench.cli.main import invoke
from soundbench.inference.export.exporting import export
from soundbench.inference.many_files import Wanted
from soundbench.inference.scoring.recordings import evaluate_events

pytest.importorskip("onnx")
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of made sounds, with calibration and what rejects sound, exported."""
    folder = tmp_path_factory.mktemp("models")
    tables: dict[str, Any] = {
        "dataset": {"use": "tones", "clips": 200},
        "split": {"test": 0.2},
        "audio": {"window": 0.5, "hop": 0.25, "level": -20.0, "trim": 50.0},
        "backbone": {"use": "tdnn", "channels": 16},
        "train": {"epochs": 2, "batch_size": 16, "device": "cpu", "threads": 1},
        "observer": [],
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SOUNDBENCH_CACHE", str(folder / "cache"))
        done = soundbench.run(soundbench.Recipe(**tables), out=folder / "run").path
    export(done, "onnx", say=lambda line: None)
    return done


@pytest.fixture(scope="module")
def labelled(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders of tones, named like the classes."""
    folder, draws = tmp_path_factory.mktemp("labelled"), np.random.default_rng(5)
    for number, name in enumerate(soundbench.load(run).classes):
        (folder / name).mkdir()
        for clip in range(5):
            times = np.arange(draws.integers(4_000, 40_000)) / 16_000
            tone = 0.2 * np.sin(2 * np.pi * (300 + 400 * number) * times) + 0.02 * draws.standard_normal(len(times))
            soundfile.write(folder / name / f"{clip}.wav", tone, 16_000, subtype="FLOAT")
    return folder


def test_a_file_gives_the_predictions_events_and_embeddings_of_its_run(run: Path, labelled: Path) -> None:
    here, there = soundbench.load(run, device="cpu"), soundbench.load(run / "exports" / "model.onnx")
    paths: list[Any] = sorted(labelled.rglob("*.wav"))
    assert here.scorer.rejector is not None
    np.testing.assert_allclose(there.predict_proba(paths), here.predict_proba(paths), atol=1e-4)
    np.testing.assert_allclose(there.embed(paths), here.embed(paths), rtol=1e-3, atol=1e-3)
    for path in paths:
        one, other = here.predict(path), there.predict(path)
        assert (one.labels, one.rejected, one.nearest) == (other.labels, other.rejected, other.nearest)
        for first, second in zip(here.events(path), there.events(path), strict=True):
            assert first.label == second.label
            assert (first.start, first.end) == pytest.approx((second.start, second.end))


def test_evaluate_says_of_a_file_what_it_says_of_the_model(run: Path, labelled: Path, tmp_path: Path) -> None:
    reports = []
    for number, model in enumerate((run / "model", run / "exports" / "model.onnx")):
        out = tmp_path / str(number)
        found = soundbench.evaluate(model, labelled, out=out, device="cpu", cache=False, say=lambda line: None)
        reports.append(found.report)
    for name in ("metrics", "calibration", "reject"):
        assert _numbers(reports[1][name]) == pytest.approx(_numbers(reports[0][name]), abs=1e-3)
    for name in ("clips", "parameters", "macs", "device"):
        assert reports[1][name] == reports[0][name]


def test_evaluate_finds_the_events_with_a_file_that_it_finds_with_the_model(run: Path, tmp_path: Path) -> None:
    tones, folder = Tones(clips=40, seed=1), tmp_path / "tones"
    folder.mkdir()
    for number, clip in enumerate(tones.clips()):
        soundfile.write(folder / f"{number}.wav", *tones.read(clip))
        (folder / f"{number}.txt").write_text(f"0\t1\t{clip.labels[0]}\n")
    model, file = (
        evaluate_events(
            path,
            folder,
            wanted=lambda loaded: Wanted("event", 0.4, rules=loaded.event_rules(on=0.12)),
            out=tmp_path / name,
            device="cpu",
            say=lambda line: None,
        ).report
        for name, path in (("model", run / "model"), ("file", run / "exports" / "model.onnx"))
    )
    assert file["events"] > 50
    assert _numbers(file["metrics"]) == pytest.approx(_numbers(model["metrics"]), rel=0.02)  # of an event more or less
    assert (file["baseline"], file["device"]) == (model["baseline"], model["device"])


def _numbers(value: Any) -> list[float]:
    if isinstance(value, dict | list):
        return [one for part in (value.values() if isinstance(value, dict) else value) for one in _numbers(part)]
    return [float(value)] if isinstance(value, int | float) else []


def test_the_commands_take_a_file(run: Path, labelled: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    model = str(run / "exports" / "model.onnx")
    assert invoke(["infer", model, str(labelled), "--out", str(tmp_path / "rows"), "--format", "csv"]) == 0
    assert len((tmp_path / "rows" / "results.csv").read_text().splitlines()) == 1 + len(list(labelled.rglob("*.wav")))
    assert invoke(["embed", model, str(labelled), "--out", str(tmp_path / "vectors")]) == 0
    sound = str(next(labelled.rglob("*.wav")))
    assert invoke(["stream", model, "--source", sound]) == 0
    capfd.readouterr()
    wanted = {
        ("evaluate", model): "a model alone has no test set: give labelled sound with --dataset",
        (
            *("evaluate", model, "--dataset", str(labelled), "--out", str(tmp_path / "report")),
            *("--checkpoint", "last"),
        ): "an exported file has no other checkpoint: leave out --checkpoint",
        (
            "export",
            model,
            "--to",
            "onnx",
            "--out",
            str(tmp_path / "again.onnx"),
        ): "this is exported already; give the run directory",
        ("infer", model, sound, "--device", "cuda"): "an exported file is computed on the CPU; use the device",
    }
    for arguments, said in wanted.items():
        assert invoke(arguments) == 2
        errors = capfd.readouterr().err
        assert said in errors
        assert errors.count("\n") == 1
