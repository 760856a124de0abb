"""How often `soundbench compare` calls a difference significant where there is none.

    python benchmarks/comparing.py DATA [--pairs 2000] [--write]

Two models of equal expected accuracy score a made-up test set that has the group sizes of a real one, and the function
of `compare` compares them, 2,000 times over. A model is right on a clip if a normal number is below the quantile of the
accuracy; the number is a sum of four parts, with the shares of its variance in the table: the difficulty of the group
and of the clip, which both models share, and what each model makes of the group and of the clip. The model's share of
the group makes clips of one group dependent in the difference. A wrong clip gets another class at random.

DATA is the folder that holds `ESC-50` and `UrbanSound8K`; of these, only the tables are read. `--write` writes
`benchmarks/results/comparing.md`. The goal is 3 to 7%.
"""

from __future__ import annotations

import argparse
import csv
import os
import platform
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from statistics import NormalDist

import attrs
import numpy as np
from numpy.typing import NDArray

from soundbench import files
from soundbench.report.pairing import METHOD
from soundbench.studies.comparing.pairs import compare_scores

RESULTS = Path(__file__).parent / "results" / "comparing.md"
CLASSES = 10

Groups = NDArray[np.int64]


@attrs.frozen
class Shares:
    """The shares of the variance of a clip's number: of group and clip for both models, of group and clip for each."""

    group: float
    clip: float
    own_group: float
    own_clip: float

    def __str__(self) -> str:
        return f"{self.group:g}, {self.clip:g}, {self.own_group:g}, {self.own_clip:g}"


# Clips of a group that differ in nothing but what both models share, and clips that each model takes alike.
SHARES = (Shares(0.3, 0.3, 0.0, 0.4), Shares(0.3, 0.2, 0.3, 0.2))


def group_sizes(data: Path) -> Iterator[tuple[str, Groups]]:
    """The number of clips of each group, for some real test sets."""
    with open(data / "ESC-50" / "meta" / "esc50.csv", newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["esc10"] == "True"]
    yield "ESC-10, fold 5", sizes(row["src_file"] for row in rows if row["fold"] == "5")
    yield "ESC-10, all folds", sizes(row["src_file"] for row in rows)
    with open(data / "UrbanSound8K" / "metadata" / "UrbanSound8K.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    for fold in ("1", "2"):
        yield f"UrbanSound8K, fold {fold}", sizes(row["fsID"] for row in rows if row["fold"] == fold)
    yield "12 groups of 1 to 12 clips", np.arange(1, 13)


def sizes(groups: Iterator[str]) -> Groups:
    """How often each group occurs."""
    return np.unique(list(groups), return_counts=True)[1]


def scores_of(
    random: np.random.Generator, group: Groups, truth: Groups, shares: Shares, accuracy: float
) -> list[NDArray[np.float64]]:
    """The scores of two models of equal expected accuracy, `(N, K)` each."""
    count, clips = int(group.max()) + 1, len(group)
    both = np.sqrt(shares.group) * random.standard_normal(count)[group]
    both = both + np.sqrt(shares.clip) * random.standard_normal(clips)
    found = []
    for _ in range(2):
        own = np.sqrt(shares.own_group) * random.standard_normal(count)[group]
        own = own + np.sqrt(shares.own_clip) * random.standard_normal(clips)
        right = both + own < NormalDist().inv_cdf(accuracy)
        other = (truth + random.integers(1, CLASSES, clips)) % CLASSES
        found.append(np.eye(CLASSES)[np.where(right, truth, other)])
    return found


def called(number: int, of_group: Groups, shares: Shares, accuracy: float) -> tuple[bool, bool, bool, float]:
    """Of one pair: whether each of three rules calls it different, and the accuracy of its first model.

    The rules are the interval of the accuracy over groups, McNemar's test over clips, the interval of macro-F1.
    """
    random = np.random.default_rng([number, len(of_group)])
    group = np.repeat(np.arange(len(of_group)), of_group)
    truth = random.permutation(np.arange(len(of_group)) % CLASSES)[group]
    scores = scores_of(random, group, truth, shares, accuracy)
    (pair,) = compare_scores(scores, np.eye(CLASSES, dtype=np.float32)[truth], group.astype(str))
    f1, test = pair.differences[1], pair.mcnemar
    assert test is not None
    assert f1.p is not None
    right = float((scores[0].argmax(1) == truth).mean())
    return bool(pair.significant), test.p < 0.05, f1.p < 0.05, right


def rows(data: Path, pairs: int, accuracy: float, processes: int) -> Iterator[list[str]]:
    """A row for each test set and each shares of variance."""
    with ProcessPoolExecutor(processes) as pool:
        for name, of_group in group_sizes(data):
            for shares in SHARES:
                one = partial(called, of_group=of_group, shares=shares, accuracy=accuracy)
                found = np.array(list(pool.map(one, range(pairs), chunksize=20)))
                percent = [f"{share:.1%}" for share in found.mean(axis=0)]
                row = [name, str(of_group.sum()), str(len(of_group)), str(shares), percent[3], *percent[:3]]
                print(" | ".join(row), flush=True)
                yield row


def page(table: list[list[str]], options: Mapping[str, object]) -> str:
    """The page of results."""
    head = ["test set", "clips", "groups", "shares of variance", "accuracy"]
    head += ["interval over groups", "McNemar over clips", "macro-F1, over groups"]
    lines = [f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *table)]
    return "\n".join(
        [
            "# Comparing two models that do not differ",
            "",
            f"How often each rule calls two models of equal expected accuracy different, in {options['pairs']:,} "
            f"made-up pairs a row ({METHOD}, 2,000 resamples; NumPy {np.__version__}, Python "
            f"{platform.python_version()}). The shares are those of the group and the clip for both models, then of "
            "the group and the clip for each model; the standard deviation of a share of 5% in 2,000 pairs is 0.5%.",
            "",
            f"`python benchmarks/comparing.py DATA --pairs {options['pairs']} --accuracy {options['accuracy']}`",
            "",
            *lines,
            "",
        ]
    )


def main() -> None:
    """Simulate, print and perhaps write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("data", type=Path, metavar="DATA")
    parser.add_argument("--pairs", type=int, default=2000)
    parser.add_argument("--accuracy", type=float, default=0.8)
    parser.add_argument("--processes", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    table = list(rows(options.data, options.pairs, options.accuracy, options.processes))
    if options.write:
        files.write_text(RESULTS, page(table, vars(options)))


if __name__ == "__main__":
    main()
