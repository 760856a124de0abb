"""Run directories of older formats resume, are evaluated and repeated with the split that they had."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.runs import toy_run, weights

import soundbench
from soundbench import files
from soundbench.model import folder as model_folder
from soundbench.report.run_directory import RunDirectory
from soundbench.training.environment import accept_recipe

pytestmark = pytest.mark.usefixtures("cache")

DRAWN = ("split.test=0.25", "train.epochs=2")


def as_format_1(run: Path) -> None:
    """Write `recipe.toml` and `model.toml` as format 1 had them, in which `split.seed` did not exist."""
    for path, text in (("recipe.toml", 'crossing = "purge"\nseed = 7\n'), ("model/model.toml", "")):
        now = (run / path).read_text()
        assert text in now
        assert now.count("format = 2\n") == 1
        (run / path).write_text(now.replace("format = 2\n", "format = 1\n").replace(text, text[:-9]))
    accept_recipe(RunDirectory(run))
    model_folder.accept(run / "model")


def parts(run: Path) -> dict[str, str]:
    return {row["path"]: row["part"] for row in files.read_rows(run / "clips.csv")}


def test_a_run_of_format_1_keeps_its_split(recipe: Path, tmp_path: Path) -> None:
    run = toy_run(recipe, tmp_path / "run", *DRAWN, "train.seed=7", "split.seed=7")
    had, scores, trained = parts(run), (run / "predictions.csv").read_bytes(), weights(run)
    as_format_1(run)
    assert "seed = 7" in (run / "recipe.toml").read_text()  # that of training

    evaluation = soundbench.evaluate(run, trust_code=True)
    assert evaluation.directory.predictions.read_bytes() == scores

    repeated = toy_run(run / "recipe.toml", tmp_path / "repeated")
    assert parts(repeated) == had
    assert weights(repeated) == trained

    for name in ("digests.json", "report.json", "predictions.csv"):
        (run / name).unlink()
    soundbench.resume(run, trust_code=True)
    assert parts(run) == had
    assert (run / "predictions.csv").read_bytes() == scores


def test_the_seed_of_training_no_longer_draws_the_split(recipe: Path, tmp_path: Path) -> None:
    drawn = [
        parts(toy_run(recipe, tmp_path / str(number), "split.test=0.25", "train.epochs=1", *sets))
        for number, sets in enumerate([(), ("train.seed=7",), ("split.seed=7",)])
    ]
    assert drawn[0] == drawn[1]
    assert drawn[0] != drawn[2]
