"""A soundbench run in a separate process that trains one epoch for each command on stdin.

    python benchmarks/epochs.py NAME FOLDER --batch 16 --precision fp32 --epochs 3

`benchmarks/training.py` starts these; FOLDER holds the lists `train.txt` and `test.txt` (path, tab, class number) and
`labels.txt`. `epoch` on stdin trains the next epoch; the answer is its clips/s from the run's history, without
validation and checkpoints. `steps`, after the last epoch, answers with the step times from the run's log.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from pathlib import Path

import soundbench
from soundbench.contracts import RunInfo, hookimpl

ANSWERS = sys.stdout


def answer(found: object) -> None:
    print(json.dumps(found), file=ANSWERS, flush=True)


class Turns:
    """Pauses the run before each epoch until a command arrives."""

    def __init__(self, run: RunInfo) -> None:
        self.run = run

    @hookimpl
    def run_started(self) -> None:
        sys.stdin.readline()

    @hookimpl
    def epoch_completed(self, epoch: int, row: Mapping[str, float]) -> None:
        answer(row["clips_per_second"])
        if epoch < self.run.epochs:
            sys.stdin.readline()


def recipe(options: argparse.Namespace) -> soundbench.Recipe:
    """The configuration shipped with macls, as a recipe."""
    folder = options.folder.absolute()
    lists = {"path": folder / "train.txt", "labels": folder / "labels.txt", "test": folder / "test.txt"}
    return soundbench.Recipe(
        dataset={"use": "manifest", **lists},
        split={"test": ["test"], "validation": 0},
        audio={"rate": 16000, "window": 3.0, "level": -20},
        augmentation=["speed", "spec-augment"],
        featurizer={"use": "fbank", "bands": 80},
        backbone=options.name,
        optimizer={"use": "adam", "lr": 1e-3},
        scheduler="warmup-cosine",
        train={
            "epochs": options.epochs,
            "batch_size": options.batch,
            "precision": options.precision,
            "num_workers": options.workers,
        },
        observer=[Turns],
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("name", help="name of a backbone")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--epochs", type=int, default=3)
    options = parser.parse_args()
    sys.stdout = sys.stderr  # output of libraries must not mix with the answers
    log: list[str] = []
    soundbench.run(recipe(options), out=options.folder / f"{options.name}-{options.precision}", say=log.append)
    sys.stdin.readline()
    answer(next(text for text in log if "time of a step" in text))


if __name__ == "__main__":
    main()
