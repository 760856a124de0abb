"""Training from sound files, end to end: clips/s of soundbench relative to `macls` 1.0.6, alternating epochs.

    SOUNDBENCH_DATA=... python benchmarks/training.py --macls PYTHON [--only NAME ...] [--rounds 2] [--batch 16]
                                                      [--clips N] [--workers N] [--write]

Both train on the same clips of UrbanSound8K under SOUNDBENCH_DATA with the same network, batch size and window of three
seconds: macls with its own trainer, shipped configuration and augmentation, and the number of workers (0, 1, 2) that is
fastest in one epoch each; soundbench with `soundbench.run`, in fp32 and in the precision that `auto` chooses. First
epochs do not count. The three alternate; ratios are medians of the ratios of neighbouring epochs. The step times of
soundbench follow the table. `--macls` (or $MACLS_PYTHON) is the Python of an environment with macls 1.0.6. `--write`
saves the table in `benchmarks/results/training.md`.
"""

from __future__ import annotations

import argparse
import os
import re
import statistics
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

import numpy as np
from soundbench_plugins.dataset.urbansound8k import UrbanSound8K
from turns import Runner, in_turns, line, machine_info, ratio, runner

from soundbench import audio
from soundbench.machine import settle

RESULT = Path(__file__).parent / "results" / "training.md"

# For each backbone its configuration in macls, and a number of clips with an epoch of about ten seconds.
BACKBONES = {
    "campplus": ("cam++", 96),
    "ecapa-tdnn": ("ecapa_tdnn", 128),
    "tdnn": ("tdnn", 192),
    "resnet-se": ("resnet_se", 64),
    "eres2net": ("eres2net", 64),
}

COLUMNS = (
    "backbone",
    "clips",
    "macls, its workers",
    "macls, clips/s",
    "fp32, clips/s",
    "{auto}, clips/s",
    "fp32 over macls",
    "{auto} over macls",
    "steps wait for data, fp32",
    "{auto}",
)


def write_lists(folder: Path, count: int) -> None:
    """Write lists, for both programs, of clips spread evenly over UrbanSound8K, all above macls' minimum of 0.4 s."""
    root = Path(os.environ["SOUNDBENCH_DATA"]) / "UrbanSound8K"
    folds = [int(path.name.removeprefix("fold")) for path in root.glob("audio/fold*")]
    dataset = UrbanSound8K(root=root, folds=sorted(folds))
    clips = list(dataset.clips())
    chosen = [clips[place] for place in np.linspace(0, len(clips) - 1, min(2 * count + 4, len(clips))).astype(int)]
    rows = [f"{Path(clip.path).absolute()}\t{dataset.classes.index(clip.labels[0])}\n" for clip in chosen]
    rows = [row for row in rows if audio.info(row.split("\t")[0]).seconds > 0.5]
    if len(rows) < count + 2:
        raise SystemExit(f"--clips {count}: UrbanSound8K under SOUNDBENCH_DATA has fewer")
    (folder / "train.txt").write_text("".join(rows[:count]), encoding="utf-8")
    (folder / "test.txt").write_text("".join(rows[count : count + 2]), encoding="utf-8")
    (folder / "labels.txt").write_text("".join(f"{name}\n" for name in dataset.classes), encoding="utf-8")


def best_workers(theirs: Runner, given: int | None) -> int:
    """The number of workers with the fastest epoch, after one epoch that does not count."""
    counts = (0, 1, 2) if given is None else (given,)
    theirs.ask("epoch")
    found = {}
    for count in counts:
        theirs.ask("workers", count)
        found[count] = theirs.ask("epoch") if given is None else 0.0
    print(f"macls: {', '.join(f'{count} workers {speed:.2f} clips/s' for count, speed in found.items())}", flush=True)
    best = max(counts, key=found.__getitem__)
    theirs.ask("workers", best)
    return best


def measure(name: str, options: argparse.Namespace, folder: Path) -> tuple[list[str], list[str]]:
    """A row of the table, and the step times of the two runs."""
    config, count = BACKBONES[name]
    write_lists(folder, options.clips or count)
    common = (folder, "--batch", options.batch)
    log = folder / "log.txt"
    with ExitStack() as stack:
        theirs = stack.enter_context(runner(options.macls, "epochs_of_macls.py", config, *common, log=log))
        workers = best_workers(theirs, options.workers)
        runners = [theirs]
        for precision in ("fp32", "auto"):
            setting = ("--precision", precision, "--epochs", options.rounds + 1)
            runners.append(stack.enter_context(runner(sys.executable, "epochs.py", name, *common, *setting, log=log)))
            runners[-1].ask("epoch")
        speeds: list[list[float]] = [[] for _ in runners]
        for place in in_turns(options.rounds, len(runners)):
            speeds[place].append(runners[place].ask("epoch"))
        times = [each.ask("steps") for each in runners[1:]]
    macls, *ours = speeds
    waits = [re.search(r"(\d+%) waiting for data", text)[1] for text in times]
    medians = [f"{statistics.median(speed):.1f}" for speed in speeds]
    ratios = [f"{ratio(speed, macls):.2f}" for speed in ours]
    row = [name, str(options.clips or count), str(workers), *medians, *ratios, *waits]
    auto = settle(device="cpu").precision
    return row, [f"- {name}, {which}: {text}" for which, text in zip(("fp32", auto), times, strict=True)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=list(BACKBONES), default=list(BACKBONES))
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument(
        "--clips",
        type=int,
        help="a multiple of the batch size (default: about ten seconds per epoch)",
    )
    parser.add_argument("--workers", type=int, help="workers of macls (default: the fastest of 0, 1 and 2)")
    parser.add_argument("--macls", default=os.environ.get("MACLS_PYTHON"), help="a Python with macls 1.0.6 installed")
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    if not options.macls:
        parser.error("--macls, or $MACLS_PYTHON, must be a Python with macls 1.0.6 installed")
    auto = settle(device="cpu").precision
    head = (
        f"`python benchmarks/training.py --rounds {options.rounds} --batch {options.batch}`: {machine_info()}. "
        f"Clips of UrbanSound8K, windows of 3 s; epochs of macls 1.0.6 and of soundbench in fp32 and in {auto}, which "
        "`auto` chooses, alternate; the first of each does not count."
    )
    lines = [head, "", line([column.format(auto=auto) for column in COLUMNS]), line(["---"] * len(COLUMNS))]
    print("\n".join(lines), flush=True)
    steps = []
    for name in options.only:
        with tempfile.TemporaryDirectory() as folder:
            row, times = measure(name, options, Path(folder))
        lines.append(line(row))
        steps += times
        print("\n".join([lines[-1], *times]), flush=True)
    if options.write:
        RESULT.write_text("\n".join(["# Training", "", *lines, "", *steps, ""]), encoding="utf-8")


if __name__ == "__main__":
    main()
