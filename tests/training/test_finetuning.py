"""Fine-tuning as docs/finetuning.md has it: frozen, then thawed with rates by part; resumed; in two processes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import safetensors.torch
import torch
from helpers import toys
from helpers.entry_points import NAMES, toy_registry
from helpers.runs import TOYS, command, done, toy_run, weights

import soundbench
from soundbench.model.importing import import_model
from soundbench.model.network import Head, Network
from soundbench.training.run import run

pytestmark = pytest.mark.usefixtures("cache")

RATE = 1e-4  # of the thawed backbone; the head's is 0.01


def tensors(found: Path) -> dict[str, torch.Tensor]:
    return safetensors.torch.load(weights(found))


def moved(one: Path, other: Path, part: str) -> float:
    """The largest change of a trained weight of a part."""
    before, after = tensors(one), tensors(other)
    names = [name for name in before if name.startswith(f"{part}.") and name.endswith(("weight", "bias"))]
    return max(float((before[name] - after[name]).abs().max()) for name in names)


def same(one: Path, other: Path, part: str) -> bool:
    """Whether a part is the same to the bit, running statistics included; their count of steps begins anew."""
    before, after = tensors(one), tensors(other)
    names = [name for name in before if name.startswith(f"{part}.") and not name.endswith("num_batches_tracked")]
    return all(torch.equal(before[name], after[name]) for name in names)


@pytest.fixture
def frozen(recipe: Path, tmp_path: Path) -> Path:
    """A recipe that trains a head for three classes on the backbone of a run with two of them."""
    pretrained = toy_run(recipe, tmp_path / "pretrained", "train.epochs=2")
    path = tmp_path / "frozen.toml"
    path.write_text(f"""
extends = "{recipe}"
dataset = {{ use = "{TOYS}:ToyThree", clips = 64, seed = 1 }}
init.from = "{pretrained}"
train.freeze = ["backbone"]
""")
    return path


def thawed(recipe: Path, start: Path) -> Path:
    """A recipe that goes on from a run, with a small rate for the backbone."""
    path = recipe.with_name("thawed.toml")
    path.write_text(f"""
extends = "{recipe}"
init.from = "{start}"
[train]
freeze = []
rates = {{ backbone = {RATE} }}
""")
    return path


def test_a_frozen_backbone_stays_and_classes_keep_their_rows(frozen: Path, tmp_path: Path) -> None:
    first = toy_run(frozen, tmp_path / "first", "train.epochs=1", "optimizer.lr=1e-30")
    pretrained = tmp_path / "pretrained"
    assert same(pretrained, first, "backbone")
    for name in ("head.classify.weight", "head.classify.bias"):
        assert torch.equal(tensors(first)[name][:2], tensors(pretrained)[name]), name
    log = (first / "log.txt").read_text()
    assert "2 of 3 classes have a row of the same name in the file; these begin anew: clicks" in log
    trained = toy_run(frozen, tmp_path / "trained")
    assert same(pretrained, trained, "backbone")
    assert moved(first, trained, "head") > 0.01


def stopped(whole: Path, cut: Path) -> Path:
    """A copy of a finished run that has only what it had after its first epoch, and no model."""
    shutil.copytree(whole, cut)
    later = sorted((cut / "checkpoints").glob("step-*.pt"))[1:]
    for path in (*later, cut / "checkpoints" / "best.pt", cut / "digests.json", cut / "model" / "weights.safetensors"):
        path.unlink()
    return cut


@pytest.mark.parametrize("processes", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_frozen_then_thawed_and_resumed(processes: int, frozen: Path, tmp_path: Path) -> None:
    """As it would have been if nothing had stopped it, to the bit, though what it began with is gone."""
    first, whole = tmp_path / "first", tmp_path / "whole"
    toy_run(frozen, first)
    assert same(tmp_path / "pretrained", first, "backbone")
    second = thawed(frozen, first)
    if processes == 1:
        toy_run(second, whole)
    else:
        done(command("run", second, "--out", whole, "--processes", processes))
    steps = 3 * 7
    # Adam moves a weight by its rate at a step, and by 3.2 times that at most (Kingma and Ba, section 2.1).
    assert 0 < moved(first, whole, "backbone") < 3.2 * RATE * steps
    assert moved(first, whole, "head") > 3.2 * RATE * steps
    cut = stopped(whole, tmp_path / "cut")
    first.rename(tmp_path / "gone")
    if processes == 1:
        soundbench.resume(cut, trust_code=True)
    else:
        done(command("run", "--resume", cut, "--trust-code", "--processes", processes))
    assert "resumed after step 7 of 21" in (cut / "log.txt").read_text()
    assert weights(cut) == weights(whole)


def notes(run: Path) -> list[str]:
    """What the report says of the test clips that the run's first weights have learnt from."""
    found = json.loads((run / "report.json").read_text())["protocol"]["notes"]
    return [note for note in found if "init.from" in note]


