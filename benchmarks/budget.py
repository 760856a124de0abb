"""How many epochs of a recipe fit into a time: measured on a few clips.

    python benchmarks/budget.py SPEED.json RECIPE       writes what it has measured of RECIPE to SPEED.json

`measured` starts this script for each recipe, as many side by side as will be trained so, and keeps what it finds until
the recipe is another; it is of the machine that it was measured on. A network trains 96 clips for five epochs, of which
the median counts, the first left out, and predicts 32 others.
"""

from __future__ import annotations

import csv
import json
import math
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

import attrs
import numpy as np
import sweeping

import soundbench
from soundbench.contracts import Clip

TRAINED, PREDICTED, EPOCHS = 96, 32, 5


@attrs.frozen
class Speed:
    """What a recipe costs here, with the threads that it was measured with.

    Attributes:
        training: seconds a clip in an epoch.
        predicting: seconds a clip, when it is tested.
        rest: seconds of a run besides: imports, checkpoints, report.
        recipe: what was measured, as TOML.
    """

    training: float
    predicting: float
    rest: float
    recipe: str


def epochs(speed: Speed, seconds: float, trained: int, tested: int) -> int:
    """The epochs that a run of so many seconds has time for, at least one.

    Args:
        speed: of its recipe.
        seconds: of the whole run.
        trained: clips in an epoch.
        tested: clips that are tested at the end.
    """
    left = seconds - speed.rest - tested * speed.predicting
    return max(1, math.floor(left / (trained * speed.training)))


def measured(recipes: Mapping[str, Path], side_by_side: int) -> tuple[dict[str, Speed], list[str]]:
    """The speed of each recipe, by its name, and a line about each that has failed, which has none.

    What lies beside a recipe is not measured again while it is the same.
    """
    places = {name: path.with_suffix(".speed.json") for name, path in recipes.items()}
    texts = {name: soundbench.read_recipe(path).to_toml() for name, path in recipes.items()}
    calls = [[str(place), str(recipes[name])] for name, place in places.items() if _read(place).recipe != texts[name]]
    failed = sweeping.run([sys.executable, __file__], calls, side_by_side)
    found = {name: _read(place) for name, place in places.items()}
    return {name: speed for name, speed in found.items() if speed.recipe == texts[name]}, failed


def _read(place: Path) -> Speed:
    """A speed from its file; of no recipe where there is none."""
    return Speed(**json.loads(place.read_text(encoding="utf-8"))) if place.exists() else Speed(0, 0, 0, "")


def stated(speeds: Mapping[str, Speed], trained: int) -> str:
    """The measured time of an epoch of each recipe, as a sentence."""
    parts = [f"{name} {speed.training * trained:.1f} s" for name, speed in speeds.items()]
    return f"An epoch, as measured before: {', '.join(parts)}."


def _few(recipe: soundbench.Recipe, place: Path) -> None:
    """Write a manifest of some clips of the recipe's data set, evenly over all of it; each is its own group."""
    table = dict(recipe.tables()["dataset"])
    clips: list[Clip] = list(soundbench.create("dataset", table.pop("use"), **table).clips())
    places = np.linspace(0, len(clips) - 1, TRAINED + PREDICTED).round().astype(int)
    tested = set(range(0, len(places), len(places) // PREDICTED))
    with place.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["path", "label", "fold"])
        for number, clip in enumerate(clips[place] for place in places):
            rows.writerow([Path(clip.path).absolute(), clip.labels[0], "test" if number in tested else "train"])


def _speed(path: Path, manifest: Path, out: Path) -> Speed:
    """Train and test a recipe on a manifest, as a process of its own."""
    own = {"dataset": {"use": "manifest", "path": str(manifest)}, "split": {"test": ["test"], "validation": 0}}
    sets = [*(f"{name}={_inline(table)}" for name, table in own.items()), f"train.epochs={EPOCHS}"]
    options = [word for text in sets for word in ("--set", text)]
    began = time.perf_counter()
    command = [sys.executable, "-m", "soundbench", "run", str(path), "--out", str(out), *options]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    whole, run = time.perf_counter() - began, soundbench.Run(out)
    epochs = np.asarray(run.history["seconds"])
    classifier, sounds = soundbench.load(run), run.predictions["path"]
    began = time.perf_counter()
    classifier.predict(list(sounds))
    predicting = (time.perf_counter() - began) / len(sounds)
    rest = max(0.0, float(whole - epochs.sum() - predicting * len(sounds)))
    return Speed(float(np.median(epochs[1:])) / TRAINED, predicting, rest, soundbench.read_recipe(path).to_toml())


def _inline(table: Mapping[str, object]) -> str:
    return "{" + ", ".join(f"{key} = {json.dumps(value)}" for key, value in table.items()) + "}"


def main() -> None:
    place, recipe = map(Path, sys.argv[1:])
    with tempfile.TemporaryDirectory() as folder:
        manifest = Path(folder) / "few.csv"
        _few(soundbench.read_recipe(recipe), manifest)
        speed = _speed(recipe, manifest, Path(folder) / "run")
    place.write_text(json.dumps(attrs.asdict(speed), indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
