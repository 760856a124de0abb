"""Scores that tell sound of none of the classes, compared on ESC-10 with a class left out of training.

    SOUNDBENCH_DATA=... python benchmarks/rejecting.py [--classes dog rain helicopter] [--epochs 80] [--write]

For each class, the network of `recipes/esc10_small.toml` is trained without it on folds 1 to 4 of ESC-10, under
SOUNDBENCH_DATA in ESC-50's layout, with a fifth of the groups for validation. The reject scores of the test clips of
fold 5 are then compared with those of all clips of the class, of white and pink noise, and of the kinds of UrbanSound8K
(folds 1 and 2, at most 40 clips of each) that ESC-10 lacks: AUROC, and the share that is kept where 95% of the test
clips are. `--write` saves the tables in `benchmarks/results/rejecting.md`.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from soundbench_plugins.reject.distance import Distance
from soundbench_plugins.reject.energy import Energy
from soundbench_plugins.reject.max_logit import MaxLogit
from turns import line, machine_info

import soundbench
from soundbench.data.batches import RawBatch
from soundbench.inference.predictions import ScoredWindow
from soundbench.model.rejecting.noise import COLOURS, NoiseStore
from soundbench.model.rejecting.thresholds import separation

RESULT = Path(__file__).parent / "results" / "rejecting.md"
RECIPE = Path(__file__).parents[1] / "recipes" / "esc10_small.toml"
KINDS = (
    *("air_conditioner", "car_horn", "children_playing", "drilling", "engine_idling"),
    *("gun_shot", "jackhammer", "siren", "street_music"),
)
EACH, FITTED_ON, NOISE = 40, 60, 60
KEPT = (0.99, 0.95, 0.9, 0.8, 0.7)

Outputs = tuple[torch.Tensor, torch.Tensor]
SCORES: dict[str, Callable[[int], Any]] = {
    "energy": Energy,
    "max-logit": MaxLogit,
    "distance, mahalanobis, without noise": lambda classes: Distance(classes, metric="mahalanobis"),
    "distance, cosine, without noise": lambda classes: Distance(classes, metric="cosine"),
    "distance, relative, without noise": Distance,
    "distance, mahalanobis": lambda classes: Distance(classes, metric="mahalanobis"),
    "distance, cosine": lambda classes: Distance(classes, metric="cosine"),
    "distance (the default)": Distance,
}


def trained(name: str, epochs: int, data: Path, out: Path) -> soundbench.Classifier:
    """A network that knows nine of the ten classes."""
    sets = {
        "dataset.root": str(data / "ESC-50"),
        "split.validation": 0.2,
        "train.epochs": epochs,
        "train.threads": 1,
    }
    recipe = soundbench.read_recipe(RECIPE, [f"{key}={json.dumps(value)}" for key, value in sets.items()])
    soundbench.run(recipe, out=out, leave_out=[name], say=lambda line: None)
    return soundbench.load(out)


def outputs(classifier: soundbench.Classifier, sounds: Sequence[Any], rate: int | None = None) -> Outputs:
    """Logits and embeddings of the windows of sounds."""
    count = len(classifier.classes)

    def compute(raw: RawBatch) -> NDArray[np.float32]:
        with torch.inference_mode():
            logits, embeddings = classifier.scorer.outputs(raw, embeddings=True)
            return torch.cat([logits, embeddings], 1).numpy()

    flow = classifier.flow(sounds, rate, compute=compute)
    rows = torch.from_numpy(np.stack([one.values for one in flow if isinstance(one, ScoredWindow)]))
    return rows[:, :count], rows[:, count:]


def noise(classifier: soundbench.Classifier, colour: Any, count: int, purpose: int) -> Outputs:
    """Logits and embeddings of noise."""
    store = NoiseStore(colour, count, classifier.grid.window, purpose)
    zeros, counts = np.zeros(1, int), np.full(1, classifier.grid.window)
    made = [store.gather(np.array([row]), zeros, counts, classifier.grid.window) for row in range(count)]
    return outputs(classifier, [samples[0] * scales[0] for samples, scales in made], classifier.rate)


def measured(name: str, epochs: int, data: Path) -> tuple[float, dict[str, list[float]]]:
    """Test accuracy of a network without a class, and for each score its figures."""
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        classifier = trained(name, epochs, data, run)
        report = json.loads((run / "report.json").read_text(encoding="utf-8"))
        with (run / "clips.csv").open(encoding="utf-8") as file:
            clips = list(csv.DictReader(file))
        train = [row for row in clips if row["part"] == "train"]
        given = outputs(classifier, [row["path"] for row in train])
        targets = torch.eye(len(classifier.classes))[[classifier.classes.index(row["labels"]) for row in train]]
        known = outputs(classifier, [row["path"] for row in clips if row["part"] == "test"])
        with (data / "ESC-50" / "meta" / "esc50.csv").open(encoding="utf-8") as file:
            own = [row["filename"] for row in csv.DictReader(file) if row["category"] == name]
        others = {
            "left out": outputs(classifier, [data / "ESC-50" / "audio" / file for file in own]),
            "UrbanSound8K": outputs(classifier, of_urbansound(data)),
        }
        others |= {colour: noise(classifier, colour, NOISE, purpose=2) for colour in COLOURS}
        noises = [noise(classifier, colour, FITTED_ON, purpose=1) for colour in COLOURS]
        found = {}
        for title, make in SCORES.items():
            module = make(len(classifier.classes))
            if hasattr(module, "fit"):
                every = [given, *([] if "without noise" in title else noises)]
                logits, vectors = (torch.cat(part) for part in zip(*every, strict=True))
                unlabelled = torch.zeros(len(logits) - len(targets), targets.shape[1])
                module.fit(logits, vectors, torch.cat([targets, unlabelled]))
            scores = {key: module(*value).numpy() for key, value in others.items()}
            found[title] = figures(module(*known).numpy(), scores)
        return report["metrics"]["accuracy"]["value"], found


def of_urbansound(data: Path) -> list[Path]:
    """Clips of the kinds that ESC-10 lacks."""
    with (data / "UrbanSound8K" / "metadata" / "UrbanSound8K.csv").open(encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["fold"] in ("1", "2")]
    chosen = []
    for kind in KINDS:
        own = [row for row in rows if row["class"] == kind]
        chosen += own[:: max(1, len(own) // EACH)][:EACH]
    return [data / "UrbanSound8K" / "audio" / f"fold{row['fold']}" / row["slice_file_name"] for row in chosen]


def figures(known: NDArray[Any], others: dict[str, NDArray[Any]]) -> list[float]:
    """AUROC and the share kept of the class and of UrbanSound8K; the share of noise that is not kept; the curve."""
    apart = {key: separation(known, scores) for key, scores in others.items()}
    pairs = [(apart[key].auroc, apart[key].false_positive_rate_at_95) for key in ("left out", "UrbanSound8K")]
    curve = [float((others["UrbanSound8K"] < np.quantile(known, 1 - kept)).mean()) for kept in KEPT]
    return [*pairs[0], *pairs[1], *(1 - apart[colour].false_positive_rate_at_95 for colour in COLOURS), *curve]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--classes", nargs="+", default=["dog", "rain", "helicopter"])
    parser.add_argument("--epochs", type=int, default=80)
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    data = Path(os.environ["SOUNDBENCH_DATA"]).absolute()
    results = {name: measured(name, options.epochs, data) for name in options.classes}
    accuracy = ", ".join(f"{value:.0%} without {name}" for name, (value, _) in results.items())
    head = f"`python benchmarks/rejecting.py --epochs {options.epochs}`: {machine_info()}."
    columns = ["score", *(f"AUROC, {name}" for name in results), "mean", "kept at 95%", "AUROC, UrbanSound8K"]
    lines = [head, "", f"Accuracy on the test clips: {accuracy}.", ""]
    lines += [line([*columns, "kept at 95%", "white noise rejected", "pink"]), line(["---"] * (len(columns) + 3))]
    curves = [line(["score", *(f"{kept:.0%}" for kept in KEPT)]), line(["---"] * (1 + len(KEPT)))]
    for title in SCORES:
        rows = np.array([found[title] for _, found in results.values()])
        means = [f"{value:.3f}" for value in rows.mean(0)]
        lines.append(line([title, *(f"{value:.2f}" for value in rows[:, 0]), *means[: -len(KEPT)]]))
        curves.append(line([title, *means[-len(KEPT) :]]))
    lines += ["", "UrbanSound8K's kinds rejected, where this share of the test clips is kept:", "", *curves]
    print("\n".join(lines), flush=True)
    if options.write:
        RESULT.write_text("\n".join(["# Sound of none of the classes", "", *lines, ""]), encoding="utf-8")


if __name__ == "__main__":
    main()
