"""A run's calibration: what it is fitted on, where it is kept, and what scores are then."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from helpers.runs import RECIPE, toy_run
from helpers.toys import ToyDataset

import soundbench
from soundbench.errors import SoundbenchError
from soundbench.files import read_rows
from soundbench.model import logits
from soundbench.recipe import toml
from soundbench.report.run_directory import RunDirectory, read_predictions
from soundbench.training import finishing

SETS = ("dataset.clips=400", "train.epochs=1", "split.validation=0.25")


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("recipes") / "toy.toml"
    path.write_text(RECIPE)
    return path


@pytest.fixture(scope="module")
def run(recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    return RunDirectory(toy_run(recipe, tmp_path_factory.mktemp("runs") / "run", *SETS))


def of_part(run: RunDirectory, part: str) -> list[tuple[np.ndarray, int]]:
    """The sounds of a part's clips."""
    names = [row["path"] for row in read_rows(run.clips, "part", "path") if row["part"] == part]
    clips = {clip.path: clip for clip in ToyDataset(clips=400).clips()}
    return [ToyDataset(clips=400).read(clips[name]) for name in names]


def test_it_is_fitted_on_the_validation_windows_and_kept_in_the_model(run: RunDirectory) -> None:
    classifier = soundbench.load(run.path, trust_code=True)
    windows = []
    for samples, rate in of_part(run, "validation"):
        flow = classifier.flow([samples], rate, compute=classifier.scorer.logits)
        windows += [one.values for one in flow if hasattr(one, "values")]
    tables = toml.parse(run.model_toml.read_bytes())
    assert tables["calibration"]["divisor"] == pytest.approx(np.square(windows).mean(dtype=np.float64), rel=1e-5)
    report = json.loads(run.report_json.read_text())["calibration"]
    assert report["source"] == "validation set"
    assert report["clips"] == len(of_part(run, "validation")) >= 50
    assert set(report["before"]) == set(report["after"])
    assert report["before"] != report["after"]


def test_scores_are_calibrated_everywhere_and_logits_are_there(run: RunDirectory) -> None:
    classifier = soundbench.load(run.path, trust_code=True)
    divisor = toml.parse(run.model_toml.read_bytes())["calibration"]["divisor"]
    sounds = [samples for samples, _ in of_part(run, "test")]
    scores = classifier.predict_proba(sounds, 8000)
    np.testing.assert_allclose(read_predictions(run).scores, scores, atol=1e-5)
    one = next(samples for samples in sounds if len(samples) <= 1600)  # a single window
    logit = classifier.predict_logits(one, 8000)[0] / divisor
    np.testing.assert_allclose(
        classifier.predict(one, 8000).probabilities, np.exp(logit) / np.exp(logit).sum(), atol=1e-5
    )


def test_the_logits_of_the_test_set_are_kept(run: RunDirectory) -> None:
    kept = logits.read(run.logits, ["low", "high"])
    found = read_predictions(run)
    assert kept.clips == len(found.clips)
    assert kept.groups == len(set(found.groups))
    np.testing.assert_array_equal(kept.target, found.targets)


def test_too_few_validation_clips_fit_nothing_and_the_report_says_so(recipe: Path, tmp_path: Path) -> None:
    said: list[str] = []
    small = RunDirectory(toy_run(recipe, tmp_path / "run", "train.epochs=1", say=said.append))
    report = json.loads(small.report_json.read_text())["calibration"]
    assert report["reason"] == "fewer than 50 clips or 5 groups"
    assert report["before"] == report["after"]
    assert "divisor" not in toml.parse(small.model_toml.read_bytes())["calibration"]
    assert [line for line in said if line.startswith("calibration")] == [
        f"calibration: {report['use']}, not fitted on {report['clips']} clips of {report['groups']} groups "
        "(validation set): fewer than 50 clips or 5 groups"
    ]


@pytest.mark.parametrize(
    ("given", "sentence", "line"),
    [
        (
            (),
            "The scores are not calibrated: ToyCalibration was not fitted: there is no validation set.",
            "ToyCalibration, not fitted: there is no validation set",
        ),
        (
            ("calibration.divisor=1.5",),
            "The scores are calibrated by ToyCalibration.",
            "ToyCalibration, as the recipe gives it",
        ),
        (
            ("calibration.divisor=1.5", "split.validation=0.25"),
            "The scores are calibrated by ToyCalibration.",
            "ToyCalibration, as the recipe gives it",
        ),
        (('calibration="none"',), "The scores are not calibrated: the recipe asks for none.", ""),
    ],
)
def test_where_nothing_is_fitted_scores_are_calibrated_only_by_what_the_recipe_gives(
    recipe: Path, tmp_path: Path, given: tuple[str, ...], sentence: str, line: str
) -> None:
    said: list[str] = []
    sets = ("train.epochs=1", "split.validation=0", *given)
    run = RunDirectory(toy_run(recipe, tmp_path / "run", *sets, say=said.append))
    report = json.loads(run.report_json.read_text())["calibration"]
    assert report.get("reason") == ("there is no validation set" if not given else None)
    assert (report["before"] == report["after"]) is ("not calibrated" in sentence)
    for page in (run.report_md, run.report_html, run.card):
        shown = page.read_text(encoding="utf-8").replace("./model/code/toys.py:", "").replace("toys.py:", "")
        assert sentence in shown
    shown_lines = [one.partition("toys.py:")[2] for one in said if one.startswith("calibration")]
    assert shown_lines == ([line] if line else [])


