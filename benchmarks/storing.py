"""Making the store: one process and two together, one clip more, and what a kill leaves.

    SOUNDBENCH_DATA=... python benchmarks/storing.py [--clips 2000] [--rounds 3] [--write]

Uses clips of UrbanSound8K under SOUNDBENCH_DATA, or WAV files of four seconds of noise at 44.1 kHz, made first. All
files are read once before, so that they are in memory. A process decodes with one thread, so that two have a core each;
the goal for the median of the ratios of two processes to one is 0.65, on two cores that nothing else uses. Of what a
process has read when it is killed half way, 90% is to be kept. `--write` saves the table in
`benchmarks/results/storing.md`.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import re
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from multiprocessing.synchronize import Barrier
from pathlib import Path

import numpy as np
import soundfile

from soundbench import audio
from soundbench.contracts import Clip
from soundbench.data.clips import ClipTable
from soundbench.data.store import open_store
from soundbench.machine import cores

PAGE = Path(__file__).parent / "results" / "storing.md"
RATE = 16000
GOAL = 0.65


class Files:
    """Sound files, all of one class."""

    classes = ("any",)

    def __init__(self, paths: Sequence[Path]) -> None:
        self.paths = paths

    def clips(self) -> Iterator[Clip]:
        """Every file."""
        return (Clip(str(path), self.classes) for path in self.paths)


def sounds(folder: Path, count: int) -> tuple[str, list[Path]]:
    """What the files are, and `count` of them."""
    data = os.environ.get("SOUNDBENCH_DATA")
    found = sorted(Path(data).glob("UrbanSound8K/audio/*/*.wav")) if data else []
    if found:
        return "UrbanSound8K", found[:count]
    paths = [folder / f"{number:06d}.wav" for number in range(count)]
    for number, path in enumerate(paths):
        noise = np.random.default_rng(number).standard_normal(4 * 44100, dtype=np.float32) / 8
        soundfile.write(path, noise, 44100, subtype="PCM_16")
    return "noise", paths


def make(paths: Sequence[Path], cache: Path, begin: Barrier, workers: int) -> None:
    """One process: make the store once all are ready."""
    dataset = Files(paths)
    table = ClipTable.of(dataset)
    begin.wait()
    open_store(table, dataset, RATE, cache, say=lambda _: None, workers=workers)


def seconds(paths: Sequence[Path], processes: int, workers: int = 1) -> float:
    """How long processes take to make a store together."""
    start = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as cache:
        begin = start.Barrier(processes + 1)
        arguments = (paths, Path(cache), begin, workers)
        made = [start.Process(target=make, args=arguments) for _ in range(processes)]
        for process in made:
            process.start()
        begin.wait()
        began = time.perf_counter()
        for process in made:
            process.join()
        took = time.perf_counter() - began
        assert not any(process.exitcode for process in made)
        return took


def read_by(paths: Sequence[Path], cache: Path) -> int:
    """How many clips opening a store reads, by what it says."""
    lines: list[str] = []
    dataset = Files(paths)
    open_store(ClipTable.of(dataset), dataset, RATE, cache, say=lines.append)
    found = [re.match(r"sound: reading ([\d,]+) clips? into ", line) for line in lines]
    return sum(int(one[1].replace(",", "")) for one in found if one)


def _decoded(paths: Sequence[Path], cache: Path, begin: Barrier, count: multiprocessing.Value) -> None:
    """One process: make the store, and count the sounds that are decoded."""
    real = audio.decode_for

    def counted(*arguments: object) -> tuple[np.ndarray, int]:
        result = real(*arguments)
        with count.get_lock():
            count.value += 1
        return result

    audio.decode_for = counted
    make(paths, cache, begin, cores())


def killed(paths: Sequence[Path]) -> tuple[int, int]:
    """How many clips a process has decoded when it is killed half way, and how many of them are read again."""
    start = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as cache:
        begin, count = start.Barrier(2), start.Value("q", 0)
        process = start.Process(target=_decoded, args=(paths, Path(cache), begin, count))
        process.start()
        begin.wait()
        while count.value < len(paths) // 2:
            time.sleep(0.001)
        process.kill()
        process.join()
        return count.value, read_by(paths, Path(cache)) - (len(paths) - count.value)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--write", action="store_true")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        what, paths = sounds(Path(folder), chosen.clips)
        for path in paths:
            path.read_bytes()
        times = [(seconds(paths, 1), seconds(paths, 2), seconds(paths, 1, 2)) for _ in range(chosen.rounds)]
        with tempfile.TemporaryDirectory() as cache:
            read_by(paths[:-1], Path(cache))
            began = time.perf_counter()
            one_more = read_by(paths, Path(cache))
            took = time.perf_counter() - began
        decoded, again = killed(paths)
    alone, together, threads = (statistics.median(column) for column in zip(*times, strict=True))
    ratios = sorted(two / one for one, two, _ in times)
    ratio = f"{statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})"
    lines = [
        f"{len(paths):,} clips of {what} into a store at {RATE} Hz, {chosen.rounds} rounds, {cores()} cores; medians.",
        "",
        "| | |",
        "|---|---|",
        f"| one process, one thread | {alone:.1f} s |",
        f"| two processes of one thread | {together:.1f} s |",
        f"| one process, two threads | {threads:.1f} s |",
        f"| two processes / one (goal {GOAL}) | {ratio} |",
        f"| one clip more | {one_more:,} clip read, {took:.2f} s |",
        f"| killed after decoding {decoded:,} clips | {again:,} read again ({100 * again / decoded:.1f}%) |",
    ]
    print("\n".join(lines))
    if chosen.write:
        PAGE.write_text("# Making the store\n\n`benchmarks/storing.py`\n\n" + "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
