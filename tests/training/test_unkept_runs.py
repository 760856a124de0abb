"""Runs that keep no sound: the same weights as with a store, and the same bits after a stop."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from helpers import TESTS
from helpers.runs import toy_run, weights

import soundbench
from soundbench import files
from soundbench.errors import RecipeError
from soundbench.training import checkpoints

TOYS = TESTS / "helpers" / "toy_shards.py"
SHARDS = f'dataset={{use="{TOYS}:ToyShards", clips=64}}'


def silent(*_: Any) -> None:
    pass


@pytest.fixture
def run(recipe: Path, tmp_path: Path, cache: Path) -> Any:
    """Runs the recipe of toys on shards with further settings; the run directory."""
    return lambda name, *sets: toy_run(recipe, tmp_path / name, SHARDS, *sets, say=silent)


def test_where_all_shards_are_in_memory_weights_and_scores_are_those_of_a_store(run) -> None:
    kept, unkept = run("kept"), run("unkept", "audio.store=false", "audio.shards_in_memory=8")
    assert weights(unkept) == weights(kept)
    assert (unkept / "predictions.csv").read_bytes() == (kept / "predictions.csv").read_bytes()


def test_with_few_in_memory_every_clip_is_scored_once_and_a_stop_changes_no_bit(run, monkeypatch) -> None:
    few = ("audio.store=false", "audio.shards_in_memory=2")
    whole, save = run("whole", *few), checkpoints.save

    def stops(place: Path, step: int, state: dict[str, Any]) -> Path:
        if step > 2 * state["steps_per_epoch"] + 1:
            raise KeyboardInterrupt
        return save(place, step, state)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, "save", stops)
        with pytest.raises(KeyboardInterrupt):
            run("cut", *few)
    cut = whole.with_name("cut")
    soundbench.resume(cut, trust_code=True, say=silent)
    assert weights(cut) == weights(whole)
    assert (cut / "predictions.csv").read_bytes() == (whole / "predictions.csv").read_bytes()
    kept = run("kept")
    names = [[row["path"] for row in files.read_rows(one / "predictions.csv", "path")] for one in (whole, kept)]
    assert names[0] == names[1]
    assert weights(whole) != weights(kept)  # clips came in another order


def test_sound_in_files_is_kept(recipe: Path, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"audio.store=false: must be true: the sound of the dataset "):
        toy_run(recipe, tmp_path / "run", "audio.store=false", say=silent)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("train.sampler=balanced", 'must be "uniform" if audio.store is false: "balanced" draws from all '),
        ("train.num_workers=2", "must be 0 if audio.store is false: each process would read and hold shards "),
    ],
)
def test_what_needs_all_shards_is_refused(run, given: str, said: str) -> None:
    with pytest.raises(RecipeError) as error:
        run("run", "audio.store=false", given)
    assert str(error.value).startswith(f"--set {given}: {said}")
