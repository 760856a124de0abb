"""Latency of a stream: from a window's last sample to its scores, compared with the bare network for one window.

    python benchmarks/streaming.py [--minutes 5] [--hop 0.5] [--memory 60]

CAM++ receives noise in blocks of 10 ms, as from a microphone, and after every other window the bare network scores one:
the two alternate. Prints the median and the 95th percentile of both; the goal for the ratio of the latter is 1.3. Then
the stream receives `--memory` minutes of noise, one minute at a time, hop 3 s, and the peak memory of the process is
printed after the first, the tenth and the last minute.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import torch
from engine import CLASSES, network
from resident import resident
from soundbench_plugins.loss.cross_entropy import CrossEntropy

from soundbench.data.batches import Grid
from soundbench.inference.classifier import Classifier
from soundbench.inference.stream import Stream
from soundbench.machine import settle
from soundbench.model.scoring import Scorer

RATE, WINDOW = 16000, 48000
BLOCK = RATE // 100


def latencies(classifier: Classifier, minutes: float, hop: float) -> None:
    noise = (0.1 * np.random.default_rng(0).standard_normal(round(minutes * 60 * RATE))).astype(np.float32)
    alone, length = torch.from_numpy(noise[:WINDOW].copy())[None], torch.tensor([WINDOW])
    stream, bare, scored = Stream(classifier, hop=hop), [], 0
    for at in range(0, len(noise), BLOCK):
        for _ in stream.feed(noise[at : at + BLOCK]):
            pass
        if stream.figures.windows > scored:
            scored = stream.figures.windows
            if scored % 2:
                began = time.perf_counter()
                with torch.inference_mode():
                    classifier.network(alone, length)
                bare.append(time.perf_counter() - began)
    figures, wanted = stream.figures, np.percentile(bare, [50, 95]) * 1000
    for name, own, other in zip(("p50", "p95"), (figures.latency_p50, figures.latency_p95), wanted, strict=True):
        print(f"{name}: stream {1000 * own:.1f} ms, bare network {other:.1f} ms, ratio {1000 * own / other:.2f}")
    print(f"{figures.windows} windows, {figures.dropped} samples dropped")


def memory(classifier: Classifier, minutes: int) -> None:
    stream = Stream(classifier, hop=3.0)
    minute = (0.1 * np.random.default_rng(1).standard_normal(60 * RATE)).astype(np.float32)
    for number in range(minutes):
        for _ in stream.feed(minute):
            pass
        if number in (0, 9, minutes - 1):
            print(f"after {number + 1} min: peak {resident('VmHWM') / 1e6:.0f} MB")
    print(f"{stream.figures.windows} windows, {stream.figures.dropped} samples dropped")


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--minutes", type=float, default=5)
    arguments.add_argument("--hop", type=float, default=0.5)
    arguments.add_argument("--memory", type=int, default=60)
    given = arguments.parse_args()
    machine = settle("cpu", "fp32")
    machine.use()
    model = network(False)
    machine.place(model)
    scorer = Scorer(model, CrossEntropy(CLASSES), machine, "off")
    classifier = Classifier(scorer, [str(number) for number in range(CLASSES)], RATE, Grid(WINDOW, WINDOW))
    for _ in range(5):
        classifier.predict(np.zeros(WINDOW, np.float32), RATE)
    latencies(classifier, given.minutes, given.hop)
    memory(classifier, given.memory)


if __name__ == "__main__":
    main()
