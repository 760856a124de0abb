"""Runs from end to end: the run directory, folds, processes, and code that a run carries."""

from __future__ import annotations

import inspect
import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from helpers import toys
from helpers.runs import TOYS, command, done, pair, toy_run, weights
from torch import nn

import soundbench
from soundbench import files
from soundbench.chance import Chance
from soundbench.contracts import Batch, hookimpl
from soundbench.errors import BrokenPlugin, CallError, DataError, MissingDataError, RecipeError, RunError
from soundbench.report.run_directory import RunDirectory
from soundbench.training import finishing
from soundbench.training import run as training_run
from soundbench.training.log import resume_line

pytestmark = pytest.mark.usefixtures("cache")


def test_a_run_leaves_all_that_a_person_or_a_program_needs(recipe: Path, tmp_path: Path) -> None:
    out = done(command("run", recipe, "--out", tmp_path / "run"))
    run = tmp_path / "run"
    assert out.splitlines()[-1] == str(run)
    report = json.loads((run / "report.json").read_text())
    assert report["protocol"]["split"]["test"] == [4]
    assert report["protocol"]["selection"] == "lowest validation loss"
    for name in ("accuracy", "macro_f1"):
        figure = report["metrics"][name]
        assert figure["low"] <= figure["value"] <= figure["high"]
    assert report["metrics"]["accuracy"]["value"] >= 0.9
    assert [row["class"] for row in report["per_class"]] == ["low", "high"]
    assert report["folds"][0]["test"] == [4]
    assert report["clips"] == 16
    predictions = files.read_rows(run / "predictions.csv")
    assert len(predictions) == 16
    right = sum(row["label"] == row["predicted"] for row in predictions)
    assert right / 16 == report["metrics"]["accuracy"]["value"]
    parts = [row["part"] for row in files.read_rows(run / "clips.csv")]
    assert (parts.count("test"), parts.count("train") + parts.count("validation")) == (16, 48)
    assert [row["epoch"] for row in files.read_rows(run / "history.csv")] == ["1", "2", "3"]
    assert (run / "figures" / "confusion.png").stat().st_size > 1000
    assert (run / "model" / "code" / "toys.py").exists()
    assert sorted(path.name for path in (run / "checkpoints").iterdir())[0] == "best.pt"


def test_running_the_resolved_recipe_again_is_running_the_same(recipe: Path, tmp_path: Path) -> None:
    first = toy_run(recipe, tmp_path / "first")
    again = toy_run(first / "recipe.toml", tmp_path / "again")
    assert weights(first) == weights(again)
    resolved = [(run / "recipe.toml").read_text().split("\n\n", 1)[1] for run in (first, again)]
    assert resolved[0] == resolved[1]


def test_all_folds_are_pooled_and_a_cut_off_fold_resumes(recipe: Path, tmp_path: Path) -> None:
    resolved = soundbench.read_recipe(recipe, ["train.epochs=1"])
    returned = soundbench.run_folds(resolved, out=tmp_path / "folds")
    run = returned.path
    report = json.loads((run / "report.json").read_text())
    assert report["clips"] == 64
    assert [fold["test"] for fold in report["folds"]] == [[1], [2], [3], [4]]
    each = [json.loads((run / f"fold-{number:02d}" / "report.json").read_text()) for number in range(1, 5)]
    assert returned.report == report
    assert [fold.report for fold in returned.folds] == each
    with pytest.raises(CallError, match="holds a run for each fold: soundbench run --resume"):
        soundbench.resume(returned, trust_code=True)
    right = sum(one["metrics"]["accuracy"]["value"] * one["clips"] for one in each)
    assert report["metrics"]["accuracy"]["value"] == pytest.approx(right / 64)
    before = [weights(run / f"fold-{number:02d}") for number in range(1, 5)]
    for leftover in ("report.json", "fold-03/report.json", "fold-04/environment.json"):
        (run / leftover).unlink()
    out = done(command("run", "--resume", run, "--trust-code"))
    assert out.splitlines()[-1] == str(run)
    assert json.loads((run / "report.json").read_text())["metrics"] == report["metrics"]
    assert before == [weights(run / f"fold-{number:02d}") for number in range(1, 5)]


