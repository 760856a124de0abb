"""Thresholds of an export in 8 bits: fitted again to its scores, by the rules by which training has fitted them."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from helpers.runs import RECIPE, TOYS, toy_run
from helpers.toys import ToyDataset, ToyQuantizer

import soundbench
from soundbench.contracts import Clip
from soundbench.errors import RunError
from soundbench.inference.classifier import Classifier
from soundbench.inference.export import thresholds
from soundbench.inference.export.exporting import export
from soundbench.inference.export.program import program_of
from soundbench.inference.export.sounds import RunClips
from soundbench.inference.export.thresholds import fit_again
from soundbench.model.rejecting.noise import NoiseStore
from soundbench.recipe import toml
from soundbench.training.rejecting import others

TO = f"{TOYS}:ToyQuantizer"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with enough validation clips for thresholds."""
    folder = tmp_path_factory.mktemp("thresholds")
    (folder / "toys.toml").write_text(RECIPE.replace("clips = 64", "clips = 400"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SOUNDBENCH_CACHE", str(folder / "cache"))
        return toy_run(folder / "toys.toml", folder / "run")


def test_to_the_scores_of_the_model_itself_they_are_those_of_training(run: Path) -> None:
    classifier = soundbench.load(run, trust_code=True)
    runner = ToyQuantizer.read(ToyQuantizer(program_of(classifier, {})).export())
    again, said = fit_again(classifier, runner, RunClips.open(run, True), marked=False)
    own, table = again.scorer.rejector, toml.parse((run / "model" / "model.toml").read_bytes())["reject"]
    assert own is not None
    assert own.clip == pytest.approx(table["clip_threshold"], abs=1e-4)
    assert own.window == pytest.approx(table["window_threshold"], abs=1e-4)
    assert said.startswith("fitted again on ")


def test_they_are_fitted_to_the_noise_of_training(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[tuple[object, ...]] = []

    class Noted(NoiseStore):
        def __init__(self, *given: Any) -> None:
            made.append(given)
            super().__init__(*given)

    monkeypatch.setattr(others, "NoiseStore", Noted)
    monkeypatch.setattr(thresholds, "NoiseStore", Noted)
    toy_run(run / "recipe.toml", tmp_path / "run", "train.epochs=1")
    in_training = [one for one in made if one[-1] == others.FITTING]
    made.clear()
    classifier = soundbench.load(run, trust_code=True)
    runner = ToyQuantizer.read(ToyQuantizer(program_of(classifier, {})).export())
    fit_again(classifier, runner, RunClips.open(run, True), marked=False)
    assert made == in_training != []


def test_they_follow_the_scores_in_8_bits(run: Path, tmp_path: Path) -> None:
    said: list[str] = []
    found = export(run, TO, tmp_path / "a.toy", int8=_sound(tmp_path), trust_code=True, accept=True, say=said.append)
    table = toml.parse((run / "model" / "model.toml").read_bytes())["reject"]
    about = ToyQuantizer.read(found.path.read_bytes()).metadata["reject"]
    assert about["clip_threshold"] == pytest.approx(table["clip_threshold"] + 5, abs=1e-4)
    assert about["window_threshold"] == pytest.approx(table["window_threshold"] + 5, abs=1e-4)
    assert found.comparison.flipped == 0  # with the model's thresholds, what it rejects would be kept
    assert said[0] == f"thresholds: {found.thresholds}"
    assert json.loads((tmp_path / "export.json").read_text())["a.toy"]["thresholds"] == found.thresholds


def test_other_labels_in_8_bits_are_refused(run: Path, tmp_path: Path) -> None:
    sound, options = _sound(tmp_path), {"turned": True}
    with pytest.raises(
        RunError, match=r"a.toy: not written: the labels of at least 90% of the sounds must be the same in 8 bits, "
    ):
        export(run, TO, tmp_path / "a.toy", int8=sound, options=options, trust_code=True, say=lambda line: None)
    assert [path.name for path in tmp_path.iterdir()] == ["a.wav"]


def _sound(folder: Path) -> Path:
    soundfile.write(folder / "a.wav", 0.1 * np.random.default_rng(0).standard_normal(8000), 8000)
    return folder / "a.wav"


def test_thresholds_of_the_recipe_stay(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run / "model", tmp_path / "model")
    (tmp_path / "clips.csv").write_bytes((run / "clips.csv").read_bytes())
    text = (run / "recipe.toml").read_text().replace("keep = 0.95", "keep = 0.95\nclip_threshold = 0.5")
    (tmp_path / "recipe.toml").write_text(text)
    classifier = soundbench.load(run, trust_code=True)
    runner = ToyQuantizer.read(ToyQuantizer(program_of(classifier, {})).export())
    again, said = fit_again(classifier, runner, RunClips.open(tmp_path, True), marked=False)
    assert again is classifier
    assert said == "the model's: the recipe or marks give them"


def test_with_several_labels_each_class_has_the_best_f1_of_validation(run: Path) -> None:
    single = soundbench.load(run, trust_code=True)
    classifier = Classifier(single.scorer, single.classes, single.rate, single.grid, [0.5, 0.5])
    runner = ToyQuantizer.read(ToyQuantizer(program_of(classifier, {})).export())
    again, _ = fit_again(classifier, runner, RunClips.open(run, True), marked=False)
    with (run / "clips.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["part"] == "validation"]
    dataset = ToyDataset(clips=400)
    scores = classifier.predict_proba([dataset.read(Clip(row["path"], (row["labels"],)))[0] for row in rows], 8000)
    assert again.multilabel
    assert again.thresholds is not None
    for column, (name, threshold) in enumerate(zip(classifier.classes, again.thresholds, strict=True)):
        true = np.array([row["labels"] == name for row in rows])
        best = max(_f1(scores[:, column] >= one - 1e-6, true) for one in scores[:, column])
        assert _f1(scores[:, column] >= threshold, true) == pytest.approx(best)


@pytest.mark.parametrize("multilabel", [True, False])
def test_thresholds_of_marks_stay(run: Path, multilabel: bool) -> None:
    single = soundbench.load(run, trust_code=True)
    classifier = Classifier(single.scorer, single.classes, single.rate, single.grid, [0.4, 0.0], multilabel)
    runner = ToyQuantizer.read(ToyQuantizer(program_of(classifier, {})).export())
    again, said = fit_again(classifier, runner, RunClips.open(run, True), marked=True)
    assert (again.thresholds, again.multilabel) == ([0.4, 0.0], multilabel)
    assert said.startswith("fitted again on ")  # those of what rejects sound


def _f1(found: np.ndarray, true: np.ndarray) -> float:
    return 2 * float((found & true).sum()) / float(found.sum() + true.sum())