@pytest.mark.slow
def test_test_clips_that_the_start_has_learnt_from_are_said(recipe: Path, tmp_path: Path) -> None:
    """In the log and in the report, also of a resumed run; through runs that lie between; for each fold."""
    short = "train.epochs=1"
    apart = toy_run(recipe, tmp_path / "apart", short)
    other = ("dataset.seed=1", f'init.from="{apart}"', "split.test=[1]")
    assert notes(toy_run(recipe, tmp_path / "other", short, *other)) == []
    everything = toy_run(recipe, tmp_path / "everything", short, "split.test=0")
    weights_of = everything / "model" / "weights.safetensors"
    between = toy_run(recipe, tmp_path / "between", short, f'init.from="{weights_of}"')
    last = toy_run(recipe, tmp_path / "last", short, f'init.from="{between}"')
    line = "16 of 16 test clips come from files that the weights of init.from were trained or validated on"
    for one in (between, last):
        (note,) = notes(one)
        assert note.startswith(line)
        assert f"WARNING: init: {note}" in (one / "log.txt").read_text()
    everything.rename(tmp_path / "gone")
    (last / "digests.json").unlink()
    (last / "report.json").unlink()
    soundbench.resume(last, trust_code=True)
    assert notes(last) == [note]
    made = soundbench.read_recipe(recipe, [short, f'init.from="{apart}"'])
    folds = soundbench.run_folds(made, out=tmp_path / "folds")
    assert notes(folds.path) == [f"fold {fold}: {note}" for fold in (1, 2, 3)]


def test_a_model_without_its_run_tells_by_its_card_what_it_has_learnt_from(recipe: Path, tmp_path: Path) -> None:
    short, alone = "train.epochs=1", tmp_path / "alone"
    shutil.move(toy_run(recipe, tmp_path / "first", short) / "model", alone)
    shutil.rmtree(tmp_path / "first")
    start = f'init.from="{alone}"'
    line = "the model of init.from is of the same dataset, so its weights may have learnt from the test clips"
    begun = toy_run(recipe, tmp_path / "begun", short, start)
    (note,) = notes(begun)
    assert note.startswith(line)
    assert f"WARNING: init: {note}" in (begun / "log.txt").read_text()
    assert notes(toy_run(recipe, tmp_path / "other", short, start, "dataset.seed=7")) == []
    (alone / "README.md").unlink()
    (note,) = notes(toy_run(recipe, tmp_path / "unknown", short, start))
    assert note.startswith("whether the weights of init.from have learnt from the test clips is not known")


def test_an_imported_model_is_a_start_for_other_classes(tmp_path: Path, only_toys: None) -> None:
    torch.manual_seed(5)
    backbone = toys.ToyBackbone(32, channels=4)
    network = Network(toys.ToyFeaturizer(8000), backbone, toys.ToyPooling(4), Head(4, 2, embedding=8))
    torch.save({f"net.{name}": tensor for name, tensor in network.state_dict().items()}, tmp_path / "theirs.pth")
    start = import_model("stranger", tmp_path / "theirs.pth", tmp_path / "imported", registry=toy_registry()).folder
    tables = NAMES | {
        "dataset": {"use": f"{TOYS}:ToyThree", "clips": 64},
        "backbone": {"use": "conv", "channels": 4},
        "pooling": "mean",
        "head": {"embedding": 8},
        "audio": {"rate": 8000, "window": 0.2},
        "init": {"from": start},
        "train": {"epochs": 1, "batch_size": 8, "device": "cpu", "freeze": ["backbone"]},
    }
    found = run(soundbench.Recipe(**tables), out=tmp_path / "run", cache=False, say=lambda _: None)
    for name, value in network.backbone.state_dict().items():
        assert torch.equal(tensors(found.path)[f"backbone.{name}"], value), name
