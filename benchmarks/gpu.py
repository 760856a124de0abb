"""Training and scoring on a GPU: clips/s in each precision, memory, and the phases of a step.

    python benchmarks/gpu.py [--batch 64] [--steps 30] [--seconds 3.0] [--device cuda]

Trains and scores with CAM++ on batches in memory, in fp32, bf16 and fp16 (scoring is always in fp32), and prints a
table; then the largest difference of scores between this GPU and the CPU. It needs a CUDA device.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from engine import CLASSES, batches, network
from soundbench_plugins.loss.cross_entropy import CrossEntropy
from soundbench_plugins.optimizer.adamw import adamw
from soundbench_plugins.scheduler.constant import constant

from soundbench.data.batches import RawBatch
from soundbench.data.order import Order
from soundbench.machine import Machine, settle
from soundbench.model.network import Network
from soundbench.model.scoring import Scorer, score_batches
from soundbench.model.weights import parameter_groups
from soundbench.training.loop import train
from soundbench.training.profiling import StepTimes
from soundbench.training.step import Rules, TrainSetup, TrainStep

WARM = 5


def trained(model: Network, data: list[RawBatch], machine: Machine, step_times: StepTimes) -> float:
    """Clips/s of training, without the first few steps."""
    machine.place(model)
    size = len(data[0].lengths)
    plan = Order(np.arange(len(data) * size), size, seed=0)
    optimizer = adamw(parameter_groups(model))
    times: list[float] = []

    def fed(_first: int) -> Any:
        for number, batch in enumerate(data):
            if number == WARM:
                wait(machine)
                times.append(time.perf_counter())
            yield batch
        wait(machine)

    setup = TrainSetup(
        network=model,
        step=TrainStep(model, [], CrossEntropy(CLASSES), 0).to(machine.device),
        augmentations=[],
        optimizer=optimizer,
        scheduler=constant(optimizer, plan.steps, plan.steps),
        every="step",
        scaler=torch.amp.GradScaler(machine.device.type, enabled=machine.precision == "fp16"),
        class_weights=torch.ones(CLASSES, device=machine.device),
        plan=plan,
        machine=machine,
    )

    def ended(_row: object) -> None:
        wait(machine)
        times.append(time.perf_counter())

    with tempfile.TemporaryDirectory() as folder:
        train(
            setup,
            Rules(epochs=1, seed=0),
            fed,
            Path(folder),
            validate=lambda: None,
            notify=lambda hook, **_: None,
            on_better=lambda _: None,
            on_epoch=ended,
            times=step_times,
        )
    return (len(data) - WARM) * size / (times[1] - times[0])


def wait(machine: Machine) -> None:
    if machine.device.type == "cuda":
        torch.cuda.synchronize()


def scored(model: Network, data: list[RawBatch], machine: Machine) -> tuple[float, np.ndarray]:
    """Clips/s of scoring, and the scores."""
    numbered = [raw._replace(index=raw.index + number * len(raw.index)) for number, raw in enumerate(data)]
    by = Scorer(machine.place(model), CrossEntropy(CLASSES).to(machine.device), machine, "off")
    score_batches(by, numbered[:WARM], sum(len(raw.index) for raw in numbered[:WARM]), CLASSES)
    wait(machine)
    began = time.perf_counter()
    scores = score_batches(by, numbered, sum(len(raw.index) for raw in numbered), CLASSES).scores
    return len(scores) / (time.perf_counter() - began), scores


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--device", default="cuda")
    options = parser.parse_args()
    if options.device.startswith("cuda") and not torch.cuda.is_available():
        sys.exit(f"benchmarks/gpu.py needs a CUDA device, and torch {torch.__version__} finds none")
    data = batches(options.steps + WARM, options.batch, options.seconds)
    gpu = options.device.startswith("cuda")
    name = torch.cuda.get_device_name() if gpu else "CPU"
    print(f"{name}, torch {torch.__version__}, CAM++, {options.batch} clips of {options.seconds:g} s a step")
    print("        training    memory   data   move  forward  backward  optimizer")
    for precision in ("fp32", "bf16", "fp16") if gpu else ("fp32", "bf16"):
        machine = settle(options.device, precision)
        machine.use()
        step_times = StepTimes(machine.device)
        if gpu:
            torch.cuda.reset_peak_memory_stats()
        speed = trained(network(False), data, machine, step_times)
        memory = f"{torch.cuda.max_memory_allocated() / 1e9:.2f} GB" if gpu else "-"
        share = step_times.shares
        print(
            f"{precision:5} {speed:8.1f} c/s {memory:>9} {share['data']:6.1%} {share['move']:6.1%} "
            f"{share['forward']:8.1%} {share['backward']:9.1%} {share['update']:10.1%}"
        )
    speed, scores = scored(network(False), data, settle(options.device, "fp32"))
    print(f"scoring {speed:.1f} clips/s in fp32")
    _, expected = scored(network(False), data[:2], settle("cpu", "fp32"))
    print(f"scores differ from the CPU's by {np.abs(scores[: len(expected)] - expected).max():.1e} at most")


if __name__ == "__main__":
    main()
