"""How often an interval contains the true value: simulated test sets with the groups of real ones.

    SOUNDBENCH_DATA=... nice python benchmarks/coverage.py [--sets 2000] [--resamples 1000] [--only NAME ...] [--write]

The populations are ESC-10 (all five folds; a group is a Freesound recording), folds 1 and 2 of UrbanSound8K, each as a
list of groups with their numbers of clips and their classes from the metadata under SOUNDBENCH_DATA, and a made-up one
of 12 groups. A simulated set draws as many groups as the list has from it, with replacement: it is another test set of
the same kind. Each group has a rate of its own at which its clips are classified correctly, from a beta distribution
around the rate of its class (spread over RATES, so that clips of a group are correlated by RHO); the wrong clips of a
group are all taken for one other class. Of such a population, accuracy and macro-F1 are known exactly. The second model
of a pair is lower by 0.03 in each class and has the same rank of difficulty in half of the groups.

Each set goes through the code that reports use. The table has the share of sets whose nominal 95% interval contains
the truth, for the plain percentile bootstrap and for the interval of `soundbench/report/resampling.py`, both from the
same draws. `--write` saves it in `benchmarks/results/coverage.md`.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import attrs
import numpy as np
import scipy.stats
from numpy.typing import NDArray

from soundbench import files
from soundbench.report.metrics.accuracy import ACCURACY
from soundbench.report.metrics.macro_f1 import MACRO_F1
from soundbench.report.metrics.metric import spread_of
from soundbench.report.one_label import OneLabel
from soundbench.report.resampling import Once, SameDraws, interval

RESULT = Path(__file__).parent / "results" / "coverage.md"
RHO = 0.3
RATES = ((0.55, 0.95), (0.85, 0.99))
LOWER = 0.03
METRICS = (ACCURACY, MACRO_F1)
Floats = NDArray[np.float64]
Codes = NDArray[np.int64]


@attrs.frozen(eq=False)
class Population:
    """A list of groups: how many clips each has, and of which class they are."""

    name: str
    sizes: Codes
    classes: Codes


def populations(root: Path) -> Iterator[Population]:
    """The populations, by the metadata of the datasets."""
    with open(root / "ESC-50" / "meta" / "esc50.csv", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["esc10"] == "True"]
    yield _of("ESC-10", [(row["src_file"], row["category"]) for row in rows])
    with open(root / "UrbanSound8K" / "metadata" / "UrbanSound8K.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    for fold in ("1", "2"):
        pairs = [(row["fsID"], row["class"]) for row in rows if row["fold"] == fold]
        yield _of(f"UrbanSound8K, fold {fold}", pairs)
    yield Population("12 groups", np.array([2, 3, 4, 4, 5, 6, 6, 7, 8, 8, 9, 10]), np.arange(12) % 3)


def _of(name: str, pairs: Sequence[tuple[str, str]]) -> Population:
    _, first, sizes = np.unique([group for group, _ in pairs], return_index=True, return_counts=True)
    classes = np.unique([label for _, label in pairs], return_inverse=True)[1]
    return Population(name, sizes, classes[first])


@attrs.frozen(eq=False)
class Model:
    """How often a model is right in each class `(K,)`, and for which class it takes wrong ones `(K, K)`."""

    rates: Floats
    mistakes: Floats

    def truth(self, population: Population) -> tuple[float, float]:
        """Its accuracy and macro-F1 in the population, from expected counts."""
        clips = np.bincount(population.classes, population.sizes)
        right = clips * self.rates
        predicted = right + (clips - right) @ self.mistakes
        return float(right.sum() / clips.sum()), float(np.mean(2 * right / (clips + predicted)))

    def predict(self, sizes: Codes, classes: Codes, ranks: Floats, random: np.random.Generator) -> Codes:
        """The predicted class of each clip of the groups, whose difficulty has these ranks in [0, 1]."""
        mean, strength = self.rates[classes], (1 - RHO) / RHO
        right = random.binomial(sizes, scipy.stats.beta.ppf(ranks, mean * strength, (1 - mean) * strength))
        other = (random.random((len(classes), 1)) > self.mistakes.cumsum(axis=1)[classes]).sum(axis=1)
        within = np.arange(sizes.sum()) - np.repeat(sizes.cumsum() - sizes, sizes)
        correct = within < np.repeat(right, sizes)
        return np.where(correct, np.repeat(classes, sizes), np.repeat(other, sizes))


def models(classes: int, between: tuple[float, float], random: np.random.Generator) -> tuple[Model, Model]:
    """Two models that make other mistakes, the second a little worse."""
    rates = random.permutation(np.linspace(*between, classes))
    return Model(rates, _mistakes(classes, random)), Model(rates - LOWER, _mistakes(classes, random))


def _mistakes(classes: int, random: np.random.Generator) -> Floats:
    shares = random.dirichlet(np.full(classes, 0.5), classes)
    np.fill_diagonal(shares, 0)
    return shares / shares.sum(axis=1, keepdims=True)


def intervals(
    population: Population, pair: tuple[Model, Model], resamples: int, seed: int
) -> Iterator[tuple[str, float, tuple[float, float], tuple[float, float]]]:
    """Of a simulated set: what is measured, its value, the percentile interval and ours."""
    random = np.random.default_rng(seed)
    count = len(population.sizes)
    drawn = random.integers(0, count, count)
    sizes, classes = population.sizes[drawn], population.classes[drawn]
    first, again = random.random((2, count))
    ranks = first, np.where(random.random(count) < 0.5, first, again)
    truth, names = np.eye(len(pair[0].rates))[np.repeat(classes, sizes)], np.eye(len(pair[0].rates))
    draws = SameDraws(np.repeat(np.arange(count), sizes), resamples, 1)
    found: dict[str, list[tuple[float, Floats, Floats]]] = {metric.name: [] for metric in METRICS}
    for model, own in zip(pair, ranks, strict=True):
        clips = OneLabel(names[model.predict(sizes, classes, own, random)], truth > 0, None)
        sample, spread = clips.sample(Once(len(truth))), spread_of(clips.sample, draws)
        for metric in METRICS:
            values = (metric.value(one) for one in (spread.resampled, spread.left_out))
            found[metric.name].append((float(metric.value(sample)[0]), *values))
    for metric in METRICS:
        (a, drawn_a, left_a), (b, drawn_b, left_b) = found[metric.name]
        cases = (
            (metric.title, True, a, drawn_a, left_a),
            (f"{metric.title}, pair", False, a - b, drawn_a - drawn_b, left_a - left_b),
        )
        for name, share, value, resampled, left_out in cases:
            plain = float(np.quantile(resampled, 0.025)), float(np.quantile(resampled, 0.975))
            yield name, value, plain, interval(value, resampled, left_out, draws.units, share=share)


def rows(population: Population, between: tuple[float, float], sets: int, resamples: int) -> Iterator[list[str]]:
    """The rows of the table for a population."""
    pair = models(int(population.classes.max()) + 1, between, np.random.default_rng(7))
    known = [model.truth(population) for model in pair]
    truths = {}
    for place, metric in enumerate(METRICS):
        truths[metric.title] = known[0][place]
        truths[f"{metric.title}, pair"] = known[0][place] - known[1][place]
    covered: dict[str, list[list[bool]]] = {name: [] for name in truths}
    widths: dict[str, list[list[float]]] = {name: [] for name in truths}
    for seed in range(sets):
        for name, _, *both in intervals(population, pair, resamples, seed):
            covered[name].append([low <= truths[name] <= high for low, high in both])
            widths[name].append([high - low for low, high in both])
    size = population.sizes
    worth = f"{len(size)} ({size.sum() ** 2 / (size**2).sum():.0f})"
    for name, truth in truths.items():
        plain, own = np.mean(covered[name], axis=0)
        widest, wide = np.mean(widths[name], axis=0)
        yield [
            population.name,
            worth,
            name,
            f"{truth:.3f}",
            f"{plain:.1%}",
            f"{own:.1%}",
            f"{widest:.3f}",
            f"{wide:.3f}",
        ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", type=int, default=2000)
    parser.add_argument("--resamples", type=int, default=1000)
    parser.add_argument("--only", nargs="+", help="names of populations, then the least rate: parts of `ESC-10, 0.55`")
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    began = time.monotonic()
    head = [
        "# Coverage of intervals",
        "",
        f"`python benchmarks/coverage.py --sets {options.sets} --resamples {options.resamples} --write`: the share of",
        "simulated test sets whose nominal 95% interval contains the true value; its docstring describes them.",
        f"Of {options.sets:,} sets, a share of 95% is measured to about ±{1.96 * (0.0475 / options.sets) ** 0.5:.1%}.",
        "",
    ]
    columns = ["test set", "groups (worth)", "of", "truth", "percentile", "soundbench", "width", "width, soundbench"]
    lines = [*head, _line(columns), _line(["---"] * len(columns))]
    print("\n".join(lines), flush=True)
    for between, population in itertools.product(RATES, populations(Path(os.environ["SOUNDBENCH_DATA"]))):
        name = f"{population.name}, {between[0]}"
        if options.only and not any(part in name for part in options.only):
            continue
        for row in rows(population, between, options.sets, options.resamples):
            lines.append(_line(row))
            print(lines[-1], flush=True)
    lines += [
        "",
        "Worth: how many groups of equal size are worth as much (Kish). A pair: the difference of two models on the",
        "same clips. The percentile bootstrap falls short where groups are few, or for macro-F1 those of a class, or",
        "where nearly every clip is right.",
    ]
    print(f"\n{time.monotonic() - began:.0f} s")
    if options.write:
        files.write_text(RESULT, "\n".join(lines) + "\n")


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
