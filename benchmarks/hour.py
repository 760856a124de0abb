"""What an hour buys: the accuracy of networks on ESC-10 over the time that they are trained, within the inner folds.

    SOUNDBENCH_DATA=... python benchmarks/hour.py --out FOLDER [--minutes 3 9 27] [--only NETWORK ...] [--write]

Each network takes the place of that in `recipes/esc10_best.toml`; sound, features, mixing, optimizer, schedule and the
mean of the last weights are the same. For each network and time it is trained five times, on three of ESC-10's folds,
and tested on the two others (`inner_folds.py`); nothing is chosen. The time is that of two cores for all five runs:
each run has a core, and two networks are trained side by side. Its epochs are those that fit, by the measured time of
an epoch, so that the schedule ends with the time (`budget.py`). The shortest times are first. Runs lie in FOLDER; the
same command goes on where it was stopped, and shows what is finished. `--write` saves the tables and the figure in
`benchmarks/results/hour.md` and `hour.png`; a network that fails has no figures there, and is named.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import budget
import sweeping
from inner_folds import LEFT_OUT, Answer, answers, difference, estimate, pairs
from leak import percent
from matplotlib.figure import Figure
from turns import line, machine_info

import soundbench

RESULT = Path(__file__).parent / "results" / "hour.md"
RECIPE = Path(__file__).parents[1] / "recipes" / "esc10_best.toml"
CORES = 2
TRAINED, TESTED = 240, 160  # clips of three folds, and of two
NETWORKS: dict[str, Mapping[str, Any]] = {
    "panns-cnn10": {},
    "mobilenet": {"backbone": {"use": "mobilenet", "width": 0.5}},
    "campplus": {"backbone": {"use": "campplus", "growth": 16, "width": 64, "front": 16, "layers": [6, 12, 8]}},
    "tdnn": {"backbone": {"use": "tdnn", "channels": 256}},
}


@attrs.frozen
class Point:
    """What a network came to in a time: the `seconds` of its five runs, `epochs` of each, sizes, and the answers."""

    network: str
    minutes: float
    seconds: float
    epochs: int
    precision: str
    parameters: int
    macs: int
    answers: Sequence[Answer]

    @property
    def took(self) -> float:
        """The minutes of two cores that the runs took, test included."""
        return self.seconds / 60 / CORES

    @property
    def accuracy(self) -> Mapping[str, float]:
        """Of all answers, with its interval."""
        return estimate(self.answers)


def recipes(folder: Path, names: Sequence[str]) -> dict[str, Path]:
    """Write the recipe of each network."""
    root = Path(os.environ["SOUNDBENCH_DATA"]).absolute() / "ESC-50"
    same = {"dataset": {"root": str(root)}, "observer": [], "reject": "none", "report": {"sounds": 0}}
    return {name: sweeping.write(folder / f"{name}.toml", RECIPE, {**same, **NETWORKS[name]}) for name in names}


def sweep(recipe: Path, speed: budget.Speed, minutes: float) -> Path:
    """Write the sweep of a network and a time."""
    epochs = budget.epochs(speed, minutes * 60 * CORES / len(LEFT_OUT), TRAINED, TESTED)
    file = recipe.with_name(f"{recipe.stem}-{minutes:g}min.toml")
    return sweeping.write(file, recipe, {"train": {"epochs": epochs}, "sweep": {"split.test": LEFT_OUT}})


def point(name: str, minutes: float, file: Path) -> Point | None:
    """What the runs of a sweep came to; None while some are not finished."""
    runs = [soundbench.Run(path) for path in sweeping.finished(file)]
    if not runs:
        return None
    report = runs[0].report
    return Point(
        name,
        minutes,
        sum(float(run.report["seconds"]) for run in runs),
        len(runs[0].history),
        report["precision"],
        report["parameters"],
        report["macs"],
        answers(run.path for run in runs),
    )


def table(points: Sequence[Point]) -> list[str]:
    """A row for each network and time."""
    head = ["network", "minutes", "took", "epochs", "precision", "parameters", "multiply-adds", "accuracy, % (95%)"]
    rows = [line(head), line(["---"] * len(head))]
    for one in points:
        sizes = [f"{one.parameters:,}", f"{one.macs / 1e6:,.0f} M"]
        took = [f"{one.minutes:g}", f"{one.took:.1f}", str(one.epochs), one.precision]
        rows.append(line([one.network, *took, *sizes, percent(one.accuracy)]))
    return rows


def apart(points: Sequence[Point]) -> list[str]:
    """A row for every two networks with the same time."""
    head = ["minutes", "better", "than", "by, points (95%)", "p (Holm)"]
    rows = [line(head), line(["---"] * len(head))]
    for minutes in sorted({one.minutes for one in points}):
        own = sorted((one for one in points if one.minutes == minutes), key=lambda one: one.accuracy["value"])
        for worse, better, pair in reversed(pairs({one.network: one.answers for one in own})):
            rows.append(line([f"{minutes:g}", better, worse, *difference(pair)]))
    return rows


def figure(points: Sequence[Point]) -> Figure:
    """Accuracy with its interval over the time that the training took, a line for each network."""
    drawn = Figure(figsize=(7, 4), layout="constrained")
    axes = drawn.add_subplot(xscale="log", xlabel="minutes of two cores, for five runs", ylabel="accuracy, %")
    for name in dict.fromkeys(one.network for one in points):
        own = sorted((one for one in points if one.network == name), key=lambda one: one.took)
        value, low, high = ([100 * one.accuracy[key] for one in own] for key in ("value", "low", "high"))
        reach = [[a - b for a, b in zip(value, low, strict=True)], [b - a for a, b in zip(value, high, strict=True)]]
        axes.errorbar([one.took for one in own], value, yerr=reach, marker="o", capsize=3, label=name)
    ticks = sorted({one.minutes for one in points})
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.minorticks_off()
    axes.grid(alpha=0.3)
    drawn.legend(loc="outside right upper")
    return drawn


def page(points: Sequence[Point], speeds: Mapping[str, budget.Speed], minutes: Sequence[float]) -> list[str]:
    """The page of the results."""
    command = f"python benchmarks/hour.py --out FOLDER --minutes {' '.join(f'{one:g}' for one in minutes)} --write"
    there = {(one.network, one.minutes) for one in points}
    missing = [f"{name}, {one:g} minutes" for name in NETWORKS for one in minutes if (name, one) not in there]
    return [
        "# What an hour buys",
        "",
        f"`{command}`: {machine_info()}. ESC-10; each figure is of five runs that each train on three folds, 240 "
        "clips, and are tested on the two others: 800 answers about 400 clips, intervals over recordings. Minutes are "
        "those of two cores for all five runs, a core for each run: one network has two fifths of them, on one core. "
        "*Took* is their time by the clock, test included, the imports of each process not. The five runs of the "
        "official folds, with 320 clips to train on, take a third longer for as many epochs.",
        "",
        "All that is not the network is that of `recipes/esc10_best.toml`, learning rate, mixing and head included: "
        "chosen for panns-cnn10, on runs like these, which favours it. Every fold is a test fold of somebody's in "
        "this table, so that it shows a trade, and is none to choose by.",
        "",
        *table(points),
        "",
        *([f"Without figures, for their runs have failed: {'; '.join(missing)}.", ""] if missing else []),
        f"{budget.stated(speeds, TRAINED)} It is of {TRAINED} clips, on one core.",
        "",
        "Every two networks with the same time, on the same clips, with a paired interval over recordings; p is "
        "corrected for the six pairs of a time. Another seed was not tried.",
        "",
        *apart(points),
        "",
        "![Accuracy over minutes of training, a line for each network](hour.png)",
        "",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", nargs="+", type=float, default=[3, 9, 27])
    parser.add_argument("--only", nargs="+", choices=list(NETWORKS), default=list(NETWORKS))
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    if options.write and len(options.only) < len(NETWORKS):
        parser.error("--write is for all networks, and --only for some")
    written = recipes(options.out.absolute(), options.only)
    speeds, failed = budget.measured(written, CORES)
    cells = [(name, minutes) for minutes in sorted(options.minutes) for name in speeds]
    sweeps = {cell: sweep(written[cell[0]], speeds[cell[0]], cell[1]) for cell in cells}
    try:
        failed += sweeping.finish(list(sweeps.values()), CORES)
    finally:
        points = [found for cell, file in sorted(sweeps.items()) if (found := point(*cell, file))]
        print("\n".join(table(points)))
    if options.write:
        RESULT.write_text("\n".join(page(points, speeds, sorted(options.minutes))), encoding="utf-8")
        figure(points).savefig(RESULT.with_suffix(".png"), dpi=120)
    sweeping.refuse_failed(failed)


if __name__ == "__main__":
    main()
