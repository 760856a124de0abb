"""UrbanSound8K with two of its folds, in the same time for each network; and what a leak is worth.

    SOUNDBENCH_DATA=... python benchmarks/urbansound.py --out FOLDER [--minutes 120] [--only NETWORK ...] [--write]

Trained on fold 1 (873 clips), tested on fold 2 (888 clips), once: one fold and few epochs, which is no result of the
data set. `recipes/urbansound_small.toml` beside seven networks of `macls` 1.0.6 with its features (80 bands, 16 kHz,
windows of 3 s) as in `recipes/urbansound_*.toml`, in steps of 16 clips and with a warm-up of a tenth of the epochs.
`--minutes` is the time of two cores for all eight; each has an equal share of it, on one core, two side by side, and
the epochs that fit by their measured time (`budget.py`). Nothing is validated, so nothing is chosen. The small network
is also trained and tested on the split of `macls`, every tenth clip, in its share of the time once more, beside labels
that are looked up (`leak.py`). Runs lie in FOLDER; the same command goes on where it was stopped, and shows what is
finished. `--write` saves the tables in `benchmarks/results/urbansound.md`; what has failed has no figures there, and is
named.
"""

from __future__ import annotations

import argparse
import csv
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import budget
import leak
import sweeping
from inner_folds import answers, difference, pairs
from turns import line, machine_info

import soundbench

RESULT = Path(__file__).parent / "results" / "urbansound.md"
RECIPES = Path(__file__).parents[1] / "recipes"
CORES = 2
FOLDS = [1, 2]  # trained on the first, tested on the second
FEW_EPOCHS = {"train": {"batch_size": 16}}
NETWORKS: dict[str, Mapping[str, Any]] = {
    "small": {},
    "tdnn": FEW_EPOCHS,
    "res2net": FEW_EPOCHS,
    "ecapa_tdnn": FEW_EPOCHS,
    "campplus": FEW_EPOCHS,
    "panns_cnn10": FEW_EPOCHS,
    "eres2net": FEW_EPOCHS,
    "resnet_se": FEW_EPOCHS,
}
LEAK = "small-every-tenth-clip"


def recipes(folder: Path, root: Path, names: Sequence[str]) -> dict[str, Path]:
    """Write the recipe of each network, for both folds."""
    same: dict[str, Any] = {"observer": [], "reject": "none", "report": {"sounds": 0}}
    same |= {"dataset": {"root": str(root), "folds": FOLDS}, "split": {"test": FOLDS[1:], "validation": 0}}
    return {
        name: sweeping.write(folder / f"{name}.toml", RECIPES / f"urbansound_{name}.toml", {**same, **NETWORKS[name]})
        for name in names
    }


def leaky(recipe: Path, split: leak.Split) -> Path:
    """Write the recipe of the split of `macls`, which allows that recordings are in training and test set."""
    manifest = recipe.with_name(f"{LEAK}.csv")
    with manifest.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["path", "label", "group", "fold"])
        for fold, clips in (("train", split.train), ("test", split.test)):
            rows.writerows([clip.path, clip.labels[0], clip.group, fold] for clip in clips)
    changes = {"dataset": {"use": "manifest", "path": str(manifest)}, "split": {"test": ["test"], "crossing": "allow"}}
    return sweeping.write(recipe.with_name(f"{LEAK}.toml"), recipe, changes)


def sweep(name: str, recipe: Path, speed: budget.Speed, seconds: float, split: leak.Split) -> Path:
    """Write the sweep of one run, whose schedule ends with the time."""
    epochs = budget.epochs(speed, seconds, len(split.train), len(split.test))
    changes: dict[str, Any] = {"train": {"epochs": epochs}, "sweep": sweeping.ONE_RUN}
    if "batch_size" in NETWORKS.get(name, {}).get("train", {}):  # of the recipes with `warmup-cosine`
        changes["scheduler"] = {"warmup": epochs / 10}
    return sweeping.write(recipe.with_name(f"{name}-run.toml"), recipe, changes)


def row(name: str, run: soundbench.Run) -> list[str]:
    """The table row of a network."""
    report, history = run.report, run.history
    figures = [leak.percent(report["metrics"][metric]) for metric in ("accuracy", "macro_f1")]
    sizes = [f"{report['parameters']:,}", f"{report['macs'] / 1e6:,.0f} M"]
    epochs = [str(len(history)), report["precision"], f"{report['seconds']:,.0f}"]
    return [name, *figures, *epochs, *sizes]


def table(runs: Mapping[str, soundbench.Run]) -> list[str]:
    """The networks, best first."""
    head = ["network", "accuracy, % (95%)", "macro-F1, % (95%)", "epochs", "precision", "seconds"]
    rows = [line([*head, "parameters", "multiply-adds a window"]), line(["---"] * (len(head) + 2))]
    ordered = sorted(runs, key=lambda name: -(runs[name].metrics["accuracy"].value or 0.0))
    return [*rows, *(line(row(name, runs[name])) for name in ordered)]


