"""The effect of precision, channels-last and threads on speed: the measurements behind `auto`.

    python benchmarks/precision.py [--rounds 5] [--batch 16]
    python benchmarks/precision.py --backbones [--rounds 5]
    python benchmarks/precision.py --evaluate RUN     test accuracy of a finished run in each precision

The first prints clips/s of CAM++ trained (forward, backward, AdamW) on three-second clips, with alternating settings:
medians, and the ratio to float32 with channels first. The second does so for each backbone with its default options, in
float32 and bf16, on batches of 8. The third scores the test clips of a run again.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import time
from pathlib import Path

import numpy as np
import torch
from engine import CLASSES, batches, network
from soundbench_plugins.featurizer.fbank import Fbank
from soundbench_plugins.loss.cross_entropy import CrossEntropy
from soundbench_plugins.optimizer.adamw import adamw
from soundbench_plugins.pooling.tsp import TSP

import soundbench
from soundbench.machine import Machine, settle
from soundbench.model.network import Head, Network
from soundbench.model.weights import parameter_groups

PRECISIONS = ("fp32", "bf16")
BACKBONES = ("campplus", "ecapa-tdnn", "tdnn", "resnet-se", "eres2net", "res2net", "mobilenet", "panns-cnn10")


def step_seconds(machine: Machine, model: torch.nn.Module, optimizer: torch.optim.Optimizer, raw: object) -> float:
    torch.set_num_threads(machine.threads)
    loss = CrossEntropy(CLASSES)
    began = time.perf_counter()
    with machine.autocast():
        logits = model(raw.samples.float() * raw.scales[:, None], raw.lengths)
    loss(logits.float(), raw.target).mean().backward()
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return time.perf_counter() - began


def speed(rounds: int, batch: int) -> None:
    raw = batches(1, batch, 3.0)[0]
    cores = settle(device="cpu").threads
    settings = []
    for precision, last, threads in itertools.product(PRECISIONS, (False, True), sorted({1, cores})):
        machine = Machine(torch.device("cpu"), precision, threads, last)
        model = machine.place(network(small=False)).train()
        settings.append((machine, model, adamw(parameter_groups(model)), []))
    for number in range(rounds + 1):
        for machine, model, optimizer, seconds in settings:
            elapsed = step_seconds(machine, model, optimizer, raw)
            if number:
                seconds.append(elapsed)
    base = {machine.threads: statistics.median(seconds) for machine, _, _, seconds in settings[: len({1, cores})]}
    print("| precision | channels last | threads | clips/s | ratio to fp32, channels first, same threads |")
    print("|---|---|---|---|---|")
    for machine, _, _, seconds in settings:
        middle = statistics.median(seconds)
        ratio = base[machine.threads] / middle
        cells = (machine.precision, machine.channels_last, machine.threads, f"{batch / middle:.1f}", f"{ratio:.2f}")
        print("| " + " | ".join(str(cell) for cell in cells) + " |")


def backbones(rounds: int) -> None:
    """Clips/s of each backbone in float32 and bf16, in turns."""
    raw = batches(1, 8, 3.0)[0]
    print("| backbone | threads | fp32, clips/s | bf16, clips/s | ratio |\n|---|---|---|---|---|")
    for name, threads in itertools.product(BACKBONES, sorted({1, settle(device="cpu").threads})):
        torch.manual_seed(0)
        backbone = soundbench.create("backbone", name, bands=80)
        pooling = TSP(backbone.channels)
        model = Network(Fbank(16000), backbone, pooling, Head(pooling.features, CLASSES))
        optimizer = adamw(parameter_groups(model))
        seconds: dict[str, list[float]] = {precision: [] for precision in PRECISIONS}
        for precision in PRECISIONS * (rounds + 1):
            machine = Machine(torch.device("cpu"), precision, threads, True)
            seconds[precision].append(step_seconds(machine, machine.place(model).train(), optimizer, raw))
        plain, half = (statistics.median(seconds[precision][1:]) for precision in PRECISIONS)
        print(f"| {name} | {threads} | {8 / plain:.1f} | {8 / half:.1f} | {plain / half:.2f} |", flush=True)


def evaluate(run: Path) -> None:
    from soundbench import files
    from soundbench.inference import classifier
    from soundbench.inference.predictions import Prediction

    model = classifier.load(run)
    rows = files.read_rows(run / "predictions.csv")
    truth = np.array([model.classes.index(row["label"]) for row in rows])
    stored = np.array([model.classes.index(row["predicted"]) for row in rows])
    print(f"stored predictions: {(stored == truth).mean():.4f} of {len(rows)} clips")
    paths = [Path(row["path"]) for row in rows]
    for precision in PRECISIONS:
        began = time.perf_counter()
        with Machine(torch.device("cpu"), precision, 1, False).autocast():
            predictions = [found for _, found in model.predict_files(paths)]
        seconds = time.perf_counter() - began
        labels = [found.label for found in predictions if isinstance(found, Prediction)]
        accuracy = np.mean([model.classes.index(label) == one for label, one in zip(labels, truth, strict=True)])
        print(f"{precision}: {accuracy:.4f}, {len(rows) / seconds:.1f} clips/s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--backbones", action="store_true")
    parser.add_argument("--evaluate", type=Path)
    options = parser.parse_args()
    if options.evaluate:
        evaluate(options.evaluate)
    elif options.backbones:
        backbones(options.rounds)
    else:
        speed(options.rounds, options.batch)


if __name__ == "__main__":
    main()
