"""ESC-10's folds for choosing: what is chosen for a test fold is chosen by clips of other folds alone.

Each setting is trained five times, on three of the five folds, and scores the two others. For a test fold e, the runs
count that left out e and one more fold, by their predictions of the clips of that other fold: no clip of e has a part
in it, neither by training nor by the score. That is 160 clips for each test fold.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import attrs
import numpy as np
from leak import accuracy

from soundbench import files, limits
from soundbench.recipe import toml
from soundbench.studies.comparing.pairs import Pair, compare_scores

FOLDS = (1, 2, 3, 4, 5)
LEFT_OUT = [[1, 2], [2, 3], [3, 4], [4, 5], [5, 1]]


@attrs.frozen
class Answer:
    """A clip as a run that was not trained on it has answered: `fold` is the clip's, `left_out` are the run's."""

    left_out: frozenset[int]
    fold: int
    path: str
    recording: str
    label: str
    predicted: str

    @property
    def right(self) -> bool:
        return self.label == self.predicted


def answers(runs: Iterable[Path]) -> list[Answer]:
    """What the runs of a setting have answered about the clips of the folds that they left out."""
    return [answer for run in runs for answer in _answers(run)]


def _answers(run: Path) -> Iterable[Answer]:
    left_out = frozenset(toml.parse(files.read_bytes(run / "recipe.toml", limits.TEXT))["split"]["test"])
    folds = {row["path"]: int(row["fold"]) for row in files.read_rows(run / "clips.csv")}
    for row in files.read_rows(run / "predictions.csv"):
        yield Answer(left_out, folds[row["path"]], row["path"], row["group"], row["label"], row["predicted"])


def inner(found: Iterable[Answer], test: int) -> list[Answer]:
    """The answers that may choose for a test fold: of networks that never saw it, about clips of another fold."""
    return [one for one in found if test in one.left_out and one.fold != test]


def accuracy_for(found: Iterable[Answer], test: int) -> float:
    """The share of right answers among those that may choose for a test fold."""
    own = inner(found, test)
    return sum(one.right for one in own) / len(own)


def standard_error(own: Sequence[Answer]) -> float:
    """Of the share of right answers, over recordings (Liang and Zeger, Biometrika 73, 1986, for a mean)."""
    right = np.array([one.right for one in own], float)
    _, recording = np.unique([one.recording for one in own], return_inverse=True)
    return float(np.sqrt(np.square(np.bincount(recording, right - right.mean())).sum()) / len(own))


def chosen(settings: Mapping[str, Sequence[Answer]], test: int) -> str:
    """The setting for a test fold, by what may choose for it: the last of those within a standard error of the best."""
    found = {name: accuracy_for(own, test) for name, own in settings.items()}
    best = max(found, key=lambda name: found[name])
    least = found[best] - standard_error(inner(settings[best], test))
    return [name for name, value in found.items() if value >= least][-1]


def estimate(found: Sequence[Answer]) -> dict[str, float]:
    """`value`, `low` and `high` of the accuracy of all answers, with the interval over recordings.

    It is what the setting reaches with three folds to train on. A clip is answered by two networks, and its recording
    is drawn with both answers.
    """
    return accuracy([one.label for one in found], [one.predicted for one in found], [one.recording for one in found])


def pairs(settings: Mapping[str, Sequence[Answer]]) -> list[tuple[str, str, Pair]]:
    """Every two settings, and how far apart they are: the same clips, answered by networks of the same folds.

    Raises:
        ValueError: they have not answered the same clips.
    """
    order = [sorted(own, key=lambda one: (sorted(one.left_out), one.path)) for own in settings.values()]
    asked = [[(one.left_out, one.path) for one in own] for own in order]
    if any(own != asked[0] for own in asked):
        raise ValueError("the settings have not answered the same clips")
    classes = sorted({label for own in order for one in own for label in (one.label, one.predicted)})
    predicted = [np.array([[one.predicted == name for name in classes] for one in own], float) for own in order]
    targets = np.array([[one.label == name for name in classes] for one in order[0]], np.float32)
    found = compare_scores(predicted, targets, [one.recording for one in order[0]])
    names = list(settings)
    return [(names[pair.first], names[pair.second], pair) for pair in found]


def difference(pair: Pair) -> list[str]:
    """By how many points the accuracies of a pair differ, with the interval, and p (Holm), as cells of a table."""
    main = pair.differences[0]
    value, low, high = (f"{100 * (bound or 0.0):.1f}" for bound in (main.value, main.low, main.high))
    return [f"{value} ({low} to {high})", f"{main.holm or 0.0:.3f}"]
