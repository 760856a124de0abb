"""Exports of all networks compared with the networks themselves, on real clips.

    python benchmarks/export.py --data DATA [--only tdnn ...]

DATA holds UrbanSound8K as published. Each built-in backbone with the featurizer `fbank`, and each built-in featurizer
with the backbone `tdnn`, is trained for `STEPS` steps on a second of each of 100 clips. Its batch norms then take the
statistics of these, and its last layer is scaled and centred so that each class's logits have the mean 0 and the
standard deviation `SPREAD` over them: labels vary, and scores are not saturated. It is exported to ONNX. The file
scores the whole clips alone, padded by half a second of noise, and in batches of 8 of any lengths; and noise from one
sample to 20 s. Prints the table of `benchmarks/results/export.md`.
"""

from __future__ import annotations

import argparse
import statistics
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from soundbench import audio
from soundbench.data.batches import Grid
from soundbench.inference.classifier import Classifier
from soundbench.inference.export.program import program_of
from soundbench.machine import settle
from soundbench.model.network import Head, Network
from soundbench.model.scoring import Scorer
from soundbench.recipe.registry import Registry

RATE, CLASSES, SPREAD = 16000, 10, 2.0
STEPS, BATCH = 20, 12
BACKBONES = (
    *("campplus", "ecapa-tdnn", "eres2net", "eres2netv2", "identity", "mobilenet", "panns-cnn10", "panns-cnn14"),
    *("panns-cnn6", "res2net", "resnet-se", "tdnn"),
)
FEATURIZERS = ("fbank", "mel-spectrogram", "mfcc", "pcen", "spectrogram")
EDGES = (1, 399, 401, 1600, 16000, 320000)


def classifier(featurizer: str, backbone: str, sounds: list[np.ndarray], labels: list[int]) -> Classifier:
    """A network that was trained briefly on these sounds."""
    torch.manual_seed(19)
    made = Registry()
    front = made.get("featurizer", featurizer).obj(RATE)
    body = made.get("backbone", backbone).obj(front.bands)
    pool = dict(body.default_pooling)
    pooling = made.get("pooling", pool.pop("use")).obj(body.channels, **pool)
    loss: Any = made.get("loss", "cross-entropy").obj(CLASSES)
    network = Network(front, body, pooling, Head(pooling.features, CLASSES, **body.default_head))
    machine = settle("cpu", precision="fp32", fits=getattr(body, "channels_last", True))
    machine.place(network)
    seconds = torch.from_numpy(np.stack([np.resize(sound, RATE) for sound in sounds]))
    train(network, loss, seconds, nn.functional.one_hot(torch.tensor(labels), CLASSES).float())
    fit(network, [(rows, torch.full((len(rows),), RATE)) for rows in seconds.split(20)])
    scorer = Scorer(network, loss, machine, "off")
    return Classifier(scorer, [str(number) for number in range(CLASSES)], RATE, Grid(3 * RATE, 3 * RATE))


def train(network: Network, loss: Any, sounds: torch.Tensor, targets: torch.Tensor) -> None:
    """Train for a few steps."""
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3)
    network.train()
    for _ in range(STEPS):
        rows = torch.randperm(len(sounds))[:BATCH]
        logits = network(sounds[rows], torch.full((BATCH,), sounds.shape[1]))
        optimizer.zero_grad()
        loss(logits, targets[rows]).mean().backward()
        optimizer.step()


