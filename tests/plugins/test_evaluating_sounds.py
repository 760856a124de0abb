"""`evaluate` on sounds that no recipe describes: a manifest, and a folder of class folders; several labels, too."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
from helpers.chords import chord_recipe, make_chords

import soundbench
from soundbench import files


@pytest.fixture(scope="module")
def chords(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_chords(tmp_path_factory.mktemp("chords"))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> soundbench.Run:
    """A run on a folder of noises and of hums."""
    folder = tmp_path_factory.mktemp("sounds")
    random, time = np.random.default_rng(0), np.arange(4000) / 16000
    for number in range(24):
        hum = np.sin(2 * np.pi * random.uniform(200, 400) * time)
        for label, sound in (("noise", random.normal(size=4000)), ("hum", hum)):
            (folder / label).mkdir(exist_ok=True)
            soundfile.write(folder / label / f"{number}.wav", 0.1 * sound, 16000)
    recipe = soundbench.Recipe(
        dataset={"use": "folder", "root": str(folder)},
        split={"test": 0.25, "validation": 0},
        audio={"window": 0.25},
        featurizer={"use": "fbank", "bands": 24},
        backbone={"use": "tdnn", "channels": 16},
        train={"epochs": 2, "batch_size": 8, "device": "cpu", "precision": "fp32", "threads": 1},
        observer=[],
    )
    return soundbench.run(recipe, out=folder.with_name("run"), cache=folder.with_name("cache"), say=lambda _: None)


def scores(of: soundbench.Run) -> dict[str, tuple[str, float]]:
    return {row["path"]: (row["label"], float(row["score:hum"])) for row in files.read_rows(of.directory.predictions)}


def test_a_manifest_of_the_test_clips_gives_the_runs_own_scores(run: soundbench.Run, tmp_path: Path) -> None:
    own = scores(run)
    rows = [f"{path},{label}" for path, (label, _) in reversed(list(own.items()))]
    (tmp_path / "mine.csv").write_text("\n".join(["path,label", *rows]) + "\n")
    done = soundbench.evaluate(run.path, tmp_path / "mine.csv", cache=False, say=lambda _: None)
    again = scores(done)
    assert again.keys() == own.keys()
    for path, (label, score) in own.items():
        assert again[path] == (label, pytest.approx(score, abs=1e-5))
    found = done.report
    assert found["metrics"]["accuracy"]["value"] == found["own"]["metrics"]["accuracy"]["value"]
    assert found["protocol"]["evaluated"] == "all clips of the dataset"
    assert found["protocol"]["dataset"]["use"] == "manifest"
    assert "split" not in found["protocol"]


def test_all_clips_of_a_folder_of_class_folders_are_evaluated(run: soundbench.Run, tmp_path: Path) -> None:
    (tmp_path / "more" / "hum").mkdir(parents=True)
    time = np.arange(9000) / 16000
    for number in range(3):
        soundfile.write(tmp_path / "more" / "hum" / f"{number}.wav", 0.1 * np.sin(1900 * (1 + number) * time), 16000)
    done = soundbench.evaluate(run.path, tmp_path / "more", cache=False, say=lambda _: None)
    found = done.report
    assert found["clips"] == 3
    assert found["classes_without_clips"] == ["noise"]
    assert done.path.name.startswith("more-")


def test_several_labels_a_clip_are_evaluated_with_the_models_thresholds(chords: Path, tmp_path: Path) -> None:
    run = soundbench.run(
        chord_recipe(chords, train={"epochs": 1, "batch_size": 16, "device": "cpu", "precision": "fp32", "threads": 1}),
        out=tmp_path / "run",
        cache=False,
        say=lambda _: None,
    )
    own = run.report
    done = soundbench.evaluate(run.path, chords / "chords.csv", cache=False, say=lambda _: None)
    found = done.report
    assert found["clips"] == 96
    assert [row["threshold"] for row in found["per_class"]] == [row["threshold"] for row in own["per_class"]]
    assert found["own"]["metrics"] == own["metrics"]
    again = soundbench.evaluate(run.path, cache=False, say=lambda _: None)
    assert again.report["metrics"] == own["metrics"]
