"""The worst mistakes: the clips in which a class that is not there has the highest scores."""

from __future__ import annotations

from collections.abc import Sequence

import attrs
import numpy as np
from numpy.typing import NDArray

__all__ = ["Mistake", "worst", "worst_of_several_labels"]

Floats = NDArray[np.float64]


@attrs.frozen
class Mistake:
    """A clip that got a class that it does not have.

    Attributes:
        row: the clip.
        predicted: the class.
        score: of that class.
    """

    row: int
    predicted: int
    score: float


def worst(scores: Floats, labels: NDArray[np.int64]) -> list[Mistake]:
    """The clips whose highest score is not that of their label, the highest first.

    Args:
        scores: `(N, K)`; a score that is not a number counts as the lowest.
        labels: `(N,)`, codes of classes.
    """
    known = np.where(np.isnan(scores), -np.inf, scores)
    predicted = known.argmax(axis=1)
    return _ranked(np.flatnonzero(predicted != labels), predicted, known.max(axis=1, initial=-np.inf))


def worst_of_several_labels(
    scores: Floats, targets: NDArray[np.bool_], thresholds: Sequence[float | None]
) -> list[Mistake]:
    """The clips with a false positive, each with the one of the highest score; the highest first.

    Args:
        scores: `(N, K)`; a score that is not a number counts as the lowest.
        targets: `(N, K)`, whether each clip has each label.
        thresholds: `(K,)`, the score from which a class is predicted; None counts as 0.5.
    """
    least = np.array([0.5 if value is None else value for value in thresholds])
    false = np.where(np.isnan(scores) | targets | (scores < least), -np.inf, scores)
    predicted, score = false.argmax(axis=1), false.max(axis=1, initial=-np.inf)
    return _ranked(np.flatnonzero(np.isfinite(score)), predicted, score)


def _ranked(rows: NDArray[np.int64], predicted: NDArray[np.int64], scores: Floats) -> list[Mistake]:
    rows = rows[np.isfinite(scores[rows])]
    order = rows[np.argsort(-scores[rows], kind="stable")]
    return [Mistake(int(row), int(predicted[row]), float(scores[row])) for row in order]