def behind(runs: Mapping[str, soundbench.Run]) -> list[str]:
    """How far each network is behind the best, on the same clips."""
    rows = [line(["network", "behind the best by, points (95%)", "p (Holm)"]), line(["---"] * 3)]
    worst_first = sorted(runs, key=lambda name: runs[name].metrics["accuracy"].value or 0.0)
    for worse, better, pair in reversed(pairs({name: answers([runs[name].path]) for name in worst_first})):
        if better == worst_first[-1]:
            rows.append(line([worse, *difference(pair)]))
    return rows


def leaks(splits: Mapping[str, leak.Split], runs: Mapping[str, soundbench.Run | None]) -> list[str]:
    """What is looked up, and what the small network gets, on each split."""
    rows = [line([*leak.HEAD, "small network, % (95%)"]), line(["---"] * (len(leak.HEAD) + 1))]
    for name, split in splits.items():
        run = runs.get(name)
        heard = leak.percent(run.report["metrics"]["accuracy"]) if run else ""
        rows.append(line([*leak.row(name, split), heard]))
    return rows


def page(
    networks: Sequence[str],
    apart: Sequence[str],
    missing: Sequence[str],
    speeds: str,
    leaking: Sequence[str],
    minutes: float,
) -> list[str]:
    """The page of the results."""
    return [
        "# UrbanSound8K, folds 1 and 2",
        "",
        f"`python benchmarks/urbansound.py --out FOLDER --minutes {minutes:g} --write`: {machine_info()}. Trained on "
        "fold 1, tested on fold 2, once, in few epochs: not a result of UrbanSound8K, whose protocol has ten folds. "
        f"Each network had {minutes * CORES / len(NETWORKS):g} minutes of one core, start and test included; "
        "*seconds* are those of its run by the clock. No validation set, nothing chosen; intervals over the "
        "recordings of fold 2.",
        "",
        "*small* is `recipes/urbansound_small.toml`: sound of 32 kHz, windows of 4 s, log-mel features, between-class "
        "mixing, the mean of the last weights. The others have the features of `macls` 1.0.6 (fbank of 80 bands, 16 "
        "kHz, windows of 3 s) and their recipes `recipes/urbansound_NAME.toml`, but steps of 16 clips and a warm-up of "
        "a tenth of the epochs, so that few epochs have enough steps; nothing was tuned for so short a time. "
        "Multiply-adds are those of a window; a clip of 4 s has one of 4 s, or two of 3 s.",
        "",
        *networks,
        "",
        "With paired intervals over recordings; p is corrected for every two networks. Each network was trained once: "
        "what another seed would change is not in it.",
        "",
        *apart,
        "",
        *([f"Without figures, for their runs have failed: {', '.join(missing)}.", ""] if missing else []),
        speeds,
        "",
        "## What a leak is worth",
        "",
        "The label of a training clip of the same recording, without hearing anything, or else the commonest; and the "
        "small network, trained in the same time once more.",
        "",
        *leaking,
        "",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=120)
    parser.add_argument("--only", nargs="+", choices=list(NETWORKS), default=list(NETWORKS))
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    if options.write and len(options.only) < len(NETWORKS):
        parser.error("--write is for all networks, and --only for some")
    root = Path(os.environ["SOUNDBENCH_DATA"]).absolute() / "UrbanSound8K"
    split_of = leak.splits(root, FOLDS)
    tenth, fold = split_of.values()
    written = recipes(options.out.absolute(), root, options.only)
    speeds, failed = budget.measured(written, CORES)
    seconds = options.minutes * 60 * CORES / len(NETWORKS)
    sweeps = {name: sweep(name, written[name], speed, seconds, fold) for name, speed in speeds.items()}
    if "small" in speeds:
        sweeps[LEAK] = sweep(LEAK, leaky(written["small"], tenth), speeds["small"], seconds, tenth)
    try:
        failed += sweeping.finish(list(sweeps.values()), CORES)
    finally:
        runs = {name: soundbench.Run(run) for name, file in sweeps.items() for run in sweeping.finished(file)}
        compared = {name: run for name, run in runs.items() if name != LEAK}
        networks, apart = table(compared), behind(compared) if len(compared) > 1 else []
        leaking = leaks(split_of, dict(zip(split_of, (runs.get(LEAK), runs.get("small")), strict=True)))
        print("\n".join([*networks, "", *apart, "", *leaking]))
    if options.write:
        stated = budget.stated(speeds, len(fold.train))
        missing = [name for name in (*written, LEAK) if name not in runs]
        RESULT.write_text("\n".join(page(networks, apart, missing, stated, leaking, options.minutes)), encoding="utf-8")
    sweeping.refuse_failed(failed)


if __name__ == "__main__":
    main()
