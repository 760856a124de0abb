"""A run over many clips, step by step, without its sound and its network: seconds and peak memory of each step.

    python benchmarks/scale.py --clips 1000000

Makes a folder of empty sound files (in `TMPDIR`; on a disk a million take minutes) and a manifest of them: 527 classes,
ten folds, groups of four clips, a further column. All steps call what a run calls; where samples and logits are needed,
a stand-in gives zeros and made-up numbers. Scores are those of 20 classes and three windows a clip, for 10,000 clips
and for all. Peak memory is that of the process, which holds the results of the steps before, with torch imported; pages
of files do not count, and so neither do logits and scores, which are in files below `TMPDIR`.

The exit status is 1 if a bound is missed: `to first step` is the sum of the steps from the manifest to the first batch,
`bookkeeping` what is computed for a step besides its batch, and memory of scoring may grow by 64 MB from 10,000 clips.
The bound on the merge is for 100,000 records, and in proportion for others.
"""

from __future__ import annotations

import argparse
import csv
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import attrs
import numpy as np
import torch
from numpy.typing import NDArray
from soundbench_plugins.dataset.manifest import Manifest
from turns import line, machine_info

from soundbench import files
from soundbench.data.batches import Grid, training_batches
from soundbench.data.clips import ClipTable
from soundbench.data.order import Order, members
from soundbench.data.sounds import Sounds
from soundbench.data.splits import PARTS, settled, split
from soundbench.inference import journal
from soundbench.inference.journal import Journal
from soundbench.model.outputs.window_logits import clip_means, window_logits
from soundbench.recipe import Split
from soundbench.report import run_directory
from soundbench.report.run_directory import RunDirectory

Found = TypeVar("Found")

CLASSES, SCORED, WINDOWS = 527, 20, 3
BATCH, WINDOW, SEED = 64, 16, 1
SMALL = 10_000  # clips whose scoring takes the memory that that of all may take
TO_FIRST_STEP, MEMORY = 40.0, 1e9  # seconds and bytes, with at most a million clips
BOOKKEEPING = 50e-6  # seconds a step
FLAT = 64e6  # bytes
MERGE = 5.0 / 100_000  # seconds a record


# Measuring ------------------------------------------------------------------------------------------------------------


class Steps:
    """Measures steps, prints a row for each, and notes the bounds that are missed."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.peaks: dict[str, float] = {}
        self.missed: list[str] = []
        print(line(["step", "seconds", "of a processor", "peak MB"]), line(["---"] * 4), sep="\n", flush=True)

    def measure(self, name: str, work: Callable[[], Found]) -> Found:
        """The result of a step."""
        _forget_peak()
        began, computed = time.perf_counter(), time.process_time()
        found = work()
        self.seconds[name], computed = time.perf_counter() - began, time.process_time() - computed
        self.peaks[name] = _peak()
        print(
            line([name, f"{self.seconds[name]:.2f}", f"{computed:.2f}", f"{self.peaks[name] / 1e6:,.0f}"]), flush=True
        )
        return found

    def hold(self, name: str, value: float, bound: float, unit: str) -> None:
        """Print a figure with its bound."""
        good = value <= bound
        print(f"{name}: {value:,.3g} {unit}, at most {bound:,.3g}{'' if good else ': MISSED'}", flush=True)
        self.missed += [] if good else [name]


def _forget_peak() -> None:
    """Let the peak of this process's memory begin anew."""
    Path("/proc/self/clear_refs").write_text("5")


def _peak() -> float:
    """The peak of this process's memory in bytes, without pages of files, which a disk or tmpfs holds."""
    found = dict(row.split(":", 1) for row in Path("/proc/self/status").read_text().splitlines())
    whole, of_files, of_tmpfs = (int(found[name].split()[0]) for name in ("VmHWM", "RssFile", "RssShmem"))
    return 1024.0 * (whole - of_files - of_tmpfs)


# What is simulated ----------------------------------------------------------------------------------------------------


def make_files(folder: Path, count: int) -> Path:
    """Empty sound files, a thousand in a folder, and a manifest of them."""
    path = folder / "clips.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["path", "label", "fold", "group", "site"])
        for number in range(count):
            name = f"{number // 1000:04d}/{number:07d}.wav"
            if number % 1000 == 0:
                (folder / name).parent.mkdir()
            os.close(os.open(folder / name, os.O_CREAT | os.O_WRONLY))
            group = number // 4
            rows.writerow([name, f"class {group % CLASSES}", group % 10 + 1, f"recording {group}", f"s{group % 97}"])
    return path


class Zeros:
    """A store whose every clip is zeros, as long as a few windows."""

    hop = 1

    def __init__(self, count: int) -> None:
        self.lengths = np.full(count, WINDOWS * WINDOW, np.int64)

    def gather(
        self, rows: NDArray[np.int64], starts: NDArray[np.int64], counts: NDArray[np.int64], size: int
    ) -> tuple[NDArray[np.int16], NDArray[np.float32]]:
        """Silence for each row."""
        return np.zeros((len(rows), size), np.int16), np.ones(len(rows), np.float32)


class MadeUp:
    """A scorer that gives each window numbers that depend on its clip."""

    loss = torch.nn.Module()
    calibration = None

    def __init__(self) -> None:
        self.loss.scores = torch.sigmoid
        self.given = torch.randn(997, SCORED, generator=torch.Generator().manual_seed(SEED))

    @contextmanager
    def evaluating(self) -> Iterator[None]:
        """Nothing is to be put into evaluation mode."""
        yield

    def outputs(self, raw: Any, embeddings: bool) -> tuple[torch.Tensor, None]:
        """Logits of each window."""
        return self.given[raw.index % len(self.given)], None


