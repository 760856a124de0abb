"""Features made ahead: once a window, whatever is killed; read by a run that ends as one without them would."""

from __future__ import annotations

import os
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pytest
import torch
from helpers import toys
from helpers.disk import leave
from helpers.runs import RECIPE, command, done, pair, toy_run, weights

import soundbench
from soundbench import Recipe, files
from soundbench.contracts import Clip
from soundbench.data.batches import training_batches, window_grid
from soundbench.data.clips import ClipTable
from soundbench.data.features import BLOCK, Blocks, Features
from soundbench.data.order import Order
from soundbench.data.store import open_store
from soundbench.errors import DataError, RecipeError, RunError
from soundbench.training import extraction
from soundbench.training.run import extract

pytestmark = pytest.mark.usefixtures("cache")
TOYS = Path(toys.__file__)
LEARNING = f'featurizer={{use="{TOYS}:ToyLearned"}}'
FROZEN = 'train.freeze=["featurizer"]'

# 273 windows in five blocks; no augmentation of waveforms.
AHEAD = (
    RECIPE.replace(f'"{TOYS}:ToyGain", ', "")
    .replace("window = 0.2", "window = 0.2\nhop = 0.02")
    .replace("[train]", "[train]\nextracted = true")
    .replace("ToyFeaturizer", "ToyCounted")
)
WINDOWS = 273


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "toy.toml"
    noise = f'reject = "{TOYS}:ToyReject"'
    assert noise in AHEAD
    path.write_text(AHEAD.replace(noise, f'reject = {{ use = "{TOYS}:ToyReject", noise = false }}'))  # no more windows
    return path


@pytest.fixture
def count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "count"
    path.touch()
    monkeypatch.setenv("SOUNDBENCH_TOY_COUNT", str(path))
    return path


def counted(path: Path) -> int:
    return len(path.read_text().splitlines())


def ahead(recipe: Path, *sets: str, **options: Any) -> Features:
    return extract(soundbench.read_recipe(recipe, sets), **{"say": lambda _: None, **options})


def blocks(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.glob("block-*.f32"))}


def folders(cache: Path) -> list[Path]:
    return sorted(cache.glob("features-*"))


# -- what is kept


