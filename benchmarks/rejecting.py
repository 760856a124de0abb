"""Scores that reject sound of none of the classes, compared on ESC-10 with a class left out of training.

    SOUNDBENCH_DATA=... python benchmarks/rejecting.py --out FOLDER [--epochs 80] [--write]

For each of ESC-10's classes the network of `recipes/esc10_model.toml` is trained without it on four folds; each fold is
the fifth for two classes. The reject scores of the clips of the fifth fold are compared with those of all clips of the
class: AUROC, and the share that is kept where 95% of the test clips are.

The defaults of `distance` are chosen by this, among those that reject noise (`chosen`), and by nothing else: the kinds
of UrbanSound8K that ESC-10 lacks (folds 1 and 2, at most 40 clips of each) are measured with what is chosen. Two
networks are trained side by side, each on a core. Runs lie in FOLDER; the same command goes on where it was stopped.
`--write` saves the tables in `benchmarks/results/rejecting.md`.
"""

from __future__ import annotations

import argparse
import csv
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal
from unittest.mock import patch

import attrs
import numpy as np
import sweeping
import torch
from numpy.typing import NDArray
from soundbench_plugins.reject import distance
from soundbench_plugins.reject.energy import Energy
from soundbench_plugins.reject.max_logit import MaxLogit
from turns import line, machine_info

import soundbench
from soundbench.data.batches import RawBatch
from soundbench.inference.predictions import ScoredWindow
from soundbench.model.rejecting.noise import COLOURS, NoiseStore
from soundbench.model.rejecting.thresholds import separation
from soundbench.training.rejecting.others import FITTED_ON, FITTING

RESULT = Path(__file__).parent / "results" / "rejecting.md"
RECIPE = Path(__file__).parents[1] / "recipes" / "esc10_model.toml"
CORES = 2
CLASSES = (
    *("dog", "rooster", "rain", "sea_waves", "crackling_fire"),
    *("crying_baby", "sneezing", "clock_tick", "helicopter", "chainsaw"),
)
KINDS = (
    *("air_conditioner", "car_horn", "children_playing", "drilling", "engine_idling"),
    *("gun_shot", "jackhammer", "siren", "street_music"),
)
EACH, NOISE, OTHER_NOISE = 40, 120, 3
KEPT = (0.99, 0.95, 0.9, 0.8, 0.7)
NOISE_REJECTED = 0.99  # by the least that is chosen
SHRINKAGES, PULLS = (0.1, 0.3, 0.5, 0.7, 0.9), (0.0, 1.0, 3.0, 10.0)

Outputs = tuple[torch.Tensor, torch.Tensor]
Make = Callable[[int], Any]


@attrs.frozen
class Setting:
    """What `distance` is made with."""

    metric: Literal["relative", "mahalanobis", "cosine"]
    shrinkage: float
    pull: float

    def make(self, classes: int) -> distance.Distance:
        return distance.Distance(classes, metric=self.metric, shrinkage=self.shrinkage)

    @contextmanager
    def used(self) -> Iterator[None]:
        """For as long as this lasts, distances are of this pull."""
        with patch.object(distance, "PULL", self.pull):
            yield


# The distance of `cosine` has no covariance.
SETTINGS = [
    Setting(metric, shrinkage, pull)
    for metric in ("relative", "mahalanobis", "cosine")
    for shrinkage in (SHRINKAGES if metric != "cosine" else SHRINKAGES[-1:])
    for pull in PULLS
]


@attrs.frozen(eq=False)
class Given:
    """What a network without a class gives for windows: of training with `targets`, of noise to fit on, of test clips.

    `left_out` are the clips of the class, `others` those of UrbanSound8K, and noise by its colour.
    """

    accuracy: float
    train: Outputs
    targets: torch.Tensor
    noises: Sequence[Outputs]
    known: Outputs
    left_out: Outputs
    others: Mapping[str, Outputs]

    def fitted(self, make: Make, noise: bool) -> Any:
        """A component for this network, fitted if it can be, with noise or without."""
        module = make(self.targets.shape[1])
        if hasattr(module, "fit"):
            every = [self.train, *(self.noises if noise else [])]
            logits, vectors = (torch.cat(part) for part in zip(*every, strict=True))
            unlabelled = torch.zeros(len(logits) - len(self.targets), self.targets.shape[1])
            module.fit(logits, vectors, torch.cat([self.targets, unlabelled]))
        return module


# Networks -------------------------------------------------------------------------------------------------------------