def test_an_evaluation_of_scores_that_were_never_calibrated_says_so(recipe: Path, tmp_path: Path) -> None:
    run = toy_run(recipe, tmp_path / "run", "train.epochs=1", "split.validation=0")
    found = soundbench.evaluate(run, out=tmp_path / "again", trust_code=True)
    report = RunDirectory(found.path).report_md.read_text(encoding="utf-8")
    assert "The scores are not calibrated: " in report
    assert "The scores are calibrated by" not in report


@pytest.fixture(scope="module")
def folds(recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    made = soundbench.read_recipe(recipe, ["dataset.clips=80", "train.epochs=1", "split.validation=0"])
    path = tmp_path_factory.mktemp("runs") / "folds"
    soundbench.run_folds(made, out=path)
    return RunDirectory(path)


def test_folds_without_validation_are_calibrated_on_one_another_and_keep_all_logits(folds: RunDirectory) -> None:
    kept = logits.read(folds.logits)
    assert kept.clips == 80
    report = json.loads(folds.report_json.read_text())["calibration"]
    assert report["source"] == "the test clips of the other folds"
    assert report["before"] != report["after"]


def test_folds_with_a_given_calibration_are_not_said_to_be_calibrated_on_one_another(
    recipe: Path, tmp_path: Path
) -> None:
    sets = ["dataset.clips=80", "train.epochs=1", "split.validation=0", "calibration.divisor=1.5"]
    soundbench.run_folds(soundbench.read_recipe(recipe, sets), out=tmp_path / "folds")
    report = json.loads(RunDirectory(tmp_path / "folds").report_json.read_text())["calibration"]
    assert "source" not in report
    assert report["before"] != report["after"]


def test_it_is_fitted_on_logits_that_the_recipe_names(recipe: Path, folds: RunDirectory, tmp_path: Path) -> None:
    sets = ("dataset.clips=80", "train.epochs=1", "split.validation=0", "split.test=0")
    said: list[str] = []
    everything = toy_run(recipe, tmp_path / "run", *sets, f'calibration.predictions="{folds.logits}"', say=said.append)
    found = RunDirectory(everything)
    parts = [row["part"] for row in read_rows(found.clips, "part")]
    assert parts == ["train"] * 80
    report = json.loads(found.report_json.read_text())
    assert report["metrics"] == {}
    assert not found.predictions.exists()
    divisor = toml.parse(found.model_toml.read_bytes())["calibration"]["divisor"]
    assert divisor == pytest.approx(np.square(logits.read(folds.logits).logits, dtype=np.float64).mean(), rel=1e-6)
    assert "no test set" in said[-1] or "no test set" in said[-2]
    assert "no test set" in found.report_md.read_text()
    assert soundbench.load(found.path, trust_code=True).predict(np.ones(800, np.float32), 8000).label in ("low", "high")


@pytest.mark.parametrize("content", [b"", b"junk", b"\x08\x00\x00\x00\x00\x00\x00\x00{}      "])
def test_a_file_that_holds_no_logits_is_refused_in_one_line(recipe: Path, tmp_path: Path, content: bytes) -> None:
    wrong = tmp_path / "wrong.safetensors"
    wrong.write_bytes(content)
    with pytest.raises(SoundbenchError, match=r"wrong\.safetensors: not the logits of a run: .+") as caught:
        toy_run(recipe, tmp_path / "run", f'calibration.predictions="{wrong}"')
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run" / "clips.csv").exists()


def test_logits_of_other_classes_are_refused(recipe: Path, tmp_path: Path) -> None:
    other = logits.HeldOutLogits(
        ("low", "deep"), np.zeros((2, 2), np.float32), np.arange(2), np.eye(2, dtype=np.uint8), *[np.arange(2)] * 2
    )
    logits.write(tmp_path / "other.safetensors", other)
    with pytest.raises(SoundbenchError, match=r"its classes are 'low', 'deep'; those of the data are 'low', 'high'"):
        toy_run(recipe, tmp_path / "run", f'calibration.predictions="{tmp_path / "other.safetensors"}"')


def test_nothing_is_fitted_on_clips_of_the_test_set(recipe: Path, folds: RunDirectory, tmp_path: Path) -> None:
    sets = ("dataset.clips=80", f'calibration.predictions="{folds.logits}"')
    with pytest.raises(SoundbenchError, match="20 of its clips are in the test set, which nothing may be fitted on"):
        toy_run(recipe, tmp_path / "run", *sets)


def test_of_very_many_logits_every_nth_clip_is_fitted_on(monkeypatch: pytest.MonkeyPatch) -> None:
    clip = np.array([0, 0, 1, 2, 2, 3, 4])
    held_out = logits.HeldOutLogits(
        ("a", "b"), np.arange(14, dtype=np.float32).reshape(7, 2), clip, np.eye(2, dtype=np.uint8)[[0, 1, 0, 1, 0]],
        *[np.arange(5)] * 2,
    )  # fmt: skip
    monkeypatch.setattr(finishing, "MOST_LOGITS", 7)
    thin = finishing._thinned(held_out)
    assert thin.logits[:, 0].tolist() == [0, 2, 6, 8, 12]
    assert thin.clip.tolist() == [0, 0, 1, 1, 2]
    assert thin.group.tolist() == [0, 2, 4]