# The steps ------------------------------------------------------------------------------------------------------------


def to_first_step(steps: Steps, manifest: Path) -> tuple[ClipTable, NDArray[np.int8], Order]:
    """From a manifest to the first batch: the clips, the part of each, and the order of training."""
    dataset = Manifest(path=manifest)
    table = steps.measure("manifest and tables", lambda: ClipTable.of(dataset))
    how = steps.measure("split settled", lambda: settled(table, Split())[0])
    cut = steps.measure("split", lambda: split(table, how))
    steps.measure("store keys", lambda: Sounds.of(table, dataset, 16_000))
    order = Order(cut.rows("train"), BATCH, SEED)
    steps.measure("smallest step", lambda: order.smallest)
    steps.measure("epoch order", lambda: order.step(1, 0))
    batches = training_batches(Zeros(len(table)), table, order, WINDOW, 1)
    steps.measure("first batch", lambda: next(iter(batches)))
    steps.hold("to first step", sum(steps.seconds.values()), TO_FIRST_STEP, "s")
    steps.hold("memory to first step", max(steps.peaks.values()) / 1e6, MEMORY / 1e6, "MB")
    return table, cut.part, order


def bookkeeping(steps: Steps, order: Order) -> None:
    """The clips of steps, and their sizes as the loop asks for them."""
    count = 2000

    def work() -> None:
        for number in range(count):
            step = number % order.steps
            order.step(1, step)
            for _ in range(3):
                order.size(step)

    steps.measure(f"{count} steps' bookkeeping", work)
    steps.hold(
        "bookkeeping", 1e6 * steps.seconds[f"{count} steps' bookkeeping"] / count, 1e6 * BOOKKEEPING, "us a step"
    )


def balanced(steps: Steps, table: ClipTable, order: Order) -> None:
    """The order of an epoch that uses all classes equally often."""
    own = steps.measure("balanced sampling: members", lambda: members(table, order.rows))
    steps.measure("balanced sampling: order", lambda: attrs.evolve(order, members=own).step(1, 0))


def score(steps: Steps, folder: Path, table: ClipTable, name: str) -> None:
    """Logits, scores and predictions of all clips of a table."""
    few = attrs.evolve(table, classes=table.classes[:SCORED], label_values=table.label_values % SCORED)
    scorer: Any = MadeUp()
    rows, store, grid = np.arange(len(few)), Zeros(len(few)), Grid(WINDOW, WINDOW)
    windows = steps.measure(f"{name}: logits", lambda: window_logits(scorer, store, few, rows, grid, 1024))
    scores = steps.measure(f"{name}: scores", lambda: clip_means(windows, scorer.loss, None))
    run = RunDirectory(folder)
    steps.measure(f"{name}: predictions.csv", lambda: run_directory.write_predictions(run, few, rows, scores))


def first_clips(table: ClipTable, count: int) -> ClipTable:
    """A table of the first clips of another one."""
    ends = table.label_offsets[: count + 1]
    columns = {name: getattr(table, name) for name in ("paths", "folds", "groups")}
    short = {name: attrs.evolve(column, codes=column.codes[:count]) for name, column in columns.items()}
    times = {"starts": table.starts[:count], "stops": table.stops[:count]}
    return attrs.evolve(
        table, **short, **times, label_offsets=ends, label_values=table.label_values[: ends[-1]], extra={}
    )


def write_journal(folder: Path, paths: Iterable[str]) -> None:
    """The journal of a process that has scored files."""
    with Journal(folder, 0) as out:
        for path in paths:
            out.write(f"{path},dog,0.987654\n".encode())
            out.done(path)


def merge(folder: Path, paths: Iterable[str]) -> None:
    """The rows of all files in the order of these."""
    found = journal.read(folder)
    with files.atomic(folder / "results.csv") as beside, open(beside, "wb") as file:
        for data in journal.rows(folder, [found[path] for path in paths]):
            file.write(data)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=100_000)
    count = parser.parse_args().clips
    print(f"`python benchmarks/scale.py --clips {count}`: {machine_info()}.\n", flush=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        manifest = make_files(folder, count)
        steps = Steps()
        table, parts, order = to_first_step(steps, manifest)
        bookkeeping(steps, order)
        balanced(steps, table, order)
        names = np.array(PARTS, dtype=object)[parts]
        steps.measure("clips.csv", lambda: run_directory.write_clips(RunDirectory(folder), table, names))
        few = min(count, SMALL)
        score(steps, folder, first_clips(table, few), f"{few} clips")
        score(steps, folder, table, f"{count} clips")
        grown = max(steps.peaks[f"{count} clips: {one}"] - steps.peaks[f"{few} clips: {one}"] for one in SCORING)
        steps.hold("memory of scoring, growth", grown / 1e6, FLAT / 1e6, "MB")
        paths = [table.paths[row] for row in range(count)]
        steps.measure("journal", lambda: write_journal(folder, paths))
        steps.measure("merge", lambda: merge(folder, paths))
        steps.hold("merge", steps.seconds["merge"], MERGE * max(count, 1000), "s")
    sys.exit(bool(steps.missed))


SCORING = ("logits", "scores", "predictions.csv")

if __name__ == "__main__":
    main()
