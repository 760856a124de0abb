"""The summary of a sweep: means, deviations, intervals and components of variance against independent ones."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.clock import within
from helpers.sweeps import finish, finish_several, made_cell
from scipy import special, stats
from sklearn.metrics import average_precision_score

from soundbench.errors import RunError
from soundbench.studies.cells import Cell
from soundbench.studies.folder import SweepFolder
from soundbench.studies.summary import components
from soundbench.studies.summary_pages import summarize
from soundbench.studies.sweep import standing_of


def results(folder: Path, cells: list[Cell], right: dict[str, Any], groups: list[str]) -> dict[str, Any]:
    """The summary of cells with these clips right."""
    where = SweepFolder(folder)
    for cell in cells:
        if cell.name in right:
            finish(where.run(cell), cell.recipe, right[cell.name], groups)
    summarize(where, cells, standing_of(where, cells))
    found: dict[str, Any] = json.loads((folder / "summary.json").read_text())
    return found


def drawn(clips: int, groups: int, seeds: int) -> tuple[np.ndarray, list[str]]:
    """Which clips each seed predicts right, `(seeds, clips)`, and uneven groups that share some luck."""
    random = np.random.default_rng(4)
    group = np.minimum((groups * random.random(clips) ** 2).astype(int), groups - 1)
    luck = random.normal(0.8, 1, groups)[group] + random.normal(0, 1, (seeds, clips))
    return luck > 0, [f"group {number}" for number in group]


def test_a_row_has_the_mean_over_seeds_of_the_accuracy_of_all_folds(tmp_path: Path) -> None:
    cells = [made_cell({"lr": lr}, fold, seed) for lr in (0.1, 0.2) for fold in (1, 2) for seed in (1, 2, 3)]
    random = np.random.default_rng(1)
    right = {cell.name: random.random(30) < (0.9 if cell.values["lr"] == 0.2 else 0.5) for cell in cells}
    found = results(tmp_path, cells, right, [f"g{number % 7}" for number in range(30)])
    assert [row["values"] for row in found["rows"]] == [{"lr": 0.2}, {"lr": 0.1}]  # best first
    for row in found["rows"]:
        pooled = [
            np.mean([right[c.name] for c in cells if c.values == row["values"] and c.seed == seed])
            for seed in (1, 2, 3)
        ]
        figure = row["metrics"]["accuracy"]
        assert figure["mean"] == pytest.approx(np.mean(pooled))
        assert figure["deviation"] == pytest.approx(np.std(pooled, ddof=1))
        assert (row["cells"], row["finished"], row["seeds"], row["folds"]) == (6, 6, 3, 2)


def test_the_interval_is_that_of_correctness_averaged_over_seeds_in_drawn_groups(tmp_path: Path) -> None:
    right, groups = drawn(300, 40, 3)
    cells = [made_cell({"lr": 0.1}, None, seed) for seed in (1, 2, 3)]
    found = results(tmp_path, cells, dict(zip([cell.name for cell in cells], right, strict=True)), groups)
    figure = found["rows"][0]["metrics"]["accuracy"]
    share, names = right.mean(axis=0), np.array(groups)
    sizes = np.array([np.count_nonzero(names == name) for name in sorted(set(groups))])
    without = np.array([share[names != name].mean() for name in sorted(set(groups))])
    error = np.sqrt((len(sizes) - 1) / len(sizes) * ((without - without.mean()) ** 2).sum())  # the jackknife's
    t = stats.t.ppf(0.975, sizes.sum() ** 2 / (sizes**2).sum() - 1)
    mean = share.mean()
    reach = t * error / (mean * (1 - mean))
    expected = special.expit(special.logit(mean) + np.array([-reach, reach]))
    assert [figure["low"], figure["high"]] == pytest.approx(expected, abs=0.004)


def test_seeds_that_agree_give_the_interval_of_one(tmp_path: Path) -> None:
    right, groups = drawn(100, 20, 1)
    cells = [made_cell({"lr": 0.1}, None, seed) for seed in (1, 2)]
    two = results(tmp_path / "two", cells, {cell.name: right[0] for cell in cells}, groups)
    one = results(tmp_path / "one", cells[:1], {cells[0].name: right[0]}, groups)
    both = [{k: found["rows"][0]["metrics"]["accuracy"][k] for k in ("mean", "low", "high")} for found in (one, two)]
    assert both[0] == pytest.approx(both[1])


def test_several_labels_a_clip_have_the_mean_average_precision_of_drawn_groups(tmp_path: Path) -> None:
    random, cells = np.random.default_rng(5), [made_cell({"lr": 0.1}, None, seed) for seed in (1, 2)]
    targets = random.random((90, 3)) < 0.4
    targets[~targets.any(axis=1), 0] = True
    groups = [f"g{number % 15}" for number in range(90)]
    scores = [targets * 0.4 + 0.6 * random.random((90, 3)) for _ in cells]
    for cell, own in zip(cells, scores, strict=True):
        finish_several(SweepFolder(tmp_path).run(cell), cell.recipe, own, targets, groups)
    row = results(tmp_path, cells, {}, groups)["rows"][0]
    figure = row["metrics"]["mean_average_precision"]
    assert figure["mean"] == pytest.approx(np.mean([average_precision_score(targets, own) for own in scores]))
    names = np.array(groups)

    def mean(rows: np.ndarray) -> float:
        return float(np.mean([average_precision_score(targets[rows], own[rows]) for own in scores]))

    without = np.array([mean(np.flatnonzero(names != f"g{one}")) for one in range(15)])
    error = np.sqrt(14 / 15 * ((without - without.mean()) ** 2).sum())  # the jackknife's
    value = figure["mean"]
    reach = stats.t.ppf(0.975, 14) * error / (value * (1 - value))
    expected = special.expit(special.logit(value) + np.array([-reach, reach]))
    assert [figure["low"], figure["high"]] == pytest.approx(expected, abs=0.02)


def test_components_of_variance_are_those_of_the_analysis_of_variance() -> None:
    random = np.random.default_rng(2)
    values = random.normal(0, 1, (5, 1)) + random.normal(0, 0.5, (5, 4))
    found = components(dict(enumerate(values.tolist())))
    ratio = stats.f_oneway(*values).statistic
    within = float(np.mean(values.var(axis=1, ddof=1)))
    assert found == pytest.approx({"seeds": within, "folds": (ratio - 1) * within / 4})


def test_components_of_variance_are_unbiased_also_where_runs_are_missing() -> None:
    random = np.random.default_rng(3)
    total = np.zeros(2)
    for _ in range(4000):
        values = random.normal(0, 2, (8, 1)) + random.normal(0, 1, (8, 3))
        lists = {fold: list(own[: 3 - fold % 2]) for fold, own in enumerate(values)}
        total += list(components(lists).values())
    assert total / 4000 == pytest.approx([4, 1], rel=0.05)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({}, {"folds": None, "seeds": None}),
        ({1: [0.5], 2: [0.7]}, {"folds": None, "seeds": None}),
        ({None: [1.0, 3.0]}, {"folds": None, "seeds": 2.0}),
        ({1: [1.0, 3.0], 2: [5.0, 7.0]}, {"folds": 7.0, "seeds": 2.0}),
        ({1: [1.0, 3.0], 2: [1.0, 3.0]}, {"folds": 0.0, "seeds": 2.0}),
    ],
)
def test_components_that_cannot_be_estimated_are_left_out(values: Any, expected: Any) -> None:
    assert components(values) == expected


def test_unfinished_and_failed_cells_are_counted_and_named(tmp_path: Path) -> None:
    cells = [made_cell({"lr": lr}, None, seed) for lr in (0.1, 0.2) for seed in (1, 2)]
    where = SweepFolder(tmp_path)
    finish(where.run(cells[0]), cells[0].recipe, [True, False], ["a", "b"])
    standing = standing_of(where, cells)
    standing.failures[cells[3].name] = "the <disk> | is full"
    text = summarize(where, cells, standing)
    assert "1 of 2" in text
    assert "0 of 2" in text
    page = (tmp_path / "summary.md").read_text()
    assert "- lr = 0.2, seed 2: the \\<disk\\> \\| is full" in page
    assert "<li>lr = 0.2, seed 2: the &lt;disk&gt; | is full</li>" in (tmp_path / "report.html").read_text()
    said = "A sweep over 2 combinations of lr; 1 of 4 runs finished, tested on 2 clips from 2 groups."
    assert said in (tmp_path / "report.html").read_text()
    table = list(csv.DictReader((tmp_path / "summary.csv").open()))
    assert [(row["lr"], row["finished"], row["accuracy_mean"]) for row in table] == [
        ("0.1", "1", "0.5"),
        ("0.2", "0", ""),
    ]


def test_names_of_any_kind_stay_in_their_cell(tmp_path: Path) -> None:
    names = ["<script>", "雨|风", "مطر", "🌧\n", "$x_1^2$", "a" * 300]
    cells = [made_cell({"dataset.root": name, "long key": "b" * 100}) for name in names]
    cells = [Cell(f"c{n}", c.values, None, 1, c.recipe, c.identity) for n, c in enumerate(cells)]
    right = {cell.name: [True, False, True] for cell in cells}
    found = results(tmp_path, cells, right, ["a", "b", "c"])
    assert len(found["rows"]) == len(names)
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert page.count("<script>") == page.count("</script>") == 1  # which sorts the table
    assert all(name in page for name in ("&lt;script&gt;", "雨|风", "مطر", "$x_1^2$"))
    page = (tmp_path / "summary.md").read_text()
    assert "<script>" not in page
    rows = [line for line in page.splitlines() if line.startswith("|")]
    assert len(rows) == len(names) + 2
    assert len({line.replace("\\|", "").count("|") for line in rows}) == 1
    assert (tmp_path / "figures" / "summary.png").read_bytes().startswith(b"\x89PNG")


def test_results_edited_by_hand_are_not_finished(tmp_path: Path) -> None:
    cell, where = made_cell({"lr": 0.1}), SweepFolder(tmp_path)
    finish(where.run(cell), cell.recipe, [True, False], ["a", "b"])
    assert where.state(cell) == "finished"
    where.run(cell).predictions.write_text(where.run(cell).predictions.read_text().replace("0.8", "0.9"))
    assert where.state(cell) == "stopped"


def test_a_folder_with_the_run_of_another_recipe_is_refused(tmp_path: Path) -> None:
    cell, where = made_cell({"lr": 0.1}), SweepFolder(tmp_path)
    finish(where.run(cell), made_cell({"lr": 0.2}).recipe, [True, False], ["a", "b"])
    with pytest.raises(RunError, match=r'another recipe: values\.lr is "0\.2" there, "0\.1" in this cell'):
        where.state(cell)


def test_twelve_cells_are_summed_up_in_little_time_without_torch(tmp_path: Path) -> None:
    right, groups = drawn(888, 200, 3)
    cells = [made_cell({"lr": lr}, None, seed) for lr in (0.1, 0.2, 0.3, 0.4) for seed in (0, 1, 2)]
    where = SweepFolder(tmp_path)
    for cell in cells:
        finish(where.run(cell), cell.recipe, right[cell.seed], groups, classes=10)
    summarize(where, cells, standing_of(where, cells))
    code = (
        "import pathlib, sys; from helpers.sweeps import made_cell; from soundbench.studies.folder import SweepFolder\n"
        "from soundbench.studies.summary_pages import summarize; from soundbench.studies.sweep import standing_of\n"
        "cells = [made_cell({'lr': lr}, None, seed) for lr in (0.1, 0.2, 0.3, 0.4) for seed in (0, 1, 2)]\n"
        "where = SweepFolder(pathlib.Path(sys.argv[1])); (where.path / 'summary.csv').unlink()\n"
        "summarize(where, cells, standing_of(where, cells)); print('torch' in sys.modules)"
    )
    (tmp_path / "summary.csv").unlink()
    with within():
        summarize(where, cells, standing_of(where, cells))
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
    assert len(list(csv.reader((tmp_path / "summary.csv").open()))) == 5
