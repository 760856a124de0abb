"""Training with two processes of one thread compared with one process of two threads: clips/s, alternating.

    python benchmarks/processes.py [--rounds 5] [--steps 6] [--batch 32] [--processes 2] [--small] [--write]

Each turn starts its processes as `soundbench run --processes` does and trains CAM++ (or, with `--small`, a narrow
one) on batches in memory for two epochs; the result is the clips/s of the second, as in a run's history. Each turn
divides the cores among its processes. The goal for the median of the ratios is 0.9. `--write` saves the table in
`benchmarks/results/processes.md`.
"""

from __future__ import annotations

import argparse
import re
import statistics
import tempfile
from pathlib import Path

import numpy as np
import torch
from engine import CLASSES, batches, network
from soundbench_plugins.loss.cross_entropy import CrossEntropy
from soundbench_plugins.optimizer.adamw import adamw
from soundbench_plugins.scheduler.constant import constant

from soundbench import distributed
from soundbench.cli.launch import launch
from soundbench.data.order import Order
from soundbench.machine import settle
from soundbench.model.weights import parameter_groups
from soundbench.training.loop import train
from soundbench.training.step import Rules, TrainSetup, TrainStep

PAGE = Path(__file__).parent / "results" / "processes.md"


def turn(steps: int, batch: int, small: bool) -> tuple[float, str]:
    """In each process: clips/s of all processes in the second epoch, and their precision and threads."""
    try:
        distributed.join("cpu")
        world = distributed.world()
        machine = settle("cpu", local_world=distributed.local_world())
        machine.use()
        model = network(small)
        machine.place(model)
        data = batches(steps, batch // world, 1.0 if small else 3.0)
        plan = Order(np.arange(steps * batch), batch, 0, distributed.rank(), world)
        optimizer = adamw(parameter_groups(model))
        setup = TrainSetup(
            model,
            distributed.wrap(TrainStep(model, [], CrossEntropy(CLASSES), 0), machine.device),
            [],
            optimizer,
            constant(optimizer, 2 * plan.steps, plan.steps),
            "step",
            torch.amp.GradScaler("cpu", enabled=False),
            torch.ones(CLASSES),
            plan,
            machine,
        )
        rates: list[float] = []
        with tempfile.TemporaryDirectory() as folder:
            train(
                setup,
                Rules(epochs=2, seed=0),
                lambda _first: data * 2,
                Path(folder),
                validate=lambda: None,
                notify=lambda hook, **_: None,
                on_better=lambda _: None,
                on_epoch=lambda row: rates.append(row["clips_per_second"]),
            )
        return rates[-1], f"{machine.precision}, {machine.threads} thread{'s' * (machine.threads > 1)} each"
    finally:
        distributed.leave()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    work = (options.steps, options.batch, options.small)
    rates: dict[int, list[float]] = {1: [], options.processes: []}
    ways: dict[int, str] = {}
    for number in range(options.rounds):
        for count in sorted(rates, reverse=bool(number % 2)):
            rate, ways[count] = launch(turn, work, count)
            rates[count].append(rate)
        print(
            ", ".join(f"{count} process{'es' * (count > 1)} {found[-1]:.2f} clips/s" for count, found in rates.items())
        )
    ratios = [several / one for one, several in zip(*rates.values(), strict=True)]
    lines = ["| processes | precision, threads | clips/s, median | from | to |", "|---|---|---|---|---|"]
    lines += [
        f"| {count} | {ways[count]} | {statistics.median(found):.2f} | {min(found):.2f} | {max(found):.2f} |"
        for count, found in rates.items()
    ]
    summary = f"Median of the {len(ratios)} ratios: **{statistics.median(ratios):.2f}**"
    text = "\n".join([*lines, "", f"{summary} (from {min(ratios):.2f} to {max(ratios):.2f}; the goal is 0.9)."])
    print(text)
    if options.write:
        page = PAGE.read_text(encoding="utf-8")
        between = re.compile(r"(?<=<!-- table -->\n).*(?=\n<!-- end -->)", re.DOTALL)
        PAGE.write_text(between.sub(lambda _: text, page), encoding="utf-8")


if __name__ == "__main__":
    main()