@torch.no_grad()
def fit(network: Network, batches: list[tuple[torch.Tensor, torch.Tensor]]) -> None:
    """Set the statistics of batch norms to the means over these batches, and the last layer by the logits of them."""
    norms = [module for module in network.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
    network.train()
    for batch in batches:
        network(*batch)
    network.eval()
    last = network.head.classify
    logits = torch.cat([network(*batch) for batch in batches])
    scale = SPREAD / logits.std(0)
    last.weight.mul_(scale[:, None])
    last.bias = nn.Parameter(((0.0 if last.bias is None else last.bias) - logits.mean(0)) * scale)


def clips(data: Path, count: int = 100) -> tuple[list[np.ndarray], list[int]]:
    """Clips of any length, at 16 kHz, and their classes."""
    paths = sorted((data / "UrbanSound8K" / "audio").rglob("*.wav"))
    chosen = [paths[number * len(paths) // count] for number in range(count)]
    return [audio.load(path, RATE) for path in chosen], [int(path.stem.split("-")[1]) for path in chosen]


def batch(rows: list[np.ndarray], more: int = 0) -> dict[str, np.ndarray]:
    """Rows of any lengths, and `more` samples; what lies beyond each row is noise."""
    lengths = np.array([len(row) for row in rows], np.int64)
    data = np.random.default_rng(0).standard_normal((len(rows), lengths.max() + more)).astype(np.float32)
    for row, values in zip(data, rows, strict=True):
        row[: len(values)] = values
    return {"waveform": data, "lengths": lengths}


def largest(runner: Any, batches: list[dict[str, np.ndarray]], wanted: np.ndarray) -> tuple[float, int]:
    """The largest difference of scores, and how many labels differ."""
    found = np.concatenate([runner(one)["scores"] for one in batches])
    return float(np.abs(found - wanted).max()), int((found.argmax(1) != wanted.argmax(1)).sum())


def eager(module: nn.Module, one: dict[str, np.ndarray]) -> np.ndarray:
    """The scores by the network itself."""
    with torch.no_grad():
        scores: np.ndarray = module(torch.from_numpy(one["waveform"]), torch.from_numpy(one["lengths"]))[0].numpy()
    return scores


def milliseconds(*calls: Any, times: int = 7) -> list[float]:
    """The medians of the times of calls, in turns."""
    spent: list[list[float]] = [[] for _ in calls]
    for _ in range(times):
        for call, own in zip(calls, spent, strict=True):
            began = time.perf_counter()
            call()
            own.append(1000 * (time.perf_counter() - began))
    return [statistics.median(own[1:]) for own in spent]


def row(featurizer: str, backbone: str, sounds: list[np.ndarray], labels: list[int]) -> str:
    """A row of the table."""
    registry, own = Registry(), classifier(featurizer, backbone, sounds, labels)
    program = program_of(own, {})
    alone = [batch([one]) for one in sounds]
    wanted = np.concatenate([eager(program.module, one) for one in alone])
    began, component = time.process_time(), registry.get("exporter", "onnx").obj
    data = component(program).export()
    seconds, runner = time.process_time() - began, component.read(data)  # type: ignore[attr-defined]
    company = [batch(sounds[first : first + 8]) for first in range(0, len(sounds), 8)]
    cases = [alone, [batch([one], RATE // 2) for one in sounds], company]
    found = [largest(runner, one, wanted) for one in cases]
    noise = np.random.default_rng(1).standard_normal(max(EDGES)).astype(np.float32) * 0.1
    edges = [batch([noise[:size]]) for size in EDGES]
    right = np.concatenate([eager(program.module, one) for one in edges])
    edge = largest(runner, edges, right)
    one = batch([noise[: 3 * RATE]])
    there, here = milliseconds(lambda: runner(one), lambda: eager(program.module, one))
    flips = sum(flipped for _, flipped in (*found, edge))
    worst = " | ".join(f"{apart:.1e}" for apart, _ in (*found, edge))
    varied, highest = len(set(wanted.argmax(1).tolist())), float(np.median(wanted.max(1)))
    size = len(data) / 1e6
    return (
        f"| {featurizer} | {backbone} | {worst} | {flips} | {varied} | {highest:.2f} | {size:.1f} | {there:.0f} | "
        f"{here:.0f} | {seconds:.0f} |"
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--only", nargs="*", default=[])
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    sounds, labels = clips(given.data)
    print(
        "| featurizer | backbone | alone | padded | in company | 1 sample to 20 s | labels that differ "
        "| labels | median of the highest score | MB | ms, ONNX | ms, model | CPU s to export |\n" + "|---" * 13 + "|",
        flush=True,
    )
    pairs = [*(("fbank", name) for name in BACKBONES), *((name, "tdnn") for name in FEATURIZERS[1:])]
    for pair in pairs:
        if not given.only or set(given.only) & set(pair):
            print(row(*pair, sounds, labels), flush=True)


if __name__ == "__main__":
    main()
