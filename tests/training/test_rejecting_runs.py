"""Runs that reject sound: what is fitted, kept in the model, said by `infer`, and reported; classes left out."""

from __future__ import annotations

import csv
import io
import json
import math
import shutil
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pytest
import soundfile
from helpers.clip_tables import table_of
from helpers.near import near
from helpers.runs import RECIPE, command, done, toy_run
from helpers.toys import ToyDataset

import soundbench
from soundbench.contracts import Clip
from soundbench.errors import CallError, DataError, RecipeError, RunError
from soundbench.files import read_json
from soundbench.model import logits
from soundbench.recipe import toml
from soundbench.report.run_directory import RunDirectory, read_predictions
from soundbench.training.rejecting import fitting

pytestmark = pytest.mark.usefixtures("one_cache")


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Toys with enough validation clips for a threshold."""
    path = tmp_path_factory.mktemp("recipe") / "toys.toml"
    path.write_text(RECIPE.replace("clips = 64", "clips = 400"), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def run(recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toy_run(recipe, tmp_path_factory.mktemp("runs") / "run")


def tables(run: Path) -> dict[str, Any]:
    return toml.parse((run / "model" / "model.toml").read_bytes())


def silence(seconds: float = 0.5) -> np.ndarray:
    return np.zeros(round(8000 * seconds), np.float32)


def test_a_run_keeps_its_thresholds_and_what_it_was_fitted_to_in_the_model(run: Path) -> None:
    table = tables(run)["reject"]
    assert table["silence"] is True
    assert isinstance(table["clip_threshold"], float)
    assert isinstance(table["window_threshold"], float)
    assert "reject.safetensors" in read_json(run / "model" / "digests.json")


def test_the_share_that_is_kept_of_validation_is_that_of_the_recipe(run: Path) -> None:
    classifier = soundbench.load(run, trust_code=True)
    with (run / "clips.csv").open(encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["part"] == "validation"]
    assert len(rows) >= 50
    dataset = ToyDataset(clips=400)
    sounds = [dataset.read(Clip(row["path"], (row["labels"],)))[0] for row in rows]
    kept = np.mean([not one.rejected for one in classifier.predict(sounds, 8000)])
    assert 0.9 - 1e-9 <= kept <= 0.95 + 1 / len(rows)


def test_the_report_says_what_is_kept_and_what_noise_gives(run: Path) -> None:
    report = read_json(run / "report.json")
    found = report["reject"]
    assert found["keep"] == 0.95
    assert found["silence"] == {"unknown": 1.0, "clips": 1, "seconds": 0.2}
    for colour in ("white_noise", "pink_noise"):
        # Half are whole windows of 0.2 s, half shorter, evenly over the logarithm down to a fiftieth.
        assert found[colour]["seconds"] == pytest.approx(300 + 300 * (1 - 1 / 50) / math.log(50), rel=0.01)
        assert found[colour]["clips"] == 3000
        assert 0 <= found[colour]["unknown"] <= 1
    predictions = read_predictions(RunDirectory(run))
    assert found["kept"]["value"] == pytest.approx(1 - predictions.rejected.mean())
    right = predictions.scores.argmax(1) == predictions.targets.argmax(1)
    assert found["accuracy_of_kept"]["value"] == pytest.approx(right[~predictions.rejected].mean())
    assert report["metrics"]["accuracy"]["value"] == pytest.approx(right.mean())
    assert "## None of these" in (run / "report.md").read_text(encoding="utf-8")


def test_predictions_of_test_clips_are_those_of_the_classifier(run: Path) -> None:
    classifier, dataset = soundbench.load(run, trust_code=True), ToyDataset(clips=400)
    stored = read_predictions(RunDirectory(run))
    sounds = [dataset.read(Clip(clip.path, clip.labels))[0] for clip in stored.clips]
    found = classifier.predict(sounds, 8000)
    assert [one.rejected for one in found] == stored.rejected.tolist()
    assert [one.nearest for one in found] == stored.predicted


def test_digital_silence_is_unknown_for_clips_windows_events_and_streams(run: Path) -> None:
    classifier = soundbench.load(run, trust_code=True)
    found = classifier.predict(silence(), 8000)
    assert (found.label, found.rejected, found.labels) == ("unknown", True, ())
    assert found.nearest in classifier.classes
    assert set(found.scores) == set(classifier.classes)
    assert found.to_dict()["nearest"] == found.nearest
    assert "rejected, nearest=" in repr(found)
    assert all(window.rejected for window in classifier.windows(silence(), 8000))
    assert classifier.events(silence(), 8000) == []
    streamed = [item for item in classifier.stream([silence()], 8000) if hasattr(item, "rejected")]
    assert streamed
    assert all(item.label == "unknown" for item in streamed)


def test_one_sample_that_is_not_zero_is_no_digital_silence(run: Path) -> None:
    classifier = soundbench.load(run, trust_code=True)
    classifier = soundbench.Classifier(classifier.scorer, classifier.classes, classifier.rate, classifier.grid)
    scorer = classifier.scorer
    only_silence = attrs.evolve(scorer, rejector=attrs.evolve(scorer.rejector, clip=None, window=None))
    classifier.scorer = only_silence
    sound = silence()
    assert classifier.predict(sound, 8000).rejected
    sound[17] = 0.1
    assert not classifier.predict(sound, 8000).rejected


@pytest.mark.slow
def test_infer_says_unknown_with_the_nearest_class_in_every_format(run: Path, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "silence.wav", silence(), 8000)
    lines = done(command("infer", run, "--trust-code", tmp_path / "silence.wav")).splitlines()
    assert len(lines) == 1
    assert "\tunknown (nearest: " in lines[0]
    (row,) = csv.DictReader(
        io.StringIO(done(command("infer", run, "--trust-code", tmp_path / "silence.wav", "--format", "csv")))
    )
    assert (row["label"], row["rejected"], row["labels"]) == ("unknown", "TRUE", "")
    assert row["nearest"] in ("low", "high")
    (one,) = done(command("infer", run, "--trust-code", tmp_path / "silence.wav", "--json")).splitlines()
    found = json.loads(one)
    assert (found["label"], found["rejected"], found["labels"]) == ("unknown", True, [])
    assert set(found["scores"]) == {"low", "high"}
    assert (
        done(command("infer", run, "--trust-code", tmp_path / "silence.wav", "--format", "audacity", "--per", "window"))
        == ""
    )


def test_a_model_without_the_table_rejects_nothing(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run / "model", tmp_path / "model")
    text = (tmp_path / "model" / "model.toml").read_text(encoding="utf-8")
    (tmp_path / "model" / "model.toml").write_text(text[: text.index("[reject]")], encoding="utf-8")
    classifier = soundbench.load(tmp_path / "model", trust_code=True, accept_changes=True)
    found = classifier.predict(silence(), 8000)
    assert not found.rejected
    assert found.label == found.nearest == found.labels[0]
    assert np.array_equal(
        found.probabilities, soundbench.load(run, trust_code=True).predict(silence(), 8000).probabilities
    )


def test_what_it_was_fitted_to_is_checked_when_a_model_is_loaded(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run / "model", tmp_path / "model")
    path = tmp_path / "model" / "reject.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(bytes(data))
    with pytest.raises(RunError, match=r"reject\.safetensors"):
        soundbench.load(tmp_path / "model", trust_code=True)
    path.unlink()
    with pytest.raises(RunError, match=r"reject\.safetensors"):
        soundbench.load(tmp_path / "model", trust_code=True)


def test_few_validation_clips_fit_no_threshold_and_the_report_says_so(tmp_path: Path) -> None:
    (tmp_path / "toys.toml").write_text(RECIPE, encoding="utf-8")
    run = toy_run(tmp_path / "toys.toml", tmp_path / "run")
    found = read_json(run / "report.json")["reject"]
    assert found["reason"] == "fewer than 50 clips or 5 groups"
    assert found["kept"]["value"] == 1.0
    assert "white_noise" not in found
    assert "clip_threshold" not in tables(run)["reject"]
    assert soundbench.load(run, trust_code=True).predict(silence(), 8000).label == "unknown"
    assert "only digital silence is called unknown then" in (run / "report.md").read_text(encoding="utf-8")


def test_a_class_of_silence_that_is_called_unknown_is_a_class_like_any_other(recipe: Path, tmp_path: Path) -> None:
    text = recipe.read_text(encoding="utf-8").replace("ToyDataset", "ToyQuiet")
    (tmp_path / "quiet.toml").write_text(text, encoding="utf-8")
    run = toy_run(tmp_path / "quiet.toml", tmp_path / "run")
    assert tables(run)["reject"]["silence"] is False
    found = soundbench.load(run, trust_code=True).predict(silence(), 8000)
    assert (found.label, found.rejected, found.labels) == ("unknown", False, ("unknown",))
    assert found.scores["unknown"] > 0.5
    report = read_json(run / "report.json")
    assert report["reject"]["silence"]["unknown"] == 0.0
    assert report["metrics"]["accuracy"]["value"] > 0.9


def test_without_a_test_set_the_report_still_says_what_noise_gives(recipe: Path, tmp_path: Path) -> None:
    run = toy_run(recipe, tmp_path / "run", "split.test=0", "train.epochs=1")
    report = read_json(run / "report.json")
    assert report["metrics"] == {}
    assert report["reject"]["silence"]["unknown"] == 1.0
    assert report["reject"]["white_noise"]["clips"] == 3000
    assert "kept" not in report["reject"]
    assert report["calibration"]["clips"] == 80
    for page in ("report.md", "report.html"):
        text = (run / page).read_text(encoding="utf-8")
        assert "white noise: unknown" in text
        assert "fitted on 80 clips of 40 groups (validation set)" in text


def test_a_class_is_left_out_only_where_test_clips_can_be_compared_with_it(recipe: Path, tmp_path: Path) -> None:
    text = recipe.read_text(encoding="utf-8").replace("ToyDataset", "ToyThree")
    (tmp_path / "three.toml").write_text(text, encoding="utf-8")
    given = soundbench.read_recipe(tmp_path / "three.toml", ["split.test=0"])
    with pytest.raises(RecipeError, match=r"reject\.leave_out: .* but split\.test is 0"):
        soundbench.run(given, out=tmp_path / "run", leave_out=["clicks"])


def test_without_a_validation_set_no_threshold_is_fitted(recipe: Path, tmp_path: Path) -> None:
    run = toy_run(recipe, tmp_path / "run", "split.validation=0", "train.epochs=1")
    assert read_json(run / "report.json")["reject"]["reason"] == "there is no validation set"


def test_thresholds_of_the_recipe_are_kept_as_they_are(recipe: Path, tmp_path: Path) -> None:
    sets = ["reject.clip_threshold=-1e9", "reject.window_threshold=1e9", "reject.noise=false", "train.epochs=1"]
    run = toy_run(recipe, tmp_path / "run", *sets)
    classifier = soundbench.load(run, trust_code=True)
    sound = np.random.default_rng(0).standard_normal(1600).astype(np.float32)
    assert not classifier.predict(sound, 8000).rejected
    assert all(window.rejected for window in classifier.windows(sound, 8000))
    assert classifier.events(sound, 8000) == []
    assert read_json(run / "report.json")["reject"]["kept"]["value"] == 1.0


@pytest.mark.slow
def test_negatives_are_sound_to_reject_and_give_false_alarms(recipe: Path, tmp_path: Path) -> None:
    folder = tmp_path / "others"
    folder.mkdir()
    draws = np.random.default_rng(1)
    for number in range(6):
        soundfile.write(folder / f"{number}.wav", 0.2 * draws.standard_normal(8000), 8000)
    run = toy_run(recipe, tmp_path / "run", f'reject.negatives="{folder}"', "train.epochs=1")
    found = read_json(run / "report.json")["reject"]["negatives"]
    assert found["clips"] == 3  # the others were fitted on
    assert found["seconds"] == pytest.approx(3.0)
    windows = found["false_alarms_per_hour"] * 3 / 3600
    assert windows == pytest.approx(round(windows), abs=1e-6)
    assert 0 <= windows <= 15
    manifest = tmp_path / "others.csv"
    rows = "".join(f"{folder / f'{number}.wav'},noise\n" for number in range(6))
    manifest.write_text(f"path,label\n{rows}", encoding="utf-8")
    again = toy_run(recipe, tmp_path / "again", f'reject.negatives="{manifest}"', "train.epochs=1")
    assert read_json(again / "report.json")["reject"]["negatives"] == found


@pytest.mark.parametrize("made", ["nowhere", "empty", "broken"])
def test_negatives_that_cannot_be_used_are_refused_before_any_training(made: str, recipe: Path, tmp_path: Path) -> None:
    folder = tmp_path / made
    if made != "nowhere":
        folder.mkdir()
    if made == "broken":
        (folder / "a.wav").write_bytes(b"no sound")
    with pytest.raises((DataError, RecipeError), match=made):
        toy_run(recipe, tmp_path / "run", f'reject.negatives="{folder}"')
    assert not (tmp_path / "run" / "checkpoints").exists()


@pytest.mark.parametrize("keep", ["0", "1.5", "-1", '"most"'])
def test_a_share_out_of_range_is_a_mistake_of_the_recipe(keep: str, recipe: Path) -> None:
    with pytest.raises(RecipeError, match=r"reject\.keep"):
        soundbench.read_recipe(recipe, [f"reject.keep={keep}"])


# Classes left out


@pytest.mark.slow
def test_a_class_left_out_is_not_trained_on_and_is_reported(recipe: Path, tmp_path: Path) -> None:
    text = recipe.read_text(encoding="utf-8").replace("ToyDataset", "ToyThree")
    (tmp_path / "three.toml").write_text(text, encoding="utf-8")
    run = Path(
        done(command("run", tmp_path / "three.toml", "--leave-out", "clicks", "--out", tmp_path / "run")).strip()
    )
    report = read_json(run / "report.json")
    assert report["classes"] == ["low", "high"]
    (row,) = report["left_out"]
    assert row["class"] == "clicks"
    assert row["clips"] == 133
    assert 0 <= row["false_positive_rate_at_95"] <= 1
    assert 0 <= row["auroc"] <= 1
    assert "clicks" not in (run / "clips.csv").read_text(encoding="utf-8")
    assert toml.parse((run / "recipe.toml").read_bytes())["reject"]["leave_out"] == ["clicks"]
    again = RunDirectory(soundbench.run(run / "recipe.toml", out=tmp_path / "again").path)
    assert read_json(again.report_json)["left_out"] == report["left_out"]
    same = RunDirectory(soundbench.run(tmp_path / "three.toml", out=tmp_path / "same", leave_out=["clicks"]).path)
    assert read_json(same.report_json)["left_out"] == report["left_out"]


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        (["clikcs"], 'the dataset has no class "clikcs"; did you mean "clicks"? known: low, high, clicks'),
        (["low", "high"], "leaves 1 of the 3 classes; training needs two"),
    ],
)
def test_a_class_that_cannot_be_left_out_is_refused_in_one_line(
    classes: list[str], message: str, recipe: Path, tmp_path: Path
) -> None:
    text = recipe.read_text(encoding="utf-8").replace("ToyDataset", "ToyThree")
    (tmp_path / "three.toml").write_text(text, encoding="utf-8")
    with pytest.raises(CallError) as raised:
        soundbench.run(tmp_path / "three.toml", out=tmp_path / "run", leave_out=classes)
    assert str(raised.value) == f"--leave-out (reject.leave_out): {message}"


@pytest.mark.slow
def test_two_processes_fit_the_same_calibration_and_thresholds_as_one(recipe: Path, run: Path, tmp_path: Path) -> None:
    """Trained by one process; the last stages, by two: a finished run without its last files is resumed."""
    copies = [tmp_path / name for name in ("one", "two")]
    for copy in copies:
        shutil.copytree(run, copy)
        (copy / "digests.json").unlink()
        (copy / "report.json").unlink()
        (copy / "model" / "reject.safetensors").unlink()
    done(command("run", "--resume", copies[0], "--trust-code", "--accept-changes"))
    done(command("run", "--resume", copies[1], "--trust-code", "--accept-changes", "--processes", "2"))
    whole, one, two = (tables(folder) for folder in (run, *copies))
    assert read_json(run / "report.json")["calibration"]["clips"] >= 50  # it was fitted
    for kind in ("calibration", "reject"):
        assert one[kind] == whole[kind]
        near(two[kind], one[kind])
    reports = [read_json(copy / "report.json") for copy in copies]
    for kind in ("reject", "calibration", "metrics"):
        near(reports[1][kind], reports[0][kind])


def test_evaluate_uses_what_the_run_fitted(run: Path, tmp_path: Path) -> None:
    folder = RunDirectory(soundbench.evaluate(run, out=tmp_path / "evaluation", trust_code=True).path)
    assert read_predictions(folder).rejected.tolist() == read_predictions(RunDirectory(run)).rejected.tolist()
    found, own = read_json(folder.report_json)["reject"], read_json(run / "report.json")["reject"]
    assert found["kept"]["value"] == own["kept"]["value"]
    assert found["accuracy_of_kept"]["value"] == own["accuracy_of_kept"]["value"]


@pytest.mark.slow
def test_thresholds_are_fitted_on_the_scores_of_all_folds(recipe: Path, tmp_path: Path) -> None:
    soundbench.run_folds(soundbench.read_recipe(recipe, ["train.epochs=1"]), out=tmp_path / "folds")
    folds = RunDirectory(tmp_path / "folds")
    pooled = read_json(folds.report_json)["reject"]
    assert 0 < pooled["kept"]["value"] <= 1
    assert pooled["silence"]["unknown"] == 1.0
    sets = [f'reject.predictions="{folds.logits}"', "reject.noise=false", "split.validation=0", "train.epochs=1"]
    with pytest.raises(RunError, match=r"100 of its clips are in the test set.* leave reject\.predictions out"):
        toy_run(recipe, tmp_path / "refused", *sets)
    sets += ["split.test=0"]
    fitted = tables(toy_run(recipe, tmp_path / "run", *sets))["reject"]
    held_out = logits.read(folds.logits)
    means = np.bincount(held_out.clip, weights=held_out.reject) / np.bincount(held_out.clip)
    assert np.mean(means >= fitted["clip_threshold"]) == pytest.approx(0.95, abs=1 / len(means))
    assert np.mean(held_out.reject >= fitted["window_threshold"]) == pytest.approx(0.95, abs=2 / len(held_out.reject))


@pytest.mark.slow
def test_without_validation_sets_what_folds_keep_is_by_the_threshold_of_the_others(
    recipe: Path, tmp_path: Path
) -> None:
    sets = ["split.validation=0", "train.epochs=1"]
    run = RunDirectory(soundbench.run_folds(soundbench.read_recipe(recipe, sets), out=tmp_path / "folds").path)
    found = read_json(run.report_json)["reject"]
    kept = 0
    each = [logits.read(fold / "logits.safetensors") for fold in sorted(run.path.glob("fold-*"))]
    means = [np.bincount(one.clip, weights=one.reject) / np.bincount(one.clip) for one in each]
    for place, own in enumerate(means):
        others = np.sort(np.concatenate(means[:place] + means[place + 1 :]))
        kept += int((own >= others[len(others) // 20]).sum())  # what keeps 95% of them
    assert found["kept"]["value"] == pytest.approx(kept / sum(map(len, means)), abs=0.011)  # it lies between two scores
    assert "reason" not in found
    assert "What is kept is by the threshold of the test clips of the other folds." in run.report_md.read_text()


def test_what_is_learnt_of_training_sound_is_learnt_from_some_clips_of_each_class(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    table = table_of([Clip(f"{number}.wav", ("b" if number % 50 == 0 else "a",)) for number in range(1000)], ("a", "b"))
    everything = np.arange(1000)
    assert fitting._few_of_each(table, everything).tolist() == everything.tolist()
    monkeypatch.setattr(fitting, "MOST_CLIPS", 100)
    few = fitting._few_of_each(table, everything)
    counts = np.bincount(table.label_codes[few], minlength=2)
    assert counts[1] == 20  # all there are
    assert 45 <= counts[0] <= 50
    assert (np.diff(few) > 0).all()
    assert np.diff(few).max() <= 30  # from all over the table