def sweep(folder: Path, name: str, epochs: int, data: Path) -> Path:
    """Write the sweep of the one network that is trained without a class."""
    changes: dict[str, Any] = {"dataset": {"root": str(data / "ESC-50")}, "observer": [], "report": {"sounds": 0}}
    changes |= {"split": {"test": [CLASSES.index(name) % 5 + 1]}, "reject": {"use": "energy", "leave_out": [name]}}
    return sweeping.write(
        folder / f"{name}.toml", RECIPE, {**changes, "train": {"epochs": epochs}, "sweep": sweeping.ONE_RUN}
    )


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
    lengths, start = store.lengths, np.zeros(1, int)
    made = [store.gather(np.array([row]), start, lengths[[row]], lengths[row]) for row in range(count)]
    return outputs(classifier, [samples[0] * scales[0] for samples, scales in made], classifier.rate)


def given(run: Path, name: str, data: Path) -> Given:
    """What the network of a run without a class gives for all sounds."""
    classifier, clips = soundbench.load(run), rows_of(run / "clips.csv")
    train, test = ([row for row in clips if row["part"] == part] for part in ("train", "test"))
    labels = [classifier.classes.index(row["labels"]) for row in train]
    own = [row["filename"] for row in rows_of(data / "ESC-50" / "meta" / "esc50.csv") if row["category"] == name]
    return Given(
        soundbench.Run(run).report["metrics"]["accuracy"]["value"],
        outputs(classifier, [row["path"] for row in train]),
        torch.eye(len(classifier.classes))[labels],
        [noise(classifier, colour, FITTED_ON, FITTING) for colour in COLOURS],
        outputs(classifier, [row["path"] for row in test]),
        outputs(classifier, [data / "ESC-50" / "audio" / file for file in own]),
        {"UrbanSound8K": outputs(classifier, of_urbansound(data))}
        | {colour: noise(classifier, colour, NOISE, OTHER_NOISE) for colour in COLOURS},
    )


