"""Overhead of the engine: clips/s of a soundbench trainer relative to a bare PyTorch loop, alternating.

    python benchmarks/engine.py [--steps 8] [--rounds 5] [--batch 16] [--small]

Both train CAM++ (or, with `--small`, a narrow one with short steps) on the same batches in memory. Prints
the clips/s of each round and the median of their ratios; the goal is 0.95.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from soundbench_plugins.backbone.campplus import CAMPPlus
from soundbench_plugins.featurizer.fbank import Fbank
from soundbench_plugins.loss.cross_entropy import CrossEntropy
from soundbench_plugins.optimizer.adamw import adamw
from soundbench_plugins.pooling.tsp import TSP
from soundbench_plugins.scheduler.constant import constant

from soundbench.data.batches import RawBatch
from soundbench.data.order import Order
from soundbench.machine import settle
from soundbench.model.network import Head, Network
from soundbench.model.weights import parameter_groups
from soundbench.training.loop import train
from soundbench.training.step import Rules, TrainSetup, TrainStep

CLASSES = 10


def network(small: bool) -> Network:
    torch.manual_seed(0)
    options = {"growth": 8, "width": 32, "layers": [4, 4, 4], "front": 8} if small else {}
    backbone = CAMPPlus(80, **options)
    pooling = TSP(backbone.channels)
    return Network(Fbank(16000), backbone, pooling, Head(pooling.features, CLASSES, **backbone.default_head))


def batches(count: int, batch: int, seconds: float) -> list[RawBatch]:
    draws = torch.Generator().manual_seed(1)
    size = round(seconds * 16000)
    return [
        RawBatch(
            torch.randint(-9000, 9000, (batch, size), generator=draws, dtype=torch.int16),
            torch.full((batch,), 1 / 32768),
            torch.full((batch,), size),
            torch.eye(CLASSES)[torch.randint(0, CLASSES, (batch,), generator=draws)],
            torch.arange(batch),
            torch.arange(batch),
        )
        for _ in range(count)
    ]


def bare(model: Network, data: list[RawBatch], machine: object) -> float:
    machine.place(model).train()
    loss, optimizer = CrossEntropy(CLASSES), adamw(parameter_groups(model))
    began = time.perf_counter()
    for raw in data:
        with machine.autocast():
            logits = model(raw.samples.float() * raw.scales[:, None], raw.lengths)
        loss(logits.float(), raw.target).mean().backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    return time.perf_counter() - began


def engine(model: Network, data: list[RawBatch], machine: object) -> float:
    machine.place(model)
    rows = len(data) * len(data[0].lengths)
    plan = Order(np.arange(rows), len(data[0].lengths), seed=0)
    optimizer = adamw(parameter_groups(model))
    setup = TrainSetup(
        model,
        TrainStep(model, [], CrossEntropy(CLASSES), 0),
        [],
        optimizer,
        constant(optimizer, plan.steps, plan.steps),
        "step",
        torch.amp.GradScaler("cpu", enabled=False),
        torch.ones(CLASSES),
        plan,
        machine,
    )
    ended = []
    began = time.perf_counter()

    def epoch_ended(_row: object) -> None:
        ended.append(time.perf_counter() - began)

    with tempfile.TemporaryDirectory() as folder:
        train(
            setup,
            Rules(epochs=1, seed=0),
            lambda _first: data,
            Path(folder),
            validate=lambda: None,
            notify=lambda hook, **_: None,
            on_better=lambda _: None,
            on_epoch=epoch_ended,
        )
    return ended[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--small", action="store_true")
    options = parser.parse_args()
    machine = settle(device="cpu")
    machine.use()
    print(f"precision {machine.precision}, {machine.threads} threads, channels last {machine.channels_last}")
    data = batches(options.steps, options.batch, 1.0 if options.small else 3.0)
    clips = options.steps * options.batch
    bare(network(options.small), data[:2], machine)
    ratios = []
    for number in range(options.rounds):
        order = (bare, engine) if number % 2 else (engine, bare)
        seconds = {which: which(network(options.small), data, machine) for which in order}
        ratios.append(seconds[bare] / seconds[engine])
        print(f"bare {clips / seconds[bare]:7.2f} clips/s   engine {clips / seconds[engine]:7.2f}   {ratios[-1]:.3f}")
    print(f"median ratio {statistics.median(ratios):.3f} (from {min(ratios):.3f} to {max(ratios):.3f})")


if __name__ == "__main__":
    main()
