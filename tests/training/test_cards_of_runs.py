"""Every run writes a card beside its model: no part of what digests cover, kept where it was edited."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from helpers.runs import RECIPE, toy_run

import soundbench
from soundbench import files
from soundbench.report.card import front_matter
from soundbench.report.run_directory import RunDirectory

pytestmark = pytest.mark.usefixtures("cache")

SETS = ("train.epochs=1", "dataset.clips=80", "split.validation=0")


def test_a_run_writes_a_card_and_keeps_it_once_somebody_has_edited_it(recipe: Path, tmp_path: Path) -> None:
    run = RunDirectory(toy_run(recipe, tmp_path / "run", 'report.license="MIT"', "train.epochs=1"))
    text = run.card.read_text(encoding="utf-8")
    assert front_matter.is_as_written(text)
    assert front_matter.scalar_of(text, "license") == "mit"
    figure = files.read_json(run.report_json)["metrics"]["accuracy"]
    assert front_matter.facts_of(text)["figures"]["accuracy"] == figure
    run.card.write_text(text + "Mine.\n", encoding="utf-8")
    said: list[str] = []
    soundbench.resume(run.path, trust_code=True, say=said.append)
    assert said == [f"{run.path}: this run is finished; nothing to resume"]
    run.report_md.unlink()
    soundbench.resume(run.path, trust_code=True, say=said.append)
    assert run.report_md.exists()
    assert run.card.read_text(encoding="utf-8") == text + "Mine.\n"
    assert [line for line in said if "README.md" in line] == [
        f"{run.card}: was edited, and is kept as it is; for a new one, remove it and call soundbench report {run.path}"
    ]
    assert soundbench.load(run.path, trust_code=True).classes
    run.card.unlink()
    assert soundbench.load(run.model, trust_code=True).classes


@pytest.fixture(scope="module")
def folds(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    """A cross-validation."""
    folder = tmp_path_factory.mktemp("crossed")
    (folder / "toy.toml").write_text(RECIPE)
    made = soundbench.read_recipe(folder / "toy.toml", SETS)
    return RunDirectory(soundbench.run_folds(made, out=folder / "folds", cache=False).path)


def test_a_model_of_all_clips_has_the_figures_of_the_cross_validation_that_calibrates_it(
    recipe: Path, folds: RunDirectory, tmp_path: Path
) -> None:
    pooled = files.read_json(folds.report_json)
    everything = [*SETS, "split.test=0", f'calibration.predictions="{folds.logits}"']
    run = RunDirectory(toy_run(recipe, tmp_path / "run", *everything))
    text = run.card.read_text(encoding="utf-8")
    facts = front_matter.facts_of(text)
    assert facts["figures"]["accuracy"] == pooled["metrics"]["accuracy"]
    assert (facts["clips"], facts["groups"]) == (pooled["clips"], pooled["groups"])
    assert "This network has learnt from all clips, and was not tested itself." in text
    assert "nothing is known" not in text
    assert "the last epoch was tested" not in text
    assert "each fold calibrated on the test clips of the other folds.\n" in text
    hub = {
        one["type"]: one["value"]
        for one in yaml.safe_load(text.split("\n---\n")[0])["model-index"][0]["results"][0]["metrics"]
    }
    for name in ("negative_log_likelihood", "brier_score", "expected_calibration_error"):
        after = pooled["calibration"]["after"][name]
        assert after != pooled["metrics"][name]["value"]
        assert hub[name] == after
        assert facts["figures"][name] == {"value": after, "low": None, "high": None}
    assert f"| Brier score (lower is better) | {pooled['calibration']['after']['brier_score']:.3f} | - |" in text
    assert "Log loss, Brier score and calibration error are of calibrated scores, as this model gives them" in text
    assert "soundbench run recipe.toml --folds all --out folds\n" in text
    assert f"for each of {len(pooled['folds'])} folds was trained on the other folds" in facts["protocol"]


def test_a_given_calibration_is_not_that_of_the_cross_validation(
    recipe: Path, folds: RunDirectory, tmp_path: Path
) -> None:
    given = [*SETS, "split.test=0", f'calibration.predictions="{folds.logits}"', "calibration.divisor=1.5"]
    text = RunDirectory(toy_run(recipe, tmp_path / "run", *given)).card.read_text(encoding="utf-8")
    assert "All these figures are of scores that are not calibrated." in text
    assert "The scores are calibrated by ./model/code/toys.py:ToyCalibration." in text.replace("`", "")
    assert "the test clips of the other folds" not in text


def test_the_card_says_what_the_weights_at_the_start_learnt_from(recipe: Path, tmp_path: Path) -> None:
    quick, licence = ("train.epochs=1", "dataset.clips=80"), 'report.data_license="CC0-1.0"'
    first = RunDirectory(toy_run(recipe, tmp_path / "first", *quick, 'report.data_license="CC-BY-3.0"'))
    second = RunDirectory(toy_run(recipe, tmp_path / "second", *quick, licence, f'init.from="{first.model}"'))
    text = second.card.read_text(encoding="utf-8")
    assert "\nIt began with the weights of first (ToyDataset, CC-BY-3.0).\n" in text
    assert "- Licence of the data: CC0-1.0; first: CC-BY-3.0.\n" in text
    assert "- Licence of the model: **not stated**; first: **not stated**.\n" in text
    assert front_matter.facts_of(text)["data_license"] == "CC0-1.0; first: CC-BY-3.0"
    assert str(tmp_path) not in text

    third = RunDirectory(toy_run(recipe, tmp_path / "third", *quick, f'init.from="{second.path}"'))
    assert (
        "\nIt began with the weights of second (ToyDataset, CC0-1.0), "
        "which began with those of first (ToyDataset, CC-BY-3.0).\n"
    ) in third.card.read_text(encoding="utf-8")


def test_weights_of_which_nothing_is_known_leave_licences_incomplete(recipe: Path, tmp_path: Path) -> None:
    quick = ("train.epochs=1", "dataset.clips=80")
    first = RunDirectory(toy_run(recipe, tmp_path / "first", *quick))
    bare = tmp_path / "bare.safetensors"
    bare.write_bytes((first.model / "weights.safetensors").read_bytes())
    stated = ('report.data_license="CC0-1.0"', 'report.license="MIT"', f'init.from="{bare}"')
    text = RunDirectory(toy_run(recipe, tmp_path / "run", *quick, *stated)).card.read_text(encoding="utf-8")
    assert "It began with the weights of bare.safetensors (what these learnt from is not stated here)." in text
    assert "- Licence of the data: CC0-1.0; bare.safetensors: **not stated**.\n" in text
    assert "- Licence of the model: MIT; bare.safetensors: **not stated**.\n" in text
    assert front_matter.facts_of(text)["data_license"] == "CC0-1.0; bare.safetensors: not stated"


def test_the_figures_of_another_recipe_are_not_taken(recipe: Path, folds: RunDirectory, tmp_path: Path) -> None:
    other = [*SETS, "split.test=0", f'calibration.predictions="{folds.logits}"', "train.epochs=2", "train.keep=2"]
    said: list[str] = []
    run = RunDirectory(toy_run(recipe, tmp_path / "run", *other, say=said.append))
    assert f"the card has no figures of {folds.path}: its recipe is another one, by train.epochs" in said
    text = run.card.read_text(encoding="utf-8")
    assert "No test set: nothing is known" in text
    assert "--folds" not in text
    assert "fitted to predictions from elsewhere, which this recipe does not make, in `calibration`:" in text