def test_a_window_is_read_back_as_the_featurizer_made_it(recipe: Path, cache: Path) -> None:
    """Each alone, by hand, in float64; of every length."""
    found = ahead(recipe)
    resolved = soundbench.read_recipe(recipe)
    dataset = toys.ToyDataset(clips=64)
    owner, starts = window_grid(found.lengths, 1600, 160)
    assert len(owner) == WINDOWS == found.blocks.windows
    for row, clip in enumerate(dataset.clips()):
        samples = (dataset.read(clip)[0]).astype(np.float64)
        mine = starts[owner == row]
        features, frames = found.gather(np.full(len(mine), row), mine)
        for start, data, count in zip(mine, features, frames, strict=True):
            window = samples[start : start + 1600]
            whole = np.pad(window, (0, -len(window) % 64)).reshape(-1, 64)
            wanted = np.log(np.abs(np.fft.rfft(whole))[:, 1:33] + 1e-5)[: max(1, len(window) // 64)]
            assert count == len(wanted)
            assert np.abs(np.exp(data[:count]) - np.exp(wanted)).max() < 1e-3
            assert not data[count:].any()
    assert resolved.audio.hop_samples == found.hop == 160


def test_rows_of_the_same_sound_share_its_features(recipe: Path) -> None:
    found = ahead(recipe)
    rows = np.array([3, 3])
    features, _ = found.gather(rows, np.zeros(2, np.int64))
    assert np.array_equal(features[0], features[1])
    with pytest.raises(IndexError, match="not on the grid"):
        found.gather(rows[:1], np.array([7]))


@pytest.mark.parametrize(
    ("setting", "same"),
    [
        ("train.epochs=9", True),
        ("train.batch_size=4", True),
        ("train.seed=7", True),
        ("split.test=[1]", True),
        ("augmentation=[]", True),
        ("backbone.channels=24", True),
        ("featurizer.floor=1e-4", False),
        ("audio.window=0.1", False),
        ("audio.hop=0.04", False),
        ("audio.level=-20", False),
        ("dataset.seed=1", False),
        (f'featurizer.use="{TOYS}:ToyFeaturizer"', False),
    ],
)
def test_another_folder_is_for_whatever_changes_a_feature(recipe: Path, cache: Path, setting: str, same: bool) -> None:
    ahead(recipe)
    ahead(recipe, setting)
    assert len(folders(cache)) == (1 if same else 2)


def test_another_folder_is_for_other_weights_and_other_code(tmp_path: Path, recipe: Path, cache: Path) -> None:
    ahead(recipe, LEARNING, FROZEN)
    run = toy_run(recipe, tmp_path / "run", LEARNING, FROZEN, "train.epochs=1", "train.extracted=false")
    state = torch.load(run / "checkpoints" / "best.pt", weights_only=True)["network"]
    state["featurizer.gain"] = torch.full((32,), 2.0)
    torch.save(state, tmp_path / "weights.pt")
    before = folders(cache)
    other = ahead(recipe, LEARNING, FROZEN, f'init.from="{tmp_path}/weights.pt"')
    assert other.blocks.folder not in before
    copy = tmp_path / "mine.py"
    copy.write_text(TOYS.read_text())
    same = ahead(recipe, f'featurizer={{use="{copy}:ToyLearned"}}', FROZEN)
    assert same.blocks.folder in before
    copy.write_text(TOYS.read_text() + "\n# and so on\n")
    ahead(recipe, f'featurizer={{use="{copy}:ToyLearned"}}', FROZEN)
    assert len(folders(cache)) == 3


# -- kills, damage, processes


@pytest.mark.slow
def test_a_killed_extract_goes_on_and_makes_no_block_twice(recipe: Path, cache: Path, count: Path) -> None:
    """SIGKILL in the midst of a block, in a real process."""
    process = command("extract", recipe, SOUNDBENCH_TOY_DELAY="0.1")
    deadline = time.monotonic() + 100
    while not folders(cache) or len(blocks(folders(cache)[0])) < 2:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    time.sleep(0.15)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    (folder,) = folders(cache)
    kept = {path: path.stat().st_mtime_ns for path in folder.glob("block-*.f32")}
    assert 2 <= len(kept) < 5
    count.write_text("")
    process = command("extract", recipe)
    out, errors = process.communicate(timeout=100)
    assert process.returncode == 0, errors
    assert out == f"{folder}\n"
    rest = WINDOWS - BLOCK * len(kept)
    assert counted(count) == rest
    assert f"features: extracting {rest} windows ({BLOCK * len(kept)} exist): about" in errors
    assert kept == {path: path.stat().st_mtime_ns for path in kept}
    assert sorted(path.name for path in folder.iterdir()) == [
        *(f"block-0000{n}.f32" for n in range(5)),
        "features.toml",
    ]
    whole = blocks(folder)
    shutil.rmtree(folder)
    ahead(recipe)
    assert blocks(folder) == whole


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[100] ^= 1
    path.write_bytes(data)


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def _empty(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize(
    ("harm", "damage"),
    [
        (_flip, "its checksum is wrong"),
        (_cut, "its size is wrong"),
        (_empty, "its size is wrong"),
    ],
)
def test_a_damaged_block_is_said_and_made_again_alone(
    recipe: Path, count: Path, harm: Any, damage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = ahead(recipe).blocks.folder
    before = blocks(folder)
    harm(folder / "block-00001.f32")
    count.write_text("")
    said: list[str] = []
    ahead(recipe, say=said.append)
    assert f"features: {folder}/block-00001.f32 is damaged ({damage}) and is made again" in said
    assert counted(count) == BLOCK
    assert blocks(folder) == before


def test_a_block_that_is_lost_while_it_is_needed_is_told(recipe: Path) -> None:
    found = ahead(recipe)
    found.blocks.path(0).unlink()
    with pytest.raises(RunError, match=r"block-00000.f32: No such file"):
        found.gather(np.array([0]), np.array([0]))
    with pytest.raises(RunError, match=r"block-00000.f32: No such file"):
        Features(found.blocks, np.zeros(1, np.int32), found.lengths, np.zeros(1, np.int64), 1600, 160)


def test_features_that_will_not_fit_are_said_before_any_is_made(
    recipe: Path, cache: Path, count: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = ahead(recipe)
    shutil.rmtree(found.blocks.folder)
    count.write_text("")
    with monkeypatch.context() as patch:
        leave(patch, 1000)
        with pytest.raises(DataError) as caught:
            ahead(recipe)
    assert str(caught.value) == (
        f"{found.blocks.folder}: the features need about 0.8 MB, but only 0.0 MB are free; "
        "free some space, or set SOUNDBENCH_CACHE or --cache to another folder"
    )
    assert counted(count) == 0
    assert not blocks(found.blocks.folder)


def test_a_disk_that_fills_up_keeps_what_was_finished(recipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = Blocks.write

    def full(self: Blocks, number: int, rows: Iterator[np.ndarray]) -> None:
        if number < 3:
            return write(self, number, rows)
        with files.explain_os_errors(self.path(number)):
            raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Blocks, "write", full)
        with pytest.raises(RunError, match=r"block-00003.f32: the disk is full"):
            ahead(recipe)
    said: list[str] = []
    ahead(recipe, say=said.append)
    assert any(f"extracting {WINDOWS - 3 * BLOCK} windows ({3 * BLOCK} exist)" in line for line in said)


@pytest.mark.slow
def test_two_processes_share_the_work_and_come_to_the_same_bytes(recipe: Path, cache: Path, count: Path) -> None:
    slow = {"SOUNDBENCH_TOY_DELAY": "0.02"}
    os.environ.update(slow)
    try:
        outs = [done(process) for process in pair("extract", recipe)]
    finally:
        for name in slow:
            del os.environ[name]
    (folder,) = folders(cache)
    assert outs == [f"{folder}\n", ""]
    by = count.read_text().splitlines()
    assert len(by) == WINDOWS
    assert min(by.count(one) for one in set(by)) >= BLOCK
    assert len(set(by)) == 2
    both = blocks(folder)
    shutil.rmtree(folder)
    ahead(recipe)
    assert blocks(folder) == both


@pytest.mark.slow
@pytest.mark.parametrize("how", ["two commands", "--processes 2"])
def test_two_at_once_make_no_block_twice(recipe: Path, cache: Path, count: Path, how: str) -> None:
    words = how.split() if how.startswith("--") else []
    both = [command("extract", recipe, *words, SOUNDBENCH_TOY_DELAY="0.02") for _ in range(1 if words else 2)]
    assert {done(process) for process in both} == {f"{folders(cache)[0]}\n"}
    assert counted(count) == WINDOWS


@pytest.mark.slow
def test_many_commands_begin_a_folder_at_once(tmp_path: Path) -> None:
    """One of them writes what the folder is of; the others wait for it."""
    folders = [tmp_path / f"features-{number}" for number in range(25)]
    begin = threading.Barrier(4)

    def command(_: int) -> None:
        for folder in folders:
            begin.wait(10)
            extraction._begin(folder, {"rate": 8000})

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(command, range(4))) == [None] * 4
    assert {path.read_text() for path in tmp_path.glob("features-*/features.toml")} == {"rate = 8000\n"}


# -- the run that reads them


def test_a_run_with_them_is_the_run_without(recipe: Path, tmp_path: Path) -> None:
    """Where each clip is one window there is nothing to draw; augmentation of features goes on in both."""
    sets = (f'dataset={{use="{TOYS}:ToyOneWindow", clips=64}}', "audio.hop=0.2")
    runs = [toy_run(recipe, tmp_path / f"{with_}", *sets, f"train.extracted={with_}") for with_ in ("true", "false")]
    scores = [[float(row["score:low"]) for row in files.read_rows(run / "predictions.csv")] for run in runs]
    assert len(scores[0]) == 16
    assert scores[0] == pytest.approx(scores[1], abs=1e-5)
    losses = [[float(row["train_loss"]) for row in files.read_rows(run / "history.csv")] for run in runs]
    assert losses[0] == pytest.approx(losses[1], abs=1e-5)


def test_the_featurizer_hears_each_window_once_in_a_run(recipe: Path, tmp_path: Path, count: Path) -> None:
    toy_run(recipe, tmp_path / "run")
    assert counted(count) == WINDOWS
    toy_run(recipe, tmp_path / "again", "train.seed=3", "split.test=[2]")
    assert counted(count) == WINDOWS


@pytest.mark.slow
def test_it_does_not_matter_who_made_them(recipe: Path, tmp_path: Path, cache: Path) -> None:
    by_run = toy_run(recipe, tmp_path / "by_run", cache=tmp_path / "other")
    done(command("extract", recipe))
    before = toy_run(recipe, tmp_path / "before")
    workers = toy_run(recipe, tmp_path / "workers", "train.num_workers=2")
    assert weights(by_run) == weights(before) == weights(workers)
    assert blocks(folders(tmp_path / "other")[0]) == blocks(folders(cache)[0])


def test_training_draws_among_the_windows_of_a_clip(recipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By addressed chance: the same in batches of any size, another in another epoch, and all of them in the end."""
    found, gather, asked = ahead(recipe), Features.gather, list[tuple[int, int]]()

    def watched(self: Features, rows: np.ndarray, starts: np.ndarray) -> Any:
        asked.extend(zip(rows.tolist(), starts.tolist(), strict=True))
        return gather(self, rows, starts)

    monkeypatch.setattr(Features, "gather", watched)
    table = ClipTable.of(toys.ToyDataset(clips=64))

    def drawn(batch: int) -> dict[tuple[int, int], int]:
        asked.clear()
        for _ in training_batches(found, table, Order(np.arange(64), batch, 1), 1600, 100):
            pass
        return {(number // 64, row): start for number, (row, start) in enumerate(asked)}

    by_six = drawn(6)
    assert drawn(16) == by_six
    owner, starts = window_grid(found.lengths, 1600, 160)
    every = set(zip(owner.tolist(), starts.tolist(), strict=True))
    assert {(row, start) for (_, row), start in by_six.items()} == every


@pytest.mark.slow
def test_a_killed_run_with_them_resumes_to_the_same_weights(recipe: Path, tmp_path: Path, count: Path) -> None:
    """Also where the featurizer has weights that [init] gave it, and those are there no more."""
    first = toy_run(recipe, tmp_path / "first", LEARNING, FROZEN, "train.epochs=1")
    state = torch.load(first / "checkpoints" / "best.pt", weights_only=True)["network"]
    state["featurizer.gain"] = torch.linspace(0.5, 2.0, 32)
    torch.save(state, tmp_path / "weights.pt")
    sets = (LEARNING, FROZEN, f'init.from="{tmp_path}/weights.pt"', "train.checkpoint_steps=2")
    whole = toy_run(recipe, tmp_path / "whole", *sets)
    flags = [word for one in sets for word in ("--set", one)]
    process = command("run", recipe, "--out", tmp_path / "cut", *flags, "--set", "train.epochs=3")
    deadline = time.monotonic() + 100
    while not list((tmp_path / "cut" / "checkpoints").glob("step-*.pt")):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not (tmp_path / "cut" / "report.json").exists()
    (tmp_path / "weights.pt").unlink()
    count.write_text("")
    done(command("run", "--resume", tmp_path / "cut", "--trust-code"))
    assert counted(count) == 0
    assert weights(tmp_path / "cut") == weights(whole)


@pytest.mark.slow
def test_two_processes_train_on_them(recipe: Path, tmp_path: Path, count: Path) -> None:
    run = tmp_path / "run"
    outs = [done(process) for process in pair("run", recipe, "--out", run)]
    assert outs[0].splitlines()[-1] == str(run)
    assert counted(count) == WINDOWS
    assert len(files.read_rows(run / "predictions.csv")) == 16


def test_the_model_keeps_its_featurizer(recipe: Path, tmp_path: Path) -> None:
    run = toy_run(recipe, tmp_path / "run", "train.epochs=1", "audio.level=-20")
    classifier = soundbench.load(run, trust_code=True)
    dataset = toys.ToyDataset(clips=64)
    clips = {clip.path: clip for clip in dataset.clips()}
    for row in files.read_rows(run / "predictions.csv"):
        samples, rate = dataset.read(clips[row["path"]])
        assert classifier.predict(samples, rate=rate).scores["low"] == pytest.approx(float(row["score:low"]), abs=1e-5)


def test_clips_that_cannot_be_read_have_no_windows(recipe: Path, tmp_path: Path) -> None:
    mine = f'dataset.use="{TOYS}:ToyBroken"'
    run = toy_run(recipe, tmp_path / "run", mine, 'audio.on_error="skip"', "train.epochs=1")
    predictions = files.read_rows(run / "predictions.csv")
    assert len(predictions) == 10
    found = ahead(recipe, mine, 'audio.on_error="skip"')
    assert found.blocks.windows < WINDOWS
    assert (found.lengths == 0).sum() == 2


# -- what it does not go with


ACTS: dict[str, Callable[[Recipe, Path], Any]] = {
    "describe": lambda recipe, out: soundbench.describe(recipe),
    "run": lambda recipe, out: soundbench.run(recipe, out=out),
    "extract": lambda recipe, out: extract(
        recipe.with_tables(train=attrs.evolve(recipe.train, extracted=False)), say=lambda _: None
    ),
}


@pytest.mark.parametrize("act", ACTS)
def test_what_features_made_ahead_would_pass_by_is_refused(recipe: Path, tmp_path: Path, cache: Path, act: str) -> None:
    augmented = f'augmentation=["{TOYS}:ToyDrop", "{TOYS}:ToyGain"]'
    resolved = soundbench.read_recipe(recipe, [augmented, LEARNING])
    with pytest.raises(RecipeError) as caught:
        ACTS[act](resolved, tmp_path / "run")
    remedy = "or compute features during training, with train.extracted = false"
    assert sorted(str(caught.value).splitlines()) == [
        f"--set {augmented}: augmentation[1]: '{TOYS}:ToyGain' changes waveforms, but features are extracted before "
        f"training; "
        f"remove it, {remedy}",
        f"{recipe}: train.extracted: featurizer '{TOYS}:ToyLearned' is trained (featurizer.gain), so its features "
        f'change from step to step; freeze it, with train.freeze = ["featurizer"], {remedy}',
    ]
    assert not folders(cache)


def test_without_the_key_a_run_makes_none_and_extract_says_how_to_use_them(recipe: Path, cache: Path) -> None:
    process = command("extract", recipe, "--set", "train.extracted=false")
    out, errors = process.communicate(timeout=100)
    assert process.returncode == 0, errors
    assert out == f"{folders(cache)[0]}\n"
    assert errors.splitlines()[-1] == "to train on these features, set train.extracted=true"


def test_extract_and_a_store_agree_on_what_a_sound_is(recipe: Path, cache: Path) -> None:
    """Several rows of one stretch are one sound, and its features are made once."""

    class Twice(toys.ToyDataset):
        def clips(self) -> Iterator[Clip]:
            for clip in super().clips():
                yield clip
                yield clip

    dataset = Twice(clips=8)
    table = ClipTable.of(dataset)
    store = open_store(table, dataset, 8000, cache)
    assert (len(store), len(store.each_sound())) == (16, 8)
    assert store.each_sound().lengths[store.sounds].tolist() == store.lengths.tolist()
