"""The effect of precision on accuracy: the same recipe trained in float32 and in bf16, with several seeds.

    SOUNDBENCH_DATA=... python benchmarks/accuracy.py [--only NAME ...] [--epochs 4] [--seeds 3] [--write]

ESC-10 (under SOUNDBENCH_DATA, in ESC-50's layout) with `recipes/esc10_campplus.toml` and each given backbone: trained
on folds 1 to 3, validated on fold 4, tested on fold 5 with the best epoch on validation. After so few epochs no network
is at its best; the question is whether the precisions differ. The last line of a backbone is the difference of test
accuracies with the same seeds, with an interval over recordings. `--write` saves the table in
`benchmarks/results/accuracy.md`.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from turns import line, machine_info

import soundbench
from soundbench import files

RESULT = Path(__file__).parent / "results" / "accuracy.md"
RECIPE = Path(__file__).parents[1] / "recipes" / "esc10_campplus.toml"
PRECISIONS = ("fp32", "bf16")


def train(
    name: str, precision: str, seed: int, epochs: int, out: Path
) -> tuple[list[str], dict[str, tuple[str, bool]]]:
    """A row of the table, and for each test clip its recording and whether it was predicted correctly."""
    root = Path(os.environ["SOUNDBENCH_DATA"]).absolute() / "ESC-50"
    train = {"epochs": epochs, "batch_size": 16, "seed": seed, "precision": precision}
    sets = [f"dataset.root={json.dumps(str(root))}", f'backbone="{name}"', "split.test=[5]", "split.validation=[4]"]
    sets += [f"train.{key}={json.dumps(value)}" for key, value in train.items()] + ["observer=[]"]
    run = soundbench.run(soundbench.read_recipe(RECIPE, sets), out=out, say=lambda line: None)
    found = run.report
    with run.directory.history.open(encoding="utf-8") as file:
        best = min(csv.DictReader(file), key=lambda epoch: float(epoch["validation_loss"]))
    accuracy = found["metrics"]["accuracy"]
    tested = f"{accuracy['value']:.1%} ({accuracy['low']:.1%} to {accuracy['high']:.1%})"
    cells = [name, precision, str(seed), f"{float(best['validation_accuracy']):.1%}", tested]
    rows = files.read_rows(run.path / "predictions.csv")
    return cells, {row["path"]: (row["group"], row["label"] == row["predicted"]) for row in rows}


def difference(runs: Sequence[dict[str, dict[str, tuple[str, bool]]]]) -> str:
    """Mean over seeds of bf16 minus fp32, with a bootstrap interval of 2,000 draws of whole recordings."""
    groups: dict[str, list[float]] = {}
    for results in runs:
        for path, (group, right) in results["bf16"].items():
            groups.setdefault(group, []).append(float(right) - float(results["fp32"][path][1]))
    sums, counts = (np.array([function(values) for values in groups.values()]) for function in (sum, len))
    draws = np.random.default_rng(0).integers(0, len(sums), (2000, len(sums)))
    low, high = np.quantile(sums[draws].sum(1) / counts[draws].sum(1), [0.025, 0.975])
    return f"{sums.sum() / counts.sum():+.1%} ({low:+.1%} to {high:+.1%})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", default=["campplus"])
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    head = f"`python benchmarks/accuracy.py --epochs {options.epochs} --seeds {options.seeds}`: {machine_info()}."
    columns = ["backbone", "precision", "seed", "validation accuracy", "test accuracy (95%)"]
    lines = [head, "", line(columns), line(["---"] * len(columns))]
    print("\n".join(lines), flush=True)
    for name in options.only:
        runs: list[dict[str, dict[str, tuple[str, bool]]]] = []
        validated: dict[str, list[float]] = {precision: [] for precision in PRECISIONS}
        for seed in range(1, options.seeds + 1):
            runs.append({})
            for precision in PRECISIONS:
                with tempfile.TemporaryDirectory() as folder:
                    cells, runs[-1][precision] = train(name, precision, seed, options.epochs, Path(folder) / "run")
                validated[precision].append(float(cells[3].rstrip("%")) / 100)
                lines.append(line(cells))
                print(lines[-1], flush=True)
        apart = statistics.fmean(validated["bf16"]) - statistics.fmean(validated["fp32"])
        lines.append(line([name, "bf16 minus fp32", "all", f"{apart:+.1%}", difference(runs)]))
        print(lines[-1], flush=True)
    if options.write:
        RESULT.write_text("\n".join(["# Accuracy of both precisions", "", *lines, ""]), encoding="utf-8")


if __name__ == "__main__":
    main()
