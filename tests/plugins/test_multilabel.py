"""Several labels a clip, from the manifest to the report, the model and a prediction."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import tomli
from click.testing import CliRunner
from helpers.chords import chord_recipe, make_chords

import soundbench
from soundbench.cli.infer import command
from soundbench.errors import RecipeError
from soundbench.training.folds import run_folds


@pytest.fixture(scope="module")
def chords(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_chords(tmp_path_factory.mktemp("chords"))


def test_a_run_learns_several_labels_a_clip(chords: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = chord_recipe(chords, observer=["progress"])
    done = soundbench.run(recipe, out=tmp_path / "run", cache=False, say=lambda line: None)
    run, report = done.directory, done.report
    precision = report["metrics"]["mean_average_precision"]
    assert precision["value"] > 0.9 > report["baseline"]["mean_average_precision"]["value"]
    assert precision["low"] <= precision["value"] <= precision["high"]
    model = tomli.loads((run.model / "model.toml").read_text(encoding="utf-8"))
    assert model["multilabel"] is True
    assert model["thresholds"] == [row["threshold"] for row in report["per_class"]]
    page = run.report_md.read_text(encoding="utf-8")
    assert page.splitlines()[2].startswith("**mAP ")
    assert "| class | average precision | threshold | precision |" in page
    assert not run.confusion_csv.exists()
    assert "validation_mean_average_precision" in run.history.read_text(encoding="utf-8").splitlines()[0]

    figure = r"validation loss \d\.\d{4}, mAP \d+\.\d%, macro-F1 \d+\.\d%  lr"
    assert len(re.findall(figure, capsys.readouterr().err)) == 8

    both = sorted(chords.glob("*.wav"), key=lambda path: int(path.stem))[2]  # low and middle
    prediction = soundbench.load(run.path).predict(both)
    assert set(prediction.labels) == {"low", "middle"}
    assert sum(prediction.scores.values()) > 1.2  # a score a class, not shares of one
    result = CliRunner().invoke(command, [str(run.path), str(both)])
    assert result.exit_code == 0
    assert result.output.count("\t") == 2
    assert json.loads(CliRunner().invoke(command, [str(run.path), str(both), "--json"]).output)["labels"]


def test_folds_are_pooled_with_each_one_s_thresholds(chords: Path, tmp_path: Path) -> None:
    short = chord_recipe(
        chords, train={"epochs": 2, "batch_size": 16, "device": "cpu", "precision": "fp32", "threads": 1}
    )
    run = run_folds(short, out=tmp_path / "run", cache=False, say=lambda line: None)
    report = run.report
    assert report["clips"] == 96
    assert len(report["folds"]) == 4
    assert "mean_average_precision" in report["across_folds"]
    reports = [json.loads((run.path / name / "report.json").read_text()) for name in ("fold-00", "fold-01")]
    assert all(row["threshold"] is not None for one in reports for row in one["per_class"])
    pooled = sum(row["predicted"] for row in report["per_class"])
    own = sum(
        row["predicted"]
        for path in run.path.glob("fold-*/report.json")
        for row in json.loads(path.read_text())["per_class"]
    )
    assert pooled == own


def test_a_loss_for_one_class_per_clip_is_refused(chords: Path, tmp_path: Path) -> None:
    with pytest.raises(RecipeError) as caught:
        soundbench.run(chord_recipe(chords, loss="cross-entropy"), out=tmp_path / "run", cache=False)
    assert str(caught.value).endswith(
        "loss: 'cross-entropy' is for one class a clip, but the dataset is multi-label; "
        'use loss = "bce", which scores each class independently'
    )
    assert not (tmp_path / "run").exists()


def test_an_augmentation_for_one_class_per_clip_is_refused(chords: Path, tmp_path: Path) -> None:
    recipe = chord_recipe(chords, augmentation=[{"use": "gain"}, {"use": "outlier-exposure"}])
    with pytest.raises(RecipeError) as caught:
        soundbench.run(recipe, out=tmp_path / "run", cache=False)
    assert str(caught.value).endswith(
        "augmentation[1]: 'outlier-exposure' is for one class a clip, but the dataset is multi-label; leave it out"
    )
