"""ESC-10 from scratch: which setting is best, chosen for each test fold by other folds alone.

    SOUNDBENCH_DATA=... python benchmarks/esc10.py --out FOLDER [--only SETTING ...] [--write]

Each setting changes `recipes/esc10_small.toml`. It is trained five times, on three of ESC-10's folds, and tested on the
two others; what is chosen for a test fold is chosen by clips of other folds, answered by networks that were not trained
on the test fold either (`inner_folds.py`). That is 160 answers: of the settings that are within a standard error of the
best, the last is taken, and they are listed from little to much augmentation and training. Two runs are trained side by
side, each on a core. Runs lie in FOLDER; the same command goes on where it was stopped, and shows
what is finished. `--write` saves the table in `benchmarks/results/esc10.md`.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import sweeping
from inner_folds import FOLDS, LEFT_OUT, Answer, accuracy_for, answers, chosen, estimate
from leak import percent
from turns import line, machine_info

import soundbench

RESULT = Path(__file__).parent / "results" / "esc10.md"
RECIPE = Path(__file__).parents[1] / "recipes" / "esc10_small.toml"
CORES = 2

FINE, COARSE = {"frame": 1024, "hop": 512}, {"frame": 2048, "hop": 1024}
SPEED = {"use": "speed", "factors": [0.8, 0.9, 1.0, 1.1, 1.25]}
MIXED = [{"use": "time-shift"}, {"use": "mixup", "between": True}, {"use": "gain"}]
MASKED = {"use": "spec-augment", "chance": 1.0}

# What each setting changes in the recipe, from little to much augmentation and training.
SETTINGS: dict[str, Mapping[str, Any]] = {
    "small": {"featurizer": FINE, "train": {"epochs": 80}},
    "coarse frames": {"featurizer": COARSE, "train": {"epochs": 160}},
    "coarse frames, windows of 1.5 s": {
        "featurizer": COARSE,
        "audio": {"window": 1.5, "trim": 60.0},
        "train": {"epochs": 500, "batch_size": 64},
    },
    "coarse frames, longer": {"featurizer": COARSE, "train": {"epochs": 320}},
    "coarse frames, speed": {
        "featurizer": COARSE,
        "train": {"epochs": 160},
        "augmentation": [SPEED, *MIXED, MASKED],
    },
    "coarse frames, longer, speed": {
        "featurizer": COARSE,
        "train": {"epochs": 320},
        "augmentation": [SPEED, *MIXED, MASKED],
    },
}


@attrs.frozen
class Tried:
    """What a setting came to: its answers, the seconds of two cores that its five runs took, and the network's size."""

    answers: Sequence[Answer]
    seconds: float
    epochs: int
    parameters: int
    macs: int


def sweep(folder: Path, name: str) -> Path:
    """Write the sweep of a setting."""
    root = Path(os.environ["SOUNDBENCH_DATA"]).absolute() / "ESC-50"
    train = {"precision": "bf16", **SETTINGS[name].get("train", {})}
    same = {"dataset": {"root": str(root)}, "observer": [], "train": train, "sweep": {"split.test": LEFT_OUT}}
    return sweeping.write(
        folder / f"{name.replace(' ', '-').replace(',', '')}.toml", RECIPE, {**SETTINGS[name], **same}
    )


def tried(file: Path) -> Tried | None:
    """What the runs of a setting came to; None while some are not finished."""
    runs = [soundbench.Run(path) for path in sweeping.finished(file)]
    if not runs:
        return None
    report, histories = runs[0].report, [run.history for run in runs]
    return Tried(
        answers(run.path for run in runs),
        sum(float(sum(history["seconds"])) for history in histories) / CORES,
        len(histories[0]),
        report["parameters"],
        report["macs"],
    )


def best(found: Mapping[str, Sequence[Answer]], test: int) -> str:
    """The setting that is best for a test fold by itself, within its standard error or not; the first of several."""
    return max(found, key=lambda name: accuracy_for(found[name], test))


def table(found: Mapping[str, Tried]) -> list[str]:
    """A row for each setting, best first, and what is chosen for each test fold."""
    head = ["setting", *(f"for fold {fold}" for fold in FOLDS), "all", "epochs", "minutes", "multiply-adds"]
    rows = [line(head), line(["---"] * len(head))]
    for name in sorted(found, key=lambda name: -estimate(found[name].answers)["value"]):
        one = found[name]
        folds = [f"{100 * accuracy_for(one.answers, fold):.1f}" for fold in FOLDS]
        cost = [str(one.epochs), f"{one.seconds / 60:.0f}", f"{one.macs / 1e6:,.0f} M"]
        rows.append(line([name, *folds, percent(estimate(one.answers)), *cost]))
    without = [name for name in SETTINGS if name not in found]
    missing = [f"Not finished, without figures: {'; '.join(without)}."] if without else []
    if not found:
        return missing
    by_name = {name: one.answers for name, one in found.items()}
    choices, alone = ([f"for fold {fold} *{by(by_name, fold)}*" for fold in FOLDS] for by in (chosen, best))
    return [*rows, "", f"Chosen: {', '.join(choices)}.", "", f"Best by itself: {', '.join(alone)}.", "", *missing]


def page(found: Mapping[str, Tried]) -> list[str]:
    """The page of the results."""
    return [
        "# ESC-10: settings compared within the inner folds",
        "",
        f"`python benchmarks/esc10.py --out FOLDER --write`: {machine_info()}. Accuracy in %. A setting is trained "
        "five times, in bf16, on three folds, 240 clips, and tested on the two others. *For fold 1* are the 160 "
        "answers about clips of other folds by networks that were not trained on fold 1 either; *all* are all 800, two "
        "of each clip, with the interval over recordings. Minutes are those of two cores for the epochs of all five "
        "runs, some of them beside other work, so that they compare no settings: the time of an epoch is in "
        "[hour.md](hour.md).",
        "",
        "Chosen is, of the settings within a standard error (over recordings) of the best for a fold, the one with the "
        "most augmentation and training. This rule, and the order of the settings by training, were made instead of "
        "the best by itself when the figures of the four settings of coarse frames and whole windows were known, of "
        "the chosen one too; and before a test fold was looked at with one of the three after the first.",
        "",
        *table(found),
        "",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--only", nargs="*", choices=list(SETTINGS), default=list(SETTINGS))
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    files = {name: sweep(options.out.absolute(), name) for name in SETTINGS}
    try:
        failed = sweeping.finish([files[name] for name in options.only], CORES)
    finally:
        found = {name: one for name, file in files.items() if (one := tried(file))}
        print("\n".join(table(found)))
    if options.write:
        RESULT.write_text("\n".join(page(found)), encoding="utf-8")
    sweeping.refuse_failed(failed)


if __name__ == "__main__":
    main()
