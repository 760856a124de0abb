"""Steps compiled and not: by how much their losses differ, how long compiling takes, and what it makes faster.

    python benchmarks/compiling.py [--backbones tdnn,campplus] [--steps 20] [--batch 8] [--seconds 1.0] [--device cpu]

Each backbone trains on the same batches, with SpecAugment, by AdamW: as it is and compiled (`train.compile`). On a CPU
the networks are narrow, since compiling a whole one takes minutes; on a GPU they are whole. Prints a row of a Markdown
table for each: the largest difference of a step's mean loss where each compiled step begins with the weights of the
step that is not (the goal is 1e-4); the same where each training goes on with its own weights, so that rounding
grows, and beside it that of two trainings that are not compiled, one of them on waveforms times 1 + 2^-22; the seconds
of compiling; and the ratio of the median times of a step.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import time
from typing import Any

import attrs
import torch
from torch import Tensor

from soundbench.contracts import Batch
from soundbench.machine import Machine, settle
from soundbench.model.network import Head, Network
from soundbench.model.weights import parameter_groups
from soundbench.recipe.registry import Registry
from soundbench.training.compiling.compiler import Compiler, Compiling, planned
from soundbench.training.compiling.train_step import TrainStep, tensors_of

REGISTRY = Registry()
CLASSES, RATE = 10, 16000
NARROW: dict[str, dict[str, Any]] = {
    "campplus": {"growth": 8, "width": 16, "front": 8, "layers": [2, 2]},
    "ecapa-tdnn": {"channels": 32},
    "eres2net": {"layers": [1, 2, 1, 1], "width": 16},
    "eres2netv2": {"layers": [1, 1, 1, 1], "width": 16},
    "mobilenet": {"width": 0.4},
    "panns-cnn10": {"channels": [16, 32, 64, 64]},
    "panns-cnn14": {"channels": [8, 16, 32, 64, 64, 64]},
    "res2net": {"layers": [1, 2, 1, 1]},
    "resnet-se": {"layers": [1, 2, 1, 1], "widths": [16, 24, 32, 48]},
}


def step_of(name: str, machine: Machine, narrow: bool) -> TrainStep:
    torch.manual_seed(0)
    featurizer = REGISTRY.get("featurizer", "fbank").obj(RATE)
    backbone = REGISTRY.get("backbone", name).obj(featurizer.bands, **(NARROW.get(name, {}) if narrow else {}))
    table = dict(backbone.default_pooling)
    pooling = REGISTRY.get("pooling", table.pop("use")).obj(backbone.channels, **table)
    network = Network(featurizer, backbone, pooling, Head(pooling.features, CLASSES, **backbone.default_head))
    masked = REGISTRY.get("augmentation", "spec-augment").obj(RATE)
    loss = REGISTRY.get("loss", "cross-entropy").obj(CLASSES)
    machine.place(network)
    return TrainStep(network, [("augmentation[0]", masked)], loss, 1).to(machine.device).train()


def batches(steps: int, rows: int, seconds: float, device: torch.device) -> list[Batch]:
    """Batches of two sizes in turn, whose rows have several lengths."""
    draws = torch.Generator().manual_seed(1)
    size, made = round(seconds * RATE), []
    for number in range(steps):
        count = rows - number % 2
        position = torch.arange(count) + number * rows
        data = 0.1 * torch.randn(count, size, generator=draws)
        lengths = torch.randint(size // 2, size + 1, (count,), generator=draws)
        target = torch.eye(CLASSES)[torch.randint(0, CLASSES, (count,), generator=draws)]
        data *= torch.arange(size) < lengths[:, None]
        made.append(Batch(*(part.to(device) for part in (data, lengths, target, position, position))))
    return made


def trained(
    step: TrainStep, given: list[Batch], machine: Machine, compiler: Compiler | None, led: list[Any] | None = None
) -> tuple[Tensor, float, list[Any]]:
    """The mean loss of each step, the median seconds of one, and the state before each; `led` are states to take."""
    states: list[Any] = []
    optimizer = torch.optim.AdamW(parameter_groups(step.network), lr=1e-3)
    losses, times = [], []
    for number, batch in enumerate(given):
        if led is not None:
            step.load_state_dict(led[number])
        states.append({name: value.clone() for name, value in step.state_dict().items()})
        torch.manual_seed(number)
        began = time.perf_counter()
        with machine.autocast():
            each, _ = step(*tensors_of(batch), *(compiler.address(1) if compiler else (1,)))
        each.mean().backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(float(each.detach().mean()))  # which waits for a GPU
        times.append(time.perf_counter() - began)
    return torch.tensor(losses, dtype=torch.float64), statistics.median(times), states


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--backbones", default=",".join(item.name for item in REGISTRY.listings("backbone")))
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--graphs", action="store_true", help="with CUDA graphs")
    options = parser.parse_args()
    machine = settle(options.device, "fp32")
    machine.use()
    given = batches(options.steps, options.batch, options.seconds, machine.device)
    print(f"torch {torch.__version__}, {machine.device}, {machine.threads} threads, {options.steps} steps of up to")
    print(f"{options.batch} clips of {options.seconds:g} s", end="\n\n")
    print("| backbone | loss, first and last | same weights | own weights | not compiled | compiled in | ratio |")
    print("|---|---|---|---|---|---|---|", flush=True)
    for name in options.backbones.split(","):
        torch._dynamo.reset()
        plain = step_of(name, machine, machine.device.type == "cpu")
        other = copy.deepcopy(plain)
        found: list[Compiling] = []
        compiler = Compiler(
            other,
            machine,
            options.batch,
            planned("graphs" if options.graphs else "on", machine.device),
            {},
            found.append,
        )
        began = time.perf_counter()
        compiler.begin(given[0])
        compiling = time.perf_counter() - began
        if found[0].used == "off":
            print(f"| {name} | {found[0].reason} | | | | | |", flush=True)
            continue
        wanted, slow, states = trained(plain, given, machine, None)
        same, _, _ = trained(other, given, machine, compiler, states)
        other.load_state_dict(states[0])
        own, fast, _ = trained(other, given, machine, compiler)
        plain.load_state_dict(states[0])
        moved = [attrs.evolve(batch, data=batch.data * (1 + 2**-22)) for batch in given]
        rounded, _, _ = trained(plain, moved, machine, None)
        apart = " | ".join(f"{float((losses - wanted).abs().max()):.1e}" for losses in (same, own, rounded))
        ends = f"{wanted[0]:.3f}, {wanted[-1]:.3f}"
        print(f"| {name} | {ends} | {apart} | {compiling:.0f} s | {slow / fast:.2f} |", flush=True)


if __name__ == "__main__":
    main()
