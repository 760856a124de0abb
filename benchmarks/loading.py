"""Speed of loading sound: windows/s of the store alone, and of training batches with 0, 1 and 2 workers.

    SOUNDBENCH_DATA=... python benchmarks/loading.py [--seconds 4] [--batch 32] [--window 3.0] [--repeat 1]

Uses the clips of UrbanSound8K under SOUNDBENCH_DATA, or 1,000 synthetic ones of four seconds. The goal is 3,000
three-second windows/s with one worker; no sound file is read during the measurement.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from soundbench.contracts import Clip
from soundbench.data.batches import training_batches
from soundbench.data.clips import ClipTable
from soundbench.data.order import Order
from soundbench.data.store import Store, open_store

RATE = 16000


class Files:
    """The existing clips of UrbanSound8K, repeated `repeat` times; without labels."""

    classes = ("any",)

    def __init__(self, root: Path, repeat: int) -> None:
        self.paths = sorted(map(str, root.glob("UrbanSound8K/audio/*/*.wav")))
        self.repeat = repeat

    def clips(self) -> Iterator[Clip]:
        """Every file."""
        return (Clip(path, self.classes) for _ in range(self.repeat) for path in self.paths)


class Noise:
    """A thousand clips of four seconds of noise, repeated `repeat` times."""

    classes = ("any",)
    fingerprint = "noise"

    def __init__(self, repeat: int) -> None:
        self.repeat = repeat

    def clips(self) -> Iterator[Clip]:
        """Every number."""
        return (Clip(str(number), self.classes) for _ in range(self.repeat) for number in range(1000))

    def read(self, clip: Clip) -> tuple[np.ndarray, int]:
        """The noise of a number."""
        draw = np.random.default_rng(int(clip.path))
        return draw.standard_normal(4 * RATE, dtype=np.float32) / 8, RATE


def gathered(store: Store, batch: int, window: int) -> Iterator[int]:
    """Random windows straight from the store."""
    draw = np.random.default_rng(0)
    while True:
        rows = draw.integers(0, len(store), batch)
        spare = np.maximum(store.lengths[rows] - window, 0)
        starts = (draw.random(batch) * (spare + 1)).astype(np.int64)
        samples, _ = store.gather(rows, starts, store.lengths[rows] - spare, window)
        yield len(samples)


def loaded(store: Store, table: ClipTable, batch: int, window: int, workers: int) -> Iterator[int]:
    """Training batches, as in a run."""
    plan = Order(np.arange(len(table)), batch, seed=1)
    for raw in training_batches(store, table, plan, window, epochs=1_000_000 // plan.steps, workers=workers):
        yield len(raw.samples)


def rate(counts: Iterable[int], seconds: float) -> float:
    """Windows/s over `seconds`, without the first ten batches (the workers' start)."""
    stream = iter(counts)
    for _ in range(10):
        next(stream)
    began, done = time.perf_counter(), 0
    while time.perf_counter() - began < seconds:
        done += next(stream)
    return done / (time.perf_counter() - began)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--window", type=float, default=3.0)
    parser.add_argument("--repeat", type=int, default=1)
    chosen = parser.parse_args()
    data = os.environ.get("SOUNDBENCH_DATA")
    dataset = Files(Path(data), chosen.repeat) if data else Noise(chosen.repeat)
    table, window = ClipTable.of(dataset), round(chosen.window * RATE)
    with tempfile.TemporaryDirectory() as folder:
        store = open_store(table, dataset, RATE, Path(folder))
        print(f"{len(table):,} rows, windows of {chosen.window:g} s at {RATE} Hz, batches of {chosen.batch}\n")
        print(f"{'source':20} | windows/s\n{'-' * 20} | {'-' * 9}")
        ways = [("store alone", gathered(store, chosen.batch, window))]
        ways += [(f"batches, workers: {n}", loaded(store, table, chosen.batch, window, n)) for n in (0, 1, 2)]
        for way, counts in ways:
            print(f"{way:20} | {rate(counts, chosen.seconds):9,.0f}")


if __name__ == "__main__":
    main()
