"""A training of toys without a recipe: its data in memory, its parts, its end."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from helpers.toys import (
    ToyBackbone,
    ToyDataset,
    ToyDrop,
    ToyFeaturizer,
    ToyGain,
    ToyLoss,
    ToyPooling,
    toy_optimizer,
    toy_scheduler,
)
from soundbench import distributed
from soundbench.data.batches import training_batches
from soundbench.data.clips import ClipTable
from soundbench.data.order import Order
from soundbench.machine import Machine
from soundbench.model.network import Head, Network
from soundbench.model.weights import Average, freeze, parameter_groups
from soundbench.training.compiling.compiler import Compiler, Compiling
from soundbench.training.loop import train
from soundbench.training.step import Rules, TrainSetup, TrainStep

CPU = Machine(torch.device("cpu"), "fp32", 1, False)
WINDOW = 1600
ASKED = Compiling("on", "on", "as asked")


class ArrayStore:
    """A store in memory."""

    hop = 1

    def __init__(self, dataset: ToyDataset) -> None:
        sounds = [dataset.read(clip)[0] for clip in dataset.clips()]
        self.sounds = [(sound * 32767).astype(np.int16) for sound in sounds]
        self.lengths = np.array([len(sound) for sound in sounds])

    def gather(self, rows: Any, starts: Any, counts: Any, size: int) -> tuple[np.ndarray, np.ndarray]:
        samples = np.zeros((len(rows), size), np.int16)
        for place, (row, start, count) in enumerate(zip(rows, starts, counts, strict=True)):
            samples[place, :count] = self.sounds[row][start : start + count]
        return samples, np.full(len(rows), 1 / 32767, np.float32)


def made(
    plan: Order,
    epochs: int,
    dropout: float = 0.2,
    norm: bool = True,
    by_epoch: bool = False,
    ema: float = 0.0,
    frozen: bool = False,
    compiled: list[Compiling] | None = None,
) -> TrainSetup:
    """Toy parts; `by_epoch` steps the rate at each epoch, and scales losses as for fp16; `frozen` batch norm.

    With `compiled`, the step is compiled, and what came of it is added to that list.
    """
    torch.manual_seed(3)
    backbone = ToyBackbone(32, dropout=dropout)
    if not norm:
        backbone.norm = nn.Identity()
    network = Network(ToyFeaturizer(8000), backbone, ToyPooling(16), Head(16, 2, embedding=8))
    still = freeze(network, ["backbone.norm"]) if frozen else []
    step = TrainStep(network, [("augmentation[1]", ToyDrop(8000))], ToyLoss(2), plan.seed)
    optimizer = toy_optimizer(parameter_groups(network))
    return TrainSetup(
        network=network,
        step=distributed.wrap(step, CPU.device),
        augmentations=[("augmentation[0]", ToyGain(8000))],
        optimizer=optimizer,
        scheduler=toy_scheduler(optimizer, epochs if by_epoch else epochs * plan.steps, plan.steps),
        every="epoch" if by_epoch else "step",
        scaler=torch.amp.GradScaler("cpu", init_scale=16.0, growth_interval=4, enabled=by_epoch),
        class_weights=torch.ones(2),
        plan=plan,
        machine=CPU,
        frozen=still,
        average=Average(network, ema, 0) if ema else None,
        compiler=None if compiled is None else Compiler(step, CPU, 6, ASKED, {}, compiled.append),
    )


class Stopped(Exception):
    """Stands for a kill."""


def go(
    folder: Path,
    *,
    epochs: int = 3,
    rules: Mapping[str, Any] | None = None,
    state: Mapping[str, Any] | None = None,
    stop_at: int | None = None,
    plan: Mapping[str, Any] | None = None,
    parts: Mapping[str, Any] | None = None,
) -> tuple[dict[str, torch.Tensor], list[dict[str, float]]]:
    dataset = ToyDataset(clips=26)
    table, store = ClipTable.of(dataset), ArrayStore(dataset)
    order = Order(
        np.arange(26),
        **{"batch": 6, "seed": 5, "rank": distributed.rank(), "world": distributed.world()} | dict(plan or {}),
    )
    ready = made(order, epochs, **dict(parts or {}))
    history: list[dict[str, float]] = []

    def batches(first: int) -> Any:
        for number, batch in enumerate(training_batches(store, table, order, WINDOW, epochs, first), start=first):
            if number == stop_at:
                raise Stopped
            yield batch

    train(
        ready,
        Rules(epochs=epochs, seed=5, **{"keep": 50} | dict(rules or {})),
        batches,
        folder,
        validate=lambda: None,
        notify=lambda hook, **_: None,
        on_better=lambda _: None,
        on_epoch=lambda row: history.append(dict(row)),
        state=state,
    )
    return {name: value.clone() for name, value in ready.evaluated.state_dict().items()}, history


def same(one: Mapping[str, torch.Tensor], other: Mapping[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)
