"""Figures by the values of a column: of a run, of all folds, of an evaluation; and columns that are not there."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from helpers import toys
from helpers.runs import RECIPE, toy_run

import soundbench
from soundbench import files
from soundbench.cli.main import invoke
from soundbench.errors import RecipeError, RunError
from soundbench.report.run_directory import RunDirectory

pytestmark = pytest.mark.usefixtures("cache")
MINE = Path(__file__)
SITED = (f'dataset={{use="{MINE}:Sited", clips=64}}', "train.epochs=1")


class Sited(toys.ToyDataset):
    """Toy data from three sites; of some clips the site is not known. A column is called like one of `clips.csv`."""

    @property
    def fingerprint(self) -> str:
        return f"sited {self.count}"

    def clips(self) -> Iterator[soundbench.Clip]:
        for number, clip in enumerate(super().clips()):
            site = ("north", "south|<b>", "東", None)[number // 2 % 7 % 4]
            yield soundbench.Clip(
                clip.path,
                clip.labels,
                fold=clip.fold,
                group=clip.group,
                extra={"part": f"row {number % 2}"} | ({"site": site} if site else {}),
            )


def report_of(run: Path) -> dict[str, Any]:
    return json.loads((run / "report.json").read_text(encoding="utf-8"))


def check(run: Path, report: dict[str, Any], columns: Sequence[str]) -> None:
    """Every test clip counts once in each column, and the figures are those of its rows in `predictions.csv`."""
    sites = {clip.path: dict(clip.extra) | {"fold": str(clip.fold)} for clip in Sited(clips=64).clips()}
    folds = sorted(run.glob("fold-*")) or [run]
    rows = [row for fold in folds for row in files.read_rows(fold / "predictions.csv")]
    assert list(report["by"]) == list(columns)
    for column in columns:
        values = report["by"][column]
        assert sum(one["clips"] for one in values) == len(rows) == report["clips"]
        accuracies = [one["metrics"]["accuracy"]["value"] for one in values]
        assert accuracies == sorted(accuracies)
        for one in values:
            own = [row for row in rows if sites[row["path"]].get(column, "") == one["value"]]
            assert one["clips"] == len(own)
            assert one["groups"] == len({row["group"] for row in own})
            right = np.mean([row["label"] == row["predicted"] for row in own])
            assert one["metrics"]["accuracy"]["value"] == pytest.approx(right)
            assert set(one["metrics"]) == set(report["metrics"])
            assert (one["metrics"]["accuracy"]["low"] is None) == (one["groups"] == 1)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with figures by value."""
    folder = tmp_path_factory.mktemp("by-value")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SOUNDBENCH_CACHE", str(folder / "cache"))
        recipe = folder / "toy.toml"
        recipe.write_text(RECIPE)
        return toy_run(recipe, folder / "run", *SITED, 'report.by=["site", "part", "fold"]', say=lambda _: None)


def test_a_run_and_its_evaluation_give_figures_by_value(run: Path) -> None:
    check(run, report_of(run), ["site", "part", "fold"])
    assert {one["value"] for one in report_of(run)["by"]["site"]} == {"north", "south|<b>", "東", ""}
    page = (run / "report.md").read_text(encoding="utf-8")
    assert page.index("## By site\n\nWorst: ") < page.index("## By part") < page.index("## By fold")
    assert "south\\|\\<b\\>" in page

    again = soundbench.evaluate(run, trust_code=True, say=lambda _: None)
    assert report_of(again.path)["by"] == report_of(run)["by"]


def test_all_folds_are_pooled_by_value(recipe: Path, tmp_path: Path) -> None:
    made = soundbench.read_recipe(recipe, [*SITED, 'report.by=["site", "part", "fold"]'])
    run = soundbench.run_folds(made, out=tmp_path / "folds", say=lambda _: None).path
    report = report_of(run)
    check(run, report, ["site", "part", "fold"])
    each = {one["value"]: one["metrics"]["accuracy"]["value"] for one in report["by"]["fold"]}
    assert each == {str(fold["test"][0]): fold["metrics"]["accuracy"]["value"] for fold in report["folds"]}

    clips = run / "fold-02" / "clips.csv"
    lines = clips.read_text(encoding="utf-8").splitlines(keepends=True)
    clips.write_text("".join(line for line in lines if not line.startswith("test")), encoding="utf-8")
    (run / "report.json").unlink()
    with pytest.raises(RunError, match=r"clips\.csv: damaged: it has no row for \d+, which was tested"):
        soundbench.training.folds._pool(
            made, [RunDirectory(run / f"fold-0{fold}") for fold in range(1, 5)], [1, 2, 3], []
        )


def test_an_unknown_column_is_refused_before_any_sound_is_read(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(toys.ToyDataset, "read", lambda *_: pytest.fail("sound was read"))
    expected = 'report.by[1]: the clips have no column "sit"; did you mean "site"? columns: fold, group, part, site'
    made = soundbench.read_recipe(recipe, [*SITED, 'report.by=["fold", "sit"]'])
    for train in (soundbench.run, soundbench.run_folds):
        with pytest.raises(RecipeError) as caught:
            train(made, out=tmp_path / "run", say=lambda _: None)
        assert str(caught.value).endswith(expected)
        assert "\n" not in str(caught.value)
        assert not (tmp_path / "run").exists()


def test_data_check_refuses_an_unknown_column_too(recipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["data", "check", str(recipe), "--set", 'report.by=["sitee"]']) == 2
    assert 'report.by[0]: the clips have no column "sitee"; columns: fold, group' in capsys.readouterr().err


def test_an_evaluation_refuses_a_recipe_s_unknown_column_and_notes_one_that_a_manifest_lacks(
    recipe: Path, run: Path, tmp_path: Path
) -> None:
    wrong = soundbench.read_recipe(recipe, ['report.by=["room"]'])
    with pytest.raises(RecipeError, match=r'report\.by\[0\]: the clips have no column "room"; columns: fold, group'):
        soundbench.evaluate(run, wrong, trust_code=True, say=lambda _: None)

    for label in ("low", "high"):
        (tmp_path / "sounds" / label).mkdir(parents=True)
        noise = np.random.default_rng(0).standard_normal(1600) * 0.1
        soundfile.write(tmp_path / "sounds" / label / "one.wav", noise, 8000)
    done = soundbench.evaluate(run, tmp_path / "sounds", trust_code=True, say=lambda _: None)
    assert list(report_of(done.path)["by"]) == ["fold"]
    note = "no figures by 'site', 'part': these clips have no such column"
    assert report_of(done.path)["protocol"]["notes"][-1] == note