def test_folds_cut_off_at_their_very_beginning_are_not_resumed_as_one_run(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(path: Path, text: str) -> None:
        write_text(path, text)
        if path.name == "recipe.toml":
            raise KeyboardInterrupt

    write_text = files.write_text
    monkeypatch.setattr(files, "write_text", killed)
    with pytest.raises(KeyboardInterrupt):
        soundbench.run_folds(soundbench.read_recipe(recipe), out=tmp_path / "folds")
    assert (tmp_path / "folds" / "recipe.toml").exists()
    assert json.loads((tmp_path / "folds" / "folds.json").read_text()) == {"folds": [1, 2, 3, 4]}


def test_folds_all_needs_folds_and_a_share_to_validate_on(recipe: Path, tmp_path: Path) -> None:
    resolved = soundbench.read_recipe(recipe, ["split.validation=[1]"])
    with pytest.raises(RecipeError) as caught:
        soundbench.run_folds(resolved, out=tmp_path / "folds")
    assert str(caught.value) == (
        "--set split.validation=[1]: --folds all tests on every fold; give a share of the clips, such as 0.1"
    )


@pytest.mark.slow
def test_two_processes_make_the_runs_of_all_folds_and_one_logs_them(recipe: Path, tmp_path: Path) -> None:
    sets = ("--set", "train.epochs=1", "--set", "dataset.clips=32")
    processes = pair("run", recipe, "--out", tmp_path / "run", "--folds", "all", *sets)
    (_, shown), (_, silent) = (process.communicate(timeout=120) for process in processes)
    assert [process.returncode for process in processes] == [0, 0], (shown, silent)
    assert "fold 4: 4 of 4" in shown
    assert "fold" not in silent
    assert json.loads((tmp_path / "run" / "report.json").read_text())["clips"] == 32


@pytest.mark.slow
def test_a_folder_that_the_main_process_is_refused_ends_the_others_too(recipe: Path, tmp_path: Path) -> None:
    for process in pair("run", recipe, "--out", tmp_path):
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 2
        assert errors == f"{tmp_path}: exists and is not empty; give another folder with --out\n"


@pytest.mark.slow
def test_two_processes_make_one_run(recipe: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    outs = [done(process) for process in pair("run", recipe, "--out", run)]
    assert outs[0].splitlines()[-1] == str(run)
    report = json.loads((run / "report.json").read_text())
    assert report["clips"] == 16
    assert len(files.read_rows(run / "predictions.csv")) == 16
    assert len(files.read_rows(run / "history.csv")) == 3
    assert json.loads((run / "environment.json").read_text())["processes"] == 2
    assert report["metrics"]["accuracy"]["value"] >= 0.8


def test_code_of_a_run_is_executed_only_when_trusted(recipe: Path, tmp_path: Path) -> None:
    run = toy_run(recipe, tmp_path / "run", "train.epochs=1")
    assert "toys.py:ToyBackbone" in (run / "model" / "model.toml").read_text()
    process = command("infer", run, TOYS)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "is code from the run; add --trust-code (trust_code=True) to execute it" in errors
    with pytest.raises(RecipeError, match="add --trust-code"):
        soundbench.load(run)
    classifier = soundbench.load(run, trust_code=True)
    assert classifier.classes == ("low", "high")
    (run / "report.json").unlink()
    with pytest.raises(RecipeError, match="add --trust-code"):
        soundbench.resume(run)


def test_the_model_folder_can_be_copied_away_alone(recipe: Path, tmp_path: Path) -> None:
    run = toy_run(recipe, tmp_path / "run", "train.epochs=1")
    sound = 0.1 * np.random.default_rng(0).standard_normal(5000).astype(np.float32)
    here = soundbench.load(run, trust_code=True).predict(sound, rate=8000)
    (tmp_path / "elsewhere").mkdir()
    (run / "model").rename(tmp_path / "elsewhere" / "m")
    there = soundbench.load(tmp_path / "elsewhere" / "m", trust_code=True).predict(sound, rate=8000)
    assert here == there


@pytest.mark.parametrize("trim", ["off", "1.0"])
def test_predictions_of_a_run_are_those_of_the_classifier(recipe: Path, tmp_path: Path, trim: str) -> None:
    run = toy_run(recipe, tmp_path / "run", "train.epochs=1", f"audio.trim={trim}")
    classifier = soundbench.load(run, trust_code=True)
    dataset = toys.ToyDataset(clips=64)
    clips = {clip.path: clip for clip in dataset.clips()}
    for row in files.read_rows(run / "predictions.csv"):
        samples, rate = dataset.read(clips[row["path"]])
        assert classifier.predict(samples, rate=rate).scores["low"] == pytest.approx(float(row["score:low"]), abs=1e-5)


class Raising:
    """Raises at every hook."""

    def __init__(self, run: Any) -> None:
        self.run = run

    @hookimpl
    def epoch_completed(self, epoch: int) -> None:
        raise OSError(f"no disk in epoch {epoch}")


def test_an_observer_that_raises_loses_no_result(recipe: Path, tmp_path: Path) -> None:
    said: list[str] = []
    mine = Path(__file__)
    run = toy_run(recipe, tmp_path / "run", f'observer=["{mine}:Raising"]', say=said.append)
    line = inspect.getsourcelines(Raising.epoch_completed)[1] + 2
    raised = f"epoch_completed raised OSError: no disk in epoch 1 ({mine}, line {line})"
    places = [place for place, text in enumerate(said) if "dropped" in text]
    assert len(places) == 2  # where it is, and at the end
    assert places[1] == len(said) - 1 > places[0] + 1
    assert said[places[0]] == said[places[1]]
    assert said[-1].endswith(raised)
    assert (run / "log.txt").read_text().count(raised) == 2
    assert (run / "report.json").exists()
    assert weights(run) == weights(toy_run(recipe, tmp_path / "plain"))


def test_composed_from_python_alone(tmp_path: Path) -> None:
    """A whole recipe's network and report from classes and mappings, no file and no entry point."""
    recipe = soundbench.Recipe(
        name="mine",
        dataset={"use": toys.ToyDataset, "clips": 48},
        split=soundbench.Split(test=[4], validation=0),
        audio={"rate": 8000, "window": 0.2},
        featurizer=toys.ToyFeaturizer,
        backbone={"use": toys.ToyBackbone, "channels": 24},
        pooling=toys.ToyPooling,
        loss=toys.ToyLoss,
        optimizer=toys.toy_optimizer,
        scheduler=toys.toy_scheduler,
        observer=[],
        train=soundbench.Train(epochs=2, batch_size=8, device="cpu", precision="fp32"),
    )
    found = soundbench.describe(recipe)
    assert found["parameters"] == (3 * 32 * 24 + 24) + 48 + (24 * 8 + 8) + (8 * 2 + 2)
    run = soundbench.run(recipe, out=tmp_path / "run")
    report = run.report
    assert report["protocol"]["notes"] == ["no validation set: the last epoch was tested"]
    assert report["protocol"]["best_epoch"] == 2
    network = soundbench.load(run.path, trust_code=True).network
    assert isinstance(network, soundbench.Network)
    by_hand = soundbench.Network(
        toys.ToyFeaturizer(8000),
        toys.ToyBackbone(32, channels=24),
        toys.ToyPooling(24),
        torch.nn.Sequential(torch.nn.Linear(24, 8), torch.nn.Linear(8, 2)),
    )
    assert by_hand(torch.zeros(1, 1600), torch.tensor([1600])).shape == (1, 2)


def test_what_the_calls_return_gives_the_results_of_the_files(recipe: Path, tmp_path: Path) -> None:
    """One object for run, resume and evaluate, which is a path as well."""
    said: list[str] = []
    run = soundbench.run(soundbench.read_recipe(recipe, ["train.epochs=2"]), out=tmp_path / "run", say=said.append)
    assert run == soundbench.Run(tmp_path / "run")
    assert run.report == json.loads((tmp_path / "run" / "report.json").read_text())
    assert np.asarray(run.history["epoch"]).tolist() == [1, 2]
    assert (np.asarray(run.clips["part"]) == "test").sum() == len(run.predictions) == 16
    assert soundbench.resume(run, trust_code=True, say=said.append) == run
    assert soundbench.load(run, trust_code=True).classes == run.classes == ("low", "high")
    again = soundbench.evaluate(run, trust_code=True, say=said.append)
    assert again.metrics == run.metrics
    assert again == soundbench.Run(again.path)
    np.testing.assert_array_equal(np.asarray(again.confusion), np.asarray(run.confusion))


def test_a_finished_run_is_not_trained_again(recipe: Path, tmp_path: Path) -> None:
    run = toy_run(recipe, tmp_path / "run", "train.epochs=1")
    said: list[str] = []
    soundbench.resume(run, trust_code=True, say=said.append)
    assert said == [f"{run}: this run is finished; nothing to resume"]


def test_the_model_after_a_resume_is_the_one_that_was_tested(recipe: Path, tmp_path: Path) -> None:
    """As after a kill between model and checkpoint, where training again does not give the same bits."""
    run = toy_run(recipe, tmp_path / "run", "train.epochs=1")
    before = weights(run)
    path = run / "model" / "weights.safetensors"
    stored = safetensors.torch.load_file(path)
    safetensors.torch.save_file({name: value + 1 for name, value in stored.items()}, path)
    (run / "report.json").unlink()
    soundbench.resume(run, trust_code=True)
    assert weights(run) == before


def test_the_seconds_of_a_resumed_run_are_those_of_all_its_steps(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = toy_run(recipe, tmp_path / "run", "train.epochs=12")
    spent = sum(float(row["seconds"]) for row in files.read_rows(run / "history.csv"))
    (run / "report.json").unlink()
    stopped_clock = SimpleNamespace(monotonic=lambda: 1000.0)  # the resume itself takes no time
    for module in (training_run, finishing):
        monkeypatch.setattr(module, "time", stopped_clock)
    soundbench.resume(run, trust_code=True)
    found = json.loads((run / "report.json").read_text())["seconds"]
    assert found == pytest.approx(spent, abs=0.06)
    assert found > 0.1  # else nothing is shown


def test_data_that_changed_since_is_refused_on_a_resume(recipe: Path, tmp_path: Path) -> None:
    run = toy_run(recipe, tmp_path / "run", "train.epochs=1")
    (run / "report.json").unlink()
    resolved = (run / "recipe.toml").read_text()
    (run / "recipe.toml").write_text(resolved.replace("clips = 64", "clips = 62"))
    with pytest.raises(RunError) as caught:
        soundbench.resume(run, trust_code=True, accept_changes=True)
    assert str(caught.value) == f"{run}: the data has changed since the run began; start a new run"


def test_a_model_whose_classes_disagree_is_refused(recipe: Path, tmp_path: Path) -> None:
    run = toy_run(recipe, tmp_path / "run", "train.epochs=1")
    described = (run / "model" / "model.toml").read_text()
    (run / "model" / "model.toml").write_text(described.replace('    "low",\n', '    "low",\n    "middle",\n'))
    with pytest.raises(RunError) as caught:
        soundbench.load(run, trust_code=True, accept_changes=True)
    assert str(caught.value) == f"{run}/model: model.toml names 3 classes, but the weights have 2"


def test_damaged_weights_are_refused(recipe: Path, tmp_path: Path) -> None:
    run = toy_run(recipe, tmp_path / "run", "train.epochs=1")
    path = run / "model" / "weights.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(RunError, match=r"weights.safetensors: damaged: "):
        soundbench.load(run, trust_code=True, accept_changes=True)


def test_the_weights_hold_each_tensor_once_and_contiguous(recipe: Path, tmp_path: Path) -> None:
    run = toy_run(recipe, tmp_path / "run", "train.epochs=1")
    stored = safetensors.torch.load_file(run / "model" / "weights.safetensors")
    network = soundbench.load(run, trust_code=True).network
    assert stored.keys() == network.state_dict().keys()
    assert all(value.is_contiguous() for value in stored.values())


def test_unreadable_clips_end_the_run_or_are_skipped_and_reported(recipe: Path, tmp_path: Path) -> None:
    mine = f'dataset.use="{TOYS}:ToyBroken"'
    with pytest.raises(DataError, match="the tape is torn"):
        toy_run(recipe, tmp_path / "fail", mine)
    run = toy_run(recipe, tmp_path / "skip", mine, 'audio.on_error="skip"', "train.epochs=1")
    skipped = json.loads((run / "report.json").read_text())["skipped"]
    assert skipped["count"] == 2
    assert [clip["path"] for clip in skipped["clips"]] == ["3", "12"]
    assert "the tape is torn" in skipped["clips"][0]["reason"]
    assert [row["part"] for row in files.read_rows(run / "clips.csv")].count("unreadable") == 2


def test_balanced_weights_have_mean_one_over_the_training_clips() -> None:
    from soundbench.data.clips import ClipTable
    from soundbench.data.order import class_weights

    class Lopsided(toys.ToyDataset):
        def clips(self) -> Any:
            for number in range(40):
                yield soundbench.Clip(str(number), (self.classes[number % 4 == 0],))

    table = ClipTable.of(Lopsided(clips=40))
    rows = np.arange(40)
    balanced = class_weights("balanced", table, rows, "toy")
    np.testing.assert_allclose(balanced, [40 / (2 * 30), 40 / (2 * 10)], rtol=1e-6)
    given = class_weights({"high": 3.0}, table, rows, "toy")
    assert given[1] / given[0] == pytest.approx(3.0)
    assert (table.targets(rows) @ given).mean() == pytest.approx(1.0)
    with pytest.raises(RecipeError) as caught:
        class_weights({"hihg": 3.0}, table, rows, "toy")
    assert str(caught.value) == "toy: train.class_weights: no class 'hihg'; the classes are: low, high"
    with pytest.raises(RecipeError) as caught:
        class_weights({"low": 0.0, "high": 0.0}, table, rows, "toy")
    assert str(caught.value) == ("toy: train.class_weights: must not be 0 for every class in the training set")


@pytest.mark.parametrize(
    ("sets", "message"),
    [
        (["train.batch_size=1"], "a step of 1 clip in 1 piece has pieces of fewer than 2 clips"),
        (
            ["train.batch_size=2", "split.validation=[2]", "dataset.clips=49"],
            "a step of 1 clip in 1 piece has pieces of",
        ),
        (["train.accumulate=4"], "a step of 5 clips in 4 pieces has pieces of fewer than 2 clips"),
    ],
)
def test_batches_too_small_for_batch_norm_are_refused(
    recipe: Path, tmp_path: Path, sets: list[str], message: str
) -> None:
    with pytest.raises(RecipeError) as caught:
        toy_run(recipe, tmp_path / "run", *sets)
    blamed = f"--set {sets[0]}" if "batch_size" in sets[0] else f"{recipe}: train.batch_size"
    assert str(caught.value).startswith(f"{blamed}: {message}")
    assert not (tmp_path / "run").exists()  # said before anything is made or read


def test_constructors_that_refuse_are_gathered_under_their_tables(recipe: Path, tmp_path: Path) -> None:
    with pytest.raises(RecipeError) as caught:
        toy_run(recipe, tmp_path / "run", "dataset.clips=0", "backbone.channels=0", "scheduler.floor=-1.0")
    assert str(caught.value).splitlines() == [
        "--set dataset.clips=0: must be at least 1, not 0",
        "--set backbone.channels=0: must be at least 1, not 0",
        f"{recipe}: scheduler: Ending multiplicative factor expected to be between 0 and 1.",
    ]


class Liar(toys.ToyBackbone):
    """Says one width and gives another."""

    def __init__(self, bands: int, *, channels: int = 16) -> None:
        super().__init__(bands, channels=channels)
        self.channels = channels + 1


def test_two_parts_whose_shapes_disagree_are_named_before_any_sound_is_read(recipe: Path, tmp_path: Path) -> None:
    use = f'backbone="{Path(__file__)}:Liar"'
    with pytest.raises(RecipeError) as caught:
        toy_run(recipe, tmp_path / "run", use)
    assert "declares 17 channels, but gives 16: (2, 16, 25)" in str(caught.value)
    assert not (tmp_path / "run").exists()


class WithoutLengths(toys.ToyBackbone):
    """Returns frames alone."""

    def forward(self, features: torch.Tensor, lengths: torch.Tensor) -> Any:
        return super().forward(features, lengths)[0]


class TooLong(toys.ToyBackbone):
    """Halves the frames, and leaves the lengths as they were."""

    def forward(self, features: torch.Tensor, lengths: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        frames, lengths = super().forward(features, lengths)
        return frames[:, :, ::2], lengths


class Flat(toys.ToyBackbone):
    """Has no frames any more."""

    def forward(self, features: torch.Tensor, lengths: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        frames, lengths = super().forward(features, lengths)
        return frames.mean(2), torch.ones_like(lengths)


class WithoutChannels(nn.Module):
    """Does not say how many channels it has."""

    def __init__(self, bands: int) -> None:
        super().__init__()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("WithoutLengths", "it must return a tuple of two tensors, data and lengths"),
        ("TooLong", "it returns data (2, 16, 13), whose lengths cannot be [25, 12]"),
        ("Flat", "it returns data (2, 16), not of three dimensions: rows, channels, frames"),
        ("WithoutChannels", "raised AttributeError: it has no attribute 'channels', see the contract of its kind"),
    ],
)
def test_a_backbone_that_returns_or_says_too_little_is_named(
    name: str, message: str, recipe: Path, tmp_path: Path
) -> None:
    with pytest.raises((RecipeError, BrokenPlugin), match=f"{re.escape(name)}.*{re.escape(message)}"):
        toy_run(recipe, tmp_path / "run", f'backbone="{Path(__file__)}:{name}"')


class Needy(nn.Module):
    """Augments by a file that is not there."""

    on = "waveform"

    def __init__(self, rate: int, *, path: Path) -> None:
        super().__init__()
        self.path = path

    def prepare(self) -> None:
        raise MissingDataError(f"{self.path}: no such file")

    def forward(self, batch: Batch, chance: Chance) -> Batch:
        return batch


def test_an_augmentation_without_its_files_ends_a_run_before_it_begins(recipe: Path, tmp_path: Path) -> None:
    """And which one it is, of two of a kind."""
    use = f"{Path(__file__)}:Needy"
    needy = f'augmentation=["gain", {{use="{use}", path="{tmp_path}/noise"}}]'
    assert soundbench.read_recipe(recipe, [needy]).augmentation
    with pytest.raises(MissingDataError) as caught:
        toy_run(recipe, tmp_path / "run", needy)
    assert str(caught.value) == f"augmentation[1] ({use}): {tmp_path}/noise: no such file"
    assert not (tmp_path / "run").exists()
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("device", ["cuda", "cuda:3"])
@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_said(recipe: Path, tmp_path: Path, device: str) -> None:
    process = command("run", recipe, "--device", device)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 2
    assert errors == f"device {device!r}: torch finds no CUDA device; use 'auto' or 'cpu'\n"


class Counting(toys.ToyDataset):
    """Toy data that writes down each reading.

    Args:
        clips: how many.
        journal: the file to write to.
    """

    def __init__(self, *, clips: int = 40, journal: str = "") -> None:
        super().__init__(clips=clips)
        self.journal = journal

    def read(self, clip: soundbench.Clip) -> tuple[np.ndarray, int]:
        with open(self.journal, "a") as file:
            file.write(f"{clip.path}\n")
        return super().read(clip)


def test_sound_is_read_once_for_all_epochs_and_runs(recipe: Path, tmp_path: Path) -> None:
    journal = tmp_path / "journal"
    use = f'dataset={{use="{Path(__file__)}:Counting", clips=64, journal="{journal}"}}'
    toy_run(recipe, tmp_path / "first", use)
    toy_run(recipe, tmp_path / "second", use)
    assert sorted(journal.read_text().split(), key=int) == [str(number) for number in range(64)]
    toy_run(recipe, tmp_path / "third", use, "train.epochs=1", cache=False)
    assert len(journal.read_text().split()) == 128


def test_a_run_that_fails_at_work_says_it_in_one_line(recipe: Path, tmp_path: Path) -> None:
    process = command("run", recipe, "--out", tmp_path / "run", "--set", "optimizer.lr=1e30")
    out, errors = process.communicate(timeout=60)
    assert (process.returncode, out) == (1, "")
    said = [line for line in errors.splitlines() if not line.startswith(("run: ", "sound: ", "clips: "))]
    assert len(said) == 2
    assert said[0] == f"stopped; to resume: soundbench run --resume {tmp_path / 'run'} --trust-code"
    assert said[1].startswith("the loss is no longer finite at step ")


def test_the_command_that_resumes_repeats_what_the_run_does_not_keep(recipe: Path, tmp_path: Path) -> None:
    run, cache = tmp_path / "a run", tmp_path / "elsewhere"
    run.mkdir()
    begun = soundbench.read_recipe(recipe)
    known = f"soundbench run --resume '{run}'"
    assert resume_line(begun, RunDirectory(run)) == f"{known} --trust-code"
    assert resume_line(begun, RunDirectory(run), cache=cache) == f"{known} --cache {cache} --trust-code"
    assert resume_line(begun, RunDirectory(run), "cuda:1", False) == f"{known} --device cuda:1 --no-cache --trust-code"
    errors = command("run", recipe, "--out", run, "--cache", cache, "--set", "optimizer.lr=1e30").communicate(
        timeout=60
    )
    assert f"stopped; to resume: {known} --cache {cache} --trust-code\n" in errors[1]


def test_a_path_is_read_as_a_recipe(recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run = soundbench.run(str(recipe), out="run", cache=str(tmp_path / "sounds"), say=lambda line: None)
    assert (tmp_path / "run" / "report.json").exists()
    assert any((tmp_path / "sounds").iterdir())
    assert soundbench.resume("run", trust_code=True, say=lambda line: None).path == run.path
    assert soundbench.describe(recipe)["name"] == "toy"
    with pytest.raises(RecipeError, match=r"nowhere\.toml"):
        soundbench.run_folds("nowhere.toml")
    with pytest.raises(
        CallError, match=r"^recipe must be a soundbench\.Recipe or the path of a recipe, is of the type dict$"
    ):
        soundbench.run({"dataset": "tones"})  # type: ignore[arg-type]


class Carrying(toys.ToyFeaturizer):
    """A featurizer whose model must carry a file along."""

    words = ""

    @classmethod
    def from_assets(cls, folder: Path, rate: int, **options: Any) -> Carrying:
        made = cls(rate, **options)
        made.words = (folder / "vocabulary.txt").read_text()
        return made

    def assets(self, folder: Path) -> None:
        (folder / "vocabulary.txt").write_text("a b c")


def test_what_a_featurizer_must_carry_along_is_in_the_model(recipe: Path, tmp_path: Path) -> None:
    run = toy_run(recipe, tmp_path / "run", f'featurizer="{Path(__file__)}:Carrying"', "train.epochs=1")
    assert (run / "model" / "assets" / "vocabulary.txt").read_text() == "a b c"
    featurizer = soundbench.load(run, trust_code=True).network.featurizer
    assert (featurizer.words, featurizer.floor) == ("a b c", 1e-5)


class CarryingBackbone(toys.ToyBackbone):
    """A backbone whose model must carry a file along."""

    words = ""

    @classmethod
    def from_assets(cls, folder: Path, bands: int, **options: Any) -> CarryingBackbone:
        made = cls(bands, **options)
        made.words = (folder / "vocabulary.txt").read_text()
        return made

    def assets(self, folder: Path) -> None:
        (folder / "vocabulary.txt").write_text("d e f")


def test_a_backbone_and_a_featurizer_carry_along_files_of_one_name(recipe: Path, tmp_path: Path) -> None:
    parts = (f'featurizer="{Path(__file__)}:Carrying"', f'backbone="{Path(__file__)}:CarryingBackbone"')
    run = toy_run(recipe, tmp_path / "run", *parts, "train.epochs=1")
    network = soundbench.load(run, trust_code=True).network
    assert (network.featurizer.words, network.backbone.words) == ("a b c", "d e f")
    (run / "model" / "assets" / "backbone" / "vocabulary.txt").write_text("d e")
    with pytest.raises(RunError, match=r"assets/backbone/vocabulary\.txt"):
        soundbench.load(run, trust_code=True)
