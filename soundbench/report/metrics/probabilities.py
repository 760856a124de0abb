"""Scores as the probabilities that the metrics of calibration need."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["of_each_class", "of_one_class"]

Floats = NDArray[np.float64]


def of_one_class(scores: NDArray[np.floating[Any]]) -> Floats:
    """Probabilities of classes of which a clip has one, `(N, K)`: scores from 0 up, divided by their sum.

    Scores that add up to one stay what they are, but for rounding; a loss that scores each class by itself has others.
    NaN and what is below 0 count as 0. A clip whose scores are all 0 keeps them: no class has a probability.
    """
    known = np.nan_to_num(np.asarray(scores, np.float64), nan=0.0, posinf=1e30, neginf=0.0).clip(0.0, 1e30)
    total = known.sum(axis=1, keepdims=True)
    shares: Floats = known / np.where(total > 0, total, 1.0)
    return shares


def of_each_class(scores: NDArray[np.floating[Any]]) -> Floats:
    """Probabilities of classes of which a clip has any number, `(N, K)`: scores from 0 to 1; NaN counts as 0."""
    known: Floats = np.nan_to_num(np.asarray(scores, np.float64), nan=0.0).clip(0.0, 1.0)
    return known
