"""Cells of sweeps whose results are made up, and a program that makes them: without torch, so that many begin at once.

python -m helpers.sweeps run RECIPE --out DIR
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tomli
import tomli_w

from helpers.clip_tables import table_of
from soundbench import files
from soundbench.contracts import Clip
from soundbench.report import run_directory
from soundbench.report.assessment import assess
from soundbench.report.run_directory import RunDirectory
from soundbench.studies.cells import Cell

PROGRAM = (sys.executable, "-m", "helpers.sweeps")


def made_cell(values: dict[str, Any], fold: int | None = None, seed: int = 1) -> Cell:
    """A cell that nothing has resolved."""
    name = "-".join(str(value) for value in (*values.values(), fold, seed)).replace("/", "")
    tables = {"train": {"seed": seed}, "values": {key: str(value) for key, value in values.items()}}
    return Cell(name, values, fold, seed, tomli_w.dumps(tables | {"name": name}), tomli_w.dumps(tables | {"code": {}}))


def finish(run: RunDirectory, recipe: str, right: Sequence[bool], groups: Sequence[str], classes: int = 3) -> None:
    """Write what a finished run leaves, whose clips are predicted right or wrong as given."""
    truth = np.arange(len(right)) % classes
    scores = np.full((len(right), classes), 0.1, np.float32)
    scores[np.arange(len(right)), np.where(right, truth, (truth + 1) % classes)] = 0.8
    _write(run, recipe, scores, np.eye(classes)[truth] > 0, groups, None)


def finish_several(
    run: RunDirectory, recipe: str, scores: np.ndarray, targets: np.ndarray, groups: Sequence[str]
) -> None:
    """The same where clips have several labels, `(N, K)`."""
    _write(run, recipe, scores, targets, groups, [0.5] * scores.shape[1])


def _write(
    run: RunDirectory,
    recipe: str,
    scores: np.ndarray,
    targets: np.ndarray,
    groups: Sequence[str],
    thresholds: list[float] | None,
) -> None:
    names = [f"class {number}" for number in range(scores.shape[1])]
    labels = [tuple(name for name, has in zip(names, row, strict=True) if has) for row in targets]
    clips = [Clip(f"{group}/{number}.wav", labels[number], group=group) for number, group in enumerate(groups)]
    run.path.mkdir(parents=True, exist_ok=True)
    files.write_text(run.recipe, recipe)
    table = table_of(clips, names, thresholds is not None)
    run_directory.write_predictions(run, table, np.arange(len(clips)), scores)
    codes = np.unique(groups, return_inverse=True)[1]
    report = assess(scores, targets, codes, names, thresholds=thresholds, resamples=0)
    files.write_json(run.report_json, report | {"seconds": 1})
    run_directory.seal_results(run)


def _train(out: Path, lr: float) -> None:
    """Three epochs, the validation loss of which is the distance of a rate from 0.01 in decades."""
    out.mkdir(parents=True, exist_ok=True)
    for epoch in (1, 2, 3):
        files.append_row(out / "history.csv", {"epoch": epoch, "validation_loss": abs(np.log10(lr) + 2) / epoch})
        time.sleep(float(os.environ.get("SWEEP_DELAY", "0")))


def main() -> None:
    """Finish a run, unless a file beside the recipes says that it fails, waits or is killed."""
    _, _, recipe, _, out = sys.argv
    text = Path(recipe).read_text()
    order = Path(recipe).parent / f"{tomli.loads(text)['name']}.order"
    what = order.read_text() if order.exists() else ""
    (Path(out).parent / "threads.txt").open("a").write(os.environ.get("OMP_NUM_THREADS", "-") + "\n")
    if what == "fail":
        sys.exit("first line\nthe disk is full")
    if what == "die":
        os.kill(os.getpid(), 9)
    if what == "wait":
        time.sleep(600)
    if "search" in tomli.loads(text):
        _train(Path(out), tomli.loads(text)["search"])
    finish(RunDirectory(Path(out)), text, [True, True, False, True], ["a", "a", "b", "c"])


if __name__ == "__main__":
    main()
