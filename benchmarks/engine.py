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
from collections.abc import Sequence
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
from soundbench.machine import Machine, settle
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


def batches(count: int, batch: int, seconds: float, device: str = "cpu") -> list[RawBatch]:
    """Batches of noise in the memory of a device; positions are known to the host."""
    draws = torch.Generator().manual_seed(1)
    size = round(seconds * 16000)
    made = [
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
    return [RawBatch(*(part.to(device) for part in raw[:4]), *raw[4:]) for raw in made]


def wait(machine: Machine) -> None:
    """Wait until the device has done what was asked of it."""
    if machine.device.type == "cuda":
        torch.cuda.synchronize(machine.device)


def bare(model: Network, data: Sequence[RawBatch], machine: Machine, warm: int = 0) -> float:
    """Seconds of a plain loop over all batches after the first `warm`."""
    machine.place(model).train()
    loss, optimizer = CrossEntropy(CLASSES).to(machine.device), adamw(parameter_groups(model))
    scaler = torch.amp.GradScaler(machine.device.type, enabled=machine.precision == "fp16")
    for number, raw in enumerate(data):
        if number == warm:
            wait(machine)
            began = time.perf_counter()
        with machine.autocast():
            logits = model(raw.samples.float() * raw.scales[:, None], raw.lengths)
        scaler.scale(loss(logits.float(), raw.target).mean()).backward()
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad(set_to_none=True)
    wait(machine)
    return time.perf_counter() - began


def engine(model: Network, data: list[RawBatch], machine: Machine) -> float:
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
