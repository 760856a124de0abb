"""Sweep files: what their cells are, and all their mistakes at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import tomli
from helpers.runs import RECIPE, TOYS

from soundbench.cli.sweep import _resolved
from soundbench.errors import DataError, RecipeError
from soundbench.recipe import read
from soundbench.studies.cells import Cell, cells_of
from soundbench.studies.sweep_file import read_sweep


def cells(folder: Path, table: str, recipe: str = RECIPE, check: Any = lambda _: None) -> list[Cell]:
    (folder / "toy.toml").write_text(recipe)
    (folder / "sweep.toml").write_text(f'extends = "toy.toml"\n[sweep]\n{table}\n')
    return cells_of(read_sweep(folder / "sweep.toml"), check)


def mistakes(folder: Path, table: str, **more: Any) -> list[str]:
    with pytest.raises(RecipeError) as found:
        cells(folder, table, **more)
    return [line.removeprefix(f"{folder / 'sweep.toml'}: ") for line in found.value.lines]


def test_every_combination_is_a_cell_and_its_recipe_has_its_values(tmp_path: Path) -> None:
    found = cells(tmp_path, '"backbone.channels" = [4, 8]\noptimizer.lr = [0.1]\nseeds = 2\nfolds = [1, 3]')
    assert len(found) == len({cell.name for cell in found}) == 8
    for cell in found:
        (tmp_path / "cell.toml").write_text(cell.recipe)
        recipe = read(tmp_path / "cell.toml")
        assert recipe.backbone.options["channels"] == cell.values["backbone.channels"]
        assert recipe.optimizer.options["lr"] == cell.values["optimizer.lr"]
        assert (recipe.split.test, recipe.train.seed, recipe.name) == ([cell.fold], cell.seed, cell.name)
    every = {(tuple(cell.values.values()), cell.fold, cell.seed) for cell in found}
    assert every == {((a, b), f, s) for a in (4, 8) for b in (0.1,) for f in (1, 3) for s in (1, 2)}


def test_all_folds_are_those_of_the_data_and_a_share_of_the_others_validates(tmp_path: Path) -> None:
    found = cells(tmp_path, 'folds = "all"', RECIPE.replace("validation = 0.2", ""))
    assert [cell.fold for cell in found] == [1, 2, 3, 4]
    assert {tomli.loads(cell.recipe)["split"]["validation"] for cell in found} == {0.1}


def test_a_swept_component_loses_the_options_of_the_one_before(tmp_path: Path) -> None:
    recipe = RECIPE.replace(
        f'backbone = "{TOYS}:ToyBackbone"', f'backbone = {{use = "{TOYS}:ToyBackbone", channels = 4}}'
    )
    other = tmp_path / "mine.py"
    other.write_text(TOYS.read_text())
    found = cells(tmp_path, '"backbone.use" = ["./mine.py:ToyBackbone"]', recipe)
    assert tomli.loads(found[0].recipe)["backbone"]["channels"] == 16


def test_the_same_run_has_the_same_name_whatever_the_file_is_called_or_shows(tmp_path: Path) -> None:
    (cell,) = cells(tmp_path, '"optimizer.lr" = [0.1]')
    shown = '# a comment\nname = "other"\n' + RECIPE.replace("threads = 1", "threads = 2").replace(
        "observer = []", 'observer = []\nreport = {by = ["site"]}'
    )
    assert cells(tmp_path, '"optimizer.lr" = [1e-1, 0.3]', shown)[0].name == cell.name
    assert cells(tmp_path, "seeds = [1]", RECIPE.replace("epochs = 3", "epochs = 4"))[0].name != cell.name


def test_code_of_ones_own_is_part_of_the_name_by_its_content(tmp_path: Path) -> None:
    mine, table = tmp_path / "mine.py", '"backbone.use" = ["./mine.py:ToyBackbone"]'
    mine.write_text(TOYS.read_text())
    before = cells(tmp_path, table)[0].name
    assert cells(tmp_path, table)[0].name == before
    mine.write_text(TOYS.read_text() + "# changed\n")
    assert cells(tmp_path, table)[0].name != before


def test_all_mistakes_of_all_cells_are_named_with_their_values(tmp_path: Path) -> None:
    found = mistakes(tmp_path, '"optimizer.lr" = [0.1, "fast"]\n"backbone.channels" = [4, 8.5]')
    assert found == [
        "optimizer.lr = 0.1, backbone.channels = 8.5 (and 1 more): backbone.channels: must be an integer, is 8.5",
        'optimizer.lr = "fast", backbone.channels = 4 (and 1 more): optimizer.lr: must be a number, is "fast"',
    ]


def test_a_mistake_of_the_recipe_itself_is_named_once(tmp_path: Path) -> None:
    recipe = RECIPE.replace("batch_size = 6", "batch_size = 0")
    found = mistakes(tmp_path, '"optimizer.lr" = [0.1, 0.2]', recipe=recipe)
    assert len(found) == 1
    assert found[0].startswith("train.batch_size: must be at least 1, is 0")


def test_what_a_run_would_refuse_is_a_mistake_of_its_cell(tmp_path: Path) -> None:
    def check(recipe: Any) -> None:
        if recipe.optimizer.options["lr"] > 0.15:
            raise DataError("no such data")

    assert mistakes(tmp_path, '"optimizer.lr" = [0.1, 0.2]', check=check) == ["optimizer.lr = 0.2: no such data"]
    with pytest.raises(DataError, match="no such data"):
        cells(tmp_path, '"optimizer.lr" = [0.2, 0.3]', check=check)


def test_a_list_for_other_machines_needs_nothing_of_this_one(tmp_path: Path) -> None:
    (tmp_path / "toy.toml").write_text(RECIPE)
    settings = 'tf32 = true\ncudnn_benchmark = true\ncompile = "graphs"\nprecision = "fp16"\n'
    (tmp_path / "sweep.toml").write_text(f'extends = "toy.toml"\n[sweep]\nseeds = 2\n[train]\n{settings}')
    file = str(tmp_path / "sweep.toml")
    axes = read_sweep(file).axes
    assert len(_resolved(file, axes, None, True)) == 2
    with pytest.raises(RecipeError, match="needs a GPU"):
        _resolved(file, axes, "cpu", False)


def test_two_cells_that_would_be_one_run_are_refused(tmp_path: Path) -> None:
    (found,) = mistakes(tmp_path, '"train.threads" = [1, 2]')
    assert "train.threads = 2: is the same run as train.threads = 1, seed 1" in found


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ("", "sweep: lists nothing"),
        ('"optimizer.lr" = 0.1', "sweep.optimizer.lr: must be a list of at least one value, is 0.1"),
        ('"optimizer.lr" = []', "must be a list of at least one value"),
        ('"optimizer.lr" = [0.1, 0.10]', "has 0.1 twice"),
        ("seeds = 0", "sweep.seeds: must be how many, or a list of integers, is 0"),
        ("seeds = true", "sweep.seeds"),
        ("seeds = [1, 1]", "sweep.seeds: has 1 twice"),
        ('folds = "some"', 'sweep.folds: must be "all" or a list of folds'),
        ("folds = [1, 9]", "split.test: no fold 9"),
        ("seeds = 2\ntrain.seed = [1, 2]", "sweep.train.seed: is what sweep.seeds sets"),
        ('folds = [1]\n"split.test" = [0.1]', "sweep.split.test: is what sweep.folds sets"),
        ('"optimizer.lr" = [0.1]\noptimizer.lr = [0.2]', "sweep.optimizer.lr: is given twice"),
        ('"nothing.at" = [1]', "nothing: unknown table"),
        ('"a b" = [1]', "a b: must be a dotted key"),
        ('seeds = 5000\n"optimizer.lr" = [0.1, 0.2, 0.3]', "sweep: has 15,000 cells; at most 10,000 are possible"),
    ],
)
def test_a_mistake_in_the_sweep_is_one_line(tmp_path: Path, table: str, said: str) -> None:
    from soundbench.training.stages import prepare

    found = mistakes(tmp_path, table, check=prepare)
    assert len(found) == 1
    assert said in found[0]


def test_a_recipe_without_a_sweep_says_what_is_missing(recipe: Path) -> None:
    with pytest.raises(RecipeError, match="sweep: is missing; it must be a table of lists"):
        read_sweep(recipe)
