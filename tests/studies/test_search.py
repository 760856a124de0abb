"""Searches over ranges: the validation loss decides, kills lose nothing, and bad ranges are one line."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tomli_w
from helpers.runs import RECIPE
from helpers.sweeps import PROGRAM

from soundbench.cli.main import invoke
from soundbench.errors import NotInstalled, RecipeError
from soundbench.studies.cells import Cell
from soundbench.studies.folder import SweepFolder
from soundbench.studies.sweep import run_cells
from soundbench.studies.sweep_file import Sweep, read_sweep

optuna = pytest.importorskip("optuna")
RANGE = '"optimizer.lr" = {low = 1e-4, high = 1, log = true}\n'


def swept(folder: Path, table: str) -> Sweep:
    (folder / "toy.toml").write_text(RECIPE)
    (folder / "search.toml").write_text(f'extends = "toy.toml"\n[sweep]\n{table}\n')
    return read_sweep(folder / "search.toml")


def cell_of(values: Mapping[str, Any]) -> Cell:
    name = "-".join(f"{value:.9g}" for value in values.values())
    tables = {"search": values["optimizer.lr"]}
    recipe, identity = (tomli_w.dumps(tables | own) for own in ({"name": name}, {"code": {}}))
    return Cell(name, dict(values), None, 1, recipe, identity)


def go(folder: Path, sweep: Sweep, trials: int | None = None) -> Any:
    """Run trials whose validation loss is lowest at a rate of 0.01; after so many, as if the process were killed."""
    from soundbench.studies.search import Search

    class Killed(Exception):
        pass

    def resolve(values: Mapping[str, Any]) -> Cell:
        if trials is not None and len(search.cells) == trials:
            raise Killed
        return cell_of(values)

    where = SweepFolder.create(folder / "out")
    search = Search(where, sweep, resolve)
    try:
        run_cells(where, search, program=PROGRAM, more=[], jobs=1, say=lambda _: None)
    except Killed:
        return search
    return search


@pytest.mark.slow
def test_a_search_finds_the_lowest_validation_loss_and_is_repeatable(tmp_path: Path) -> None:
    search = go(tmp_path, swept(tmp_path, RANGE + "trials = 14"))
    assert len(search.cells) == len(search.standing.of("finished")) == 14
    best = min((cell.values["optimizer.lr"] for cell in search.cells), key=lambda lr: abs(np.log10(lr) + 2))
    assert search.best().endswith(f": optimizer.lr = {best}, seed 1")
    again = go(tmp_path, swept(tmp_path, RANGE + "trials = 14"))
    assert again.cells == search.cells


def test_a_killed_search_keeps_its_trials_and_goes_on_with_other_values(tmp_path: Path) -> None:
    before = go(tmp_path, swept(tmp_path, RANGE + "trials = 5"), trials=2)
    with (tmp_path / "out" / "study.log").open("a") as file:
        file.write('{"op_code": 4, "torn')  # a kill while the journal is written
    after = go(tmp_path, swept(tmp_path, RANGE + "trials = 5"))
    assert after.cells[:2] == before.cells
    rates = [cell.values["optimizer.lr"] for cell in after.cells]
    assert len(rates) == len(set(rates)) == 5


@pytest.mark.slow
def test_runs_that_do_worse_than_the_median_are_stopped_early(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SWEEP_DELAY", "0.5")
    search = go(tmp_path, swept(tmp_path, RANGE + "trials = 9\nstop_early = true"))
    early, finished = search.standing.early, search.standing.of("finished")
    assert len(early) + len(finished) == 9
    assert early
    losses = {cell.name: abs(np.log10(cell.values["optimizer.lr"]) + 2) for cell in search.cells}
    assert min(losses[name] for name in early) > np.median([losses[name] for name in finished])


@pytest.mark.parametrize(
    ("table", "said"),
    [
        (RANGE, "sweep.trials: is missing; ranges need it"),
        (RANGE + "trials = 0", "sweep.trials: must be how many values to try"),
        (RANGE + "trials = 2\nseeds = 2", "leave out seeds and folds"),
        (RANGE + 'trials = 2\nstop_early = "yes"', "sweep.stop_early: must be true or false"),
        ('"optimizer.lr" = {low = 1, high = 0.1}\ntrials = 2', "must be a list, or a range such as"),
        ('"optimizer.lr" = {low = 0, high = 0.1, log = true}\ntrials = 2', "with log above 0"),
        ('"optimizer.lr" = [0.1]\ntrials = 2', "sweep.trials: is for ranges, and there are none"),
    ],
)
def test_a_mistake_in_a_range_is_one_line(tmp_path: Path, table: str, said: str) -> None:
    with pytest.raises(RecipeError) as found:
        swept(tmp_path, table)
    assert len([line for line in found.value.lines if said in line]) == 1


def test_without_the_extra_one_line_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(NotInstalled, match=r'pip install "soundbench\[optuna\]"'):
        go(tmp_path, swept(tmp_path, RANGE + "trials = 2"))


def test_a_search_has_no_list(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    swept(tmp_path, RANGE + "trials = 2")
    assert invoke(["sweep", str(tmp_path / "search.toml"), "--out", str(tmp_path / "out"), "--list"]) == 2
    assert "--list: a search has no list" in capsys.readouterr().err
