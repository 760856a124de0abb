"""Training: what a step is, and that a resume is exact."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.toys import (
    ToyDataset,
)
from helpers.training import WINDOW, ArrayStore, Stopped, go, made, same

from soundbench.data.batches import training_batches
from soundbench.data.clips import ClipTable
from soundbench.data.order import Order
from soundbench.errors import RunError
from soundbench.model.weights import parameter_groups
from soundbench.training import checkpoints
from soundbench.training.loop import Validation, train
from soundbench.training.step import Rules, TrainSetup


def test_a_resume_at_any_step_ends_with_the_same_weights_bit_for_bit(tmp_path: Path) -> None:
    whole, history = go(tmp_path / "whole")
    for stop in (1, 5, 7, 13):
        folder = tmp_path / str(stop)
        with pytest.raises(Stopped):
            go(folder, rules={"checkpoint_steps": 1}, stop_at=stop)
        torch.manual_seed(99)
        random.seed(99)
        state = checkpoints.latest(folder, print)
        assert state is not None
        assert state["step"] == stop
        resumed, later = go(folder, state=state)
        assert same(whole, resumed), f"stopped before step {stop}"
        assert [row["train_loss"] for row in later] == pytest.approx(
            [row["train_loss"] for row in history[-len(later) :]]
        )


def test_a_schedule_by_epoch_and_the_scale_of_losses_resume_too(tmp_path: Path) -> None:
    parts = {"by_epoch": True}
    whole, history = go(tmp_path / "whole", parts=parts)
    assert len({row["rate"] for row in history}) == 3
    end = checkpoints.latest(tmp_path / "whole", print)
    for stop in (5, 8, 10):
        folder = tmp_path / str(stop)
        with pytest.raises(Stopped):
            go(folder, rules={"checkpoint_steps": 1}, stop_at=stop, parts=parts)
        resumed, later = go(folder, state=checkpoints.latest(folder, print), parts=parts)
        assert same(whole, resumed)
        assert [row["rate"] for row in later] == [row["rate"] for row in history[-len(later) :]]
        again = checkpoints.latest(folder, print)
        assert end is not None
        assert again is not None
        assert (again["scheduler"], again["scaler"]) == (end["scheduler"], end["scaler"])
        assert again["scaler"]["scale"] == 16.0 * 2**3


def test_training_depends_on_the_seed(tmp_path: Path) -> None:
    assert not same(go(tmp_path / "a")[0], go(tmp_path / "b", plan={"seed": 6})[0])


def test_pieces_of_a_batch_add_up_to_the_batch(tmp_path: Path) -> None:
    """Without batch norm and dropout, two pieces give the gradient of the whole."""
    plain = {"dropout": 0.0, "norm": False}
    whole, _ = go(tmp_path / "a", parts=plain)
    pieces, _ = go(tmp_path / "b", parts=plain, rules={"accumulate": 2})
    for name, value in whole.items():
        torch.testing.assert_close(pieces[name], value, rtol=1e-4, atol=1e-6)


def test_fewer_clips_than_a_batch_are_one_step() -> None:
    plan = Order(np.arange(5), batch=64, seed=0)
    assert plan.steps == 1
    assert sorted(plan.step(1, 0)[0]) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("count", [2, 7, 64, 65, 129, 1000])
@pytest.mark.parametrize("world", [1, 2, 3])
def test_an_epoch_shows_each_clip_once_and_no_step_is_left_with_one(count: int, world: int) -> None:
    plans = [Order(np.arange(count) + 10, 64, 1, rank, world) for rank in range(world)]
    steps = [np.concatenate([plan.step(2, step)[0] for plan in plans]) for step in range(plans[0].steps)]
    assert sorted(np.concatenate(steps)) == list(range(10, 10 + count))
    assert all(2 <= len(step) <= 64 for step in steps)
    assert [len(step) for step in steps] == [plans[0].size(step) for step in range(plans[0].steps)]


def test_the_order_of_an_epoch_is_the_same_for_any_batch_and_number_of_processes() -> None:
    def shown(batch: int, world: int) -> list[int]:
        plans = [Order(np.arange(100), batch, 1, rank, world) for rank in range(world)]
        by_position = {}
        for step in range(plans[0].steps):
            for plan in plans:
                rows, positions = plan.step(3, step)
                by_position.update(zip(positions.tolist(), rows.tolist(), strict=True))
        return [by_position[position] for position in range(100)]

    assert shown(8, 1) == shown(64, 1) == shown(30, 2) == shown(17, 3)


def test_windows_of_a_clip_do_not_depend_on_batch_or_workers() -> None:
    dataset = ToyDataset(clips=26)
    table, store = ClipTable.of(dataset), ArrayStore(dataset)

    def shown(batch: int, workers: int) -> dict[tuple[int, int], bytes]:
        found = {}
        plan = Order(np.arange(26), batch, 1)
        for number, raw in enumerate(training_batches(store, table, plan, 800, 2, workers=workers)):
            for row, position in enumerate(raw.position.tolist()):
                key = number // plan.steps, position
                found[key] = raw.samples[row].numpy().tobytes()
        return found

    assert shown(4, 0) == shown(9, 0) == shown(9, 1)


def test_a_loss_that_is_no_number_ends_the_run_with_advice(tmp_path: Path) -> None:
    def spoil(setup: TrainSetup) -> None:
        setup.network.head.classify.bias.data.fill_(float("nan"))

    dataset = ToyDataset(clips=8)
    table, store = ClipTable.of(dataset), ArrayStore(dataset)
    order = Order(np.arange(8), 4, 1)
    ready = made(order, 1)
    spoil(ready)
    with pytest.raises(
        RunError, match=r"the loss is no longer finite at step \d; lower optimizer.lr, set train.max_grad_norm"
    ):
        train(
            ready,
            Rules(epochs=1, seed=1),
            lambda first: training_batches(store, table, order, WINDOW, 1, first),
            tmp_path,
            validate=lambda: None,
            notify=lambda hook, **_: None,
            on_better=lambda _: None,
            on_epoch=lambda row: None,
        )


def test_patience_stops_and_the_best_epoch_is_kept(tmp_path: Path) -> None:
    dataset = ToyDataset(clips=8)
    table, store = ClipTable.of(dataset), ArrayStore(dataset)
    order = Order(np.arange(8), 4, 1)
    figures = iter([0.5, 0.7, 0.6, 0.7, 0.9])
    better: list[int] = []
    epochs: list[int] = []
    best = train(
        made(order, 9),
        Rules(epochs=9, seed=1, patience=2),
        lambda first: training_batches(store, table, order, WINDOW, 9, first),
        tmp_path,
        validate=lambda: Validation(next(figures), {}),
        notify=lambda hook, **_: None,
        on_better=lambda _: better.append(epochs[-1]),
        on_epoch=lambda row: epochs.append(int(row["epoch"])),
    )
    assert (best, better, epochs) == (2, [1, 2], [1, 2, 3, 4])
    assert checkpoints.load(tmp_path / "best.pt")["step"] == 4


@pytest.mark.parametrize("epoch", [1, 2])
def test_a_kill_between_a_checkpoint_and_its_being_the_best_loses_nothing(
    epoch: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(path: Path) -> None:
        if path.name == f"step-{5 * epoch:08d}.pt":
            raise Stopped
        keep_best(path)

    keep_best = checkpoints.keep_best
    monkeypatch.setattr(checkpoints, "keep_best", killed)
    with pytest.raises(Stopped):
        go(tmp_path, epochs=epoch)
    monkeypatch.setattr(checkpoints, "keep_best", keep_best)
    state = checkpoints.latest(tmp_path, print)
    assert state is not None
    for _ in range(2):
        go(tmp_path, epochs=epoch, state=state)
        assert checkpoints.load(tmp_path / "best.pt")["step"] == 5 * epoch
        assert not list(tmp_path.glob(".*"))


def test_norms_and_biases_do_not_decay() -> None:
    network = made(Order(np.arange(4), 2, 1), 1).network
    decaying, others = parameter_groups(network)
    assert all(parameter.ndim > 1 for parameter in decaying["params"])
    assert others["weight_decay"] == 0.0
    assert len(decaying["params"]) + len(others["params"]) == len(list(network.parameters()))


def test_a_damaged_checkpoint_is_said_and_passed_over(tmp_path: Path) -> None:
    go(tmp_path)
    last = max(tmp_path.glob("step-*.pt"))
    last.write_bytes(last.read_bytes()[: last.stat().st_size // 2])
    said: list[str] = []
    state = checkpoints.latest(tmp_path, said.append)
    assert state is not None
    assert state["step"] == 10
    assert said == [f"{last}: the checkpoint is damaged and cannot be read; trying the one before"]
    for path in tmp_path.glob("step-*.pt"):
        path.write_bytes(b"no zip")
    with pytest.raises(RunError) as caught:
        checkpoints.latest(tmp_path, said.append)
    assert str(caught.value) == f"{tmp_path}: every checkpoint is damaged; start a new run"


def test_a_damaged_checkpoint_that_was_passed_over_takes_no_place_of_a_good_one(tmp_path: Path) -> None:
    whole, _ = go(tmp_path / "whole")
    folder = tmp_path / "cut"
    go(folder)
    for step in (10, 15):
        checkpoints.path_of(folder, step).write_bytes(b"no zip")
    state = checkpoints.latest(folder, lambda _: None)
    with pytest.raises(Stopped):
        go(folder, state=state, stop_at=7, rules={"checkpoint_steps": 1, "keep": 1})
    assert sorted(path.name for path in folder.glob("step-*.pt")) == ["step-00000007.pt"]
    assert same(whole, go(folder, state=checkpoints.latest(folder, print))[0])
