"""Comparing what runs, folds and evaluations really leave."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.runs import toy_run

import soundbench
from soundbench import files
from soundbench.errors import CallError
from soundbench.studies.comparing.comparison import compare

pytestmark = pytest.mark.usefixtures("cache")

SHORT = ("train.epochs=1",)


def test_runs_of_two_seeds_and_an_evaluation_of_one_are_compared(recipe: Path, tmp_path: Path) -> None:
    runs = [toy_run(recipe, tmp_path / f"seed-{seed}", *SHORT, f"train.seed={seed}") for seed in (1, 2)]
    found = compare(runs)
    assert [run.name for run in found.runs] == ["seed-1", "seed-2"]
    assert (found.clips, found.groups) == (16, 8)
    described = soundbench.describe(soundbench.read_recipe(recipe))
    for run in found.runs:
        assert (run.parameters, run.macs) == (described["parameters"], described["macs"])
        assert run.seconds is not None

    again = soundbench.evaluate(runs[0], trust_code=True)
    (pair,) = compare([runs[0], again.path]).pairs
    assert [one.value for one in pair.differences] == [0, 0]
    assert files.read_json(again.directory.report_json)["macs"] == described["macs"]

    last = soundbench.evaluate(runs[1], trust_code=True)
    assert compare([again.path, last.path]).pairs[0].differences == compare(runs).pairs[0].differences

    other = toy_run(recipe, tmp_path / "other", *SHORT, "split.test=[3]")
    with pytest.raises(
        CallError, match=r"cannot be compared: split\.test is \[4\] in the first and \[3\] in the second"
    ):
        compare([runs[0], other])


@pytest.mark.slow
def test_folds_are_compared_with_folds(recipe: Path, tmp_path: Path) -> None:
    runs = [
        soundbench.run_folds(
            soundbench.read_recipe(recipe, [*SHORT, f"train.seed={seed}"]), out=tmp_path / str(seed)
        ).path
        for seed in (1, 2)
    ]
    found = compare(runs)
    assert (found.clips, found.groups) == (64, 32)
    for run, path in zip(found.runs, runs, strict=True):
        report = files.read_json(path / "report.json")
        assert run.metrics["accuracy"].value == report["metrics"]["accuracy"]["value"]
        assert run.parameters == files.read_json(path / "fold-01" / "report.json")["parameters"] == report["parameters"]
    values = [run.metrics["accuracy"].value for run in found.runs]
    assert found.pairs[0].differences[0].value == pytest.approx(values[1] - values[0])

    with pytest.raises(CallError, match=r"split\.test is \[1\] in the first and \"each fold in turn\" in the second"):
        compare([runs[0] / "fold-01", runs[1]])