def rows_of(path: Path) -> list[dict[str, str]]:
    """The rows of a table."""
    with path.open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def of_urbansound(data: Path) -> list[Path]:
    """Clips of the kinds that ESC-10 lacks."""
    rows = rows_of(data / "UrbanSound8K" / "metadata" / "UrbanSound8K.csv")
    chosen = []
    for kind in KINDS:
        own = [row for row in rows if row["class"] == kind and row["fold"] in ("1", "2")]
        chosen += own[:: max(1, len(own) // EACH)][:EACH]
    return [data / "UrbanSound8K" / "audio" / f"fold{row['fold']}" / row["slice_file_name"] for row in chosen]


# Choosing -------------------------------------------------------------------------------------------------------------


@attrs.frozen
class Tried:
    """What a setting came to: the AUROC of each class that was left out, and the share of noise that is rejected."""

    aurocs: Sequence[float]
    noise: float

    @property
    def mean(self) -> float:
        return float(np.mean(self.aurocs))


def tried(every: Iterable[Given], setting: Setting) -> Tried:
    """What a setting comes to with each network; noise is rejected where 95% of the test clips are kept."""
    aurocs, kept = [], []
    with setting.used():
        for one in every:
            module = one.fitted(setting.make, noise=True)
            known = module(*one.known).numpy()
            aurocs.append(separation(known, module(*one.left_out).numpy()).auroc)
            noises = [separation(known, module(*one.others[colour]).numpy()) for colour in COLOURS]
            kept += [each.false_positive_rate_at_95 for each in noises]
    return Tried(aurocs, 1 - float(np.mean(kept)))


def best_of(found: Mapping[Setting, Tried]) -> Setting:
    """The setting with the highest mean AUROC of those that reject noise; of all, if none does."""
    enough = [setting for setting, one in found.items() if one.noise >= NOISE_REJECTED] or list(found)
    return max(enough, key=lambda setting: found[setting].mean)


def chosen(found: Mapping[Setting, Tried]) -> Setting:
    """Of the metric of the best setting, what is most regular within its error, and rejects noise as well.

    Among the settings of that metric whose AUROC is lower by no more than a standard error of the mean difference over
    classes, the one with the most shrinkage, and of these the weakest pull.
    """
    best = best_of(found)
    least = min(NOISE_REJECTED, found[best].noise)

    def near(setting: Setting) -> bool:
        lower = np.subtract(found[best].aurocs, found[setting].aurocs)
        equal = bool(lower.mean() <= lower.std(ddof=1) / np.sqrt(len(lower)))
        return setting.metric == best.metric and found[setting].noise >= least and equal

    return max(filter(near, found), key=lambda setting: (setting.shrinkage, -setting.pull))


# Writing --------------------------------------------------------------------------------------------------------------


def settings_table(found: Mapping[Setting, Tried]) -> list[str]:
    """The mean AUROC of each setting, and the noise that it rejects."""
    rows = [line(["metric", "shrinkage", *(f"pull {pull:g}" for pull in PULLS)]), line(["---"] * (2 + len(PULLS)))]
    for metric, shrinkage in dict.fromkeys((one.metric, one.shrinkage) for one in found):
        own = [found[Setting(metric, shrinkage, pull)] for pull in PULLS]
        cells = [f"{one.mean:.3f}, {one.noise:.1%}" for one in own]
        rows.append(line([metric, f"{shrinkage:g}" if metric != "cosine" else "", *cells]))
    return rows


def scores_tables(every: Mapping[str, Given], setting: Setting) -> list[str]:
    """Each score on the classes that were left out, on noise, and on UrbanSound8K."""
    scores: dict[str, tuple[Make, bool]] = {
        "energy": (Energy, False),
        "max-logit": (MaxLogit, False),
        "distance, without noise": (setting.make, False),
        "distance": (setting.make, True),
    }
    head = ["score", *every, "mean", "kept at 95%", "white noise rejected", "pink noise rejected"]
    others = ["score", "AUROC", *(f"rejected where {kept:.0%} are kept" for kept in KEPT)]
    tables = [[line(columns), line(["---"] * len(columns))] for columns in (head, others)]
    with setting.used():
        for title, (make, with_noise) in scores.items():
            rows = np.array([figures(one, one.fitted(make, with_noise)) for one in every.values()])
            means = [f"{value:.3f}" for value in rows.mean(0)]
            tables[0].append(line([title, *(f"{value:.2f}" for value in rows[:, 0]), *means[:4]]))
            tables[1].append(line([title, *means[4:]]))
    shown = f"UrbanSound8K, {len(KINDS)} kinds that ESC-10 lacks, measured with the setting that was chosen:"
    return [*tables[0], "", shown, "", *tables[1]]


def figures(one: Given, module: Any) -> list[float]:
    """AUROC and share kept of the class; the shares of noise rejected; AUROC and shares rejected of UrbanSound8K."""
    known = module(*one.known).numpy()
    own = separation(known, module(*one.left_out).numpy())
    others = {key: module(*value).numpy() for key, value in one.others.items()}
    noises = [1 - separation(known, others[colour]).false_positive_rate_at_95 for colour in COLOURS]
    urban = others["UrbanSound8K"]
    curve = [float((urban < np.quantile(known, 1 - kept)).mean()) for kept in KEPT]
    return [own.auroc, own.false_positive_rate_at_95, *noises, separation(known, urban).auroc, *curve]


def page(every: Mapping[str, Given], epochs: int) -> list[str]:
    """The page of the results."""
    found = {setting: tried(every.values(), setting) for setting in SETTINGS}
    best, own = best_of(found), chosen(found)
    accuracies = [f"{one.accuracy:.0%} without {name}" for name, one in every.items()]
    return [
        "# Sound of none of the classes",
        "",
        f"`python benchmarks/rejecting.py --out FOLDER --epochs {epochs} --write`: {machine_info()}. Ten networks of "
        "`recipes/esc10_model.toml`, each trained without a class of ESC-10 on four folds; AUROC between test clips "
        "of the fifth fold and the 40 clips of the class. Accuracy on the test clips of the other classes: "
        f"{', '.join(accuracies)}. Each is one training; how far another seed would move the figures was not measured.",
        "",
        "## The defaults of distance",
        "",
        "Mean AUROC over the ten classes, and the noise that is rejected where 95% of the test clips are kept:",
        "",
        *settings_table(found),
        "",
        f"Best of those that reject {NOISE_REJECTED:.0%} of noise: {named(best)}, {found[best].mean:.3f}. Chosen: "
        f"{named(own)}, {found[own].mean:.3f}: of the settings of this metric that do so within a standard error of "
        "the best (of the difference over classes), the one with the most shrinkage, and then the weakest pull. The "
        "rule was written down before these networks were trained; what is in "
        "[rejecting_before.md](rejecting_before.md) was known.",
        "",
        "## Scores",
        "",
        f"*Kept at 95%* is the share of the class that is kept where 95% of the test clips are. Noise is {NOISE} "
        f"windows of each colour, another draw than the {FITTED_ON} that were fitted on. The setting of *distance* was "
        "chosen by these classes, the others chose nothing; of UrbanSound8K, nothing chose anything.",
        "",
        *scores_tables(every, own),
        "",
    ]


def named(setting: Setting) -> str:
    """A setting in words."""
    shrinkage = f", shrinkage {setting.shrinkage:g}" if setting.metric != "cosine" else ""
    return f"{setting.metric}{shrinkage}, pull {setting.pull:g}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--epochs", type=int, default=80)
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    data = Path(os.environ["SOUNDBENCH_DATA"]).absolute()
    sweeps = {name: sweep(options.out.absolute(), name, options.epochs, data) for name in CLASSES}
    sweeping.refuse_failed(sweeping.finish(list(sweeps.values()), CORES))
    every = {name: given(sweeping.finished(file)[0], name, data) for name, file in sweeps.items()}
    lines = page(every, options.epochs)
    print("\n".join(lines))
    if options.write:
        RESULT.write_text("\n".join(lines), encoding="utf-8")


if __name__ == "__main__":
    main()
