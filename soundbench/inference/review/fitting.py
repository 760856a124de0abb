"""The score from which a class is right with a wanted probability, from marks, with its interval.

P(right | score) is a logistic function of the logit of the score, as Wood and Kahl fit it to the scores of detectors
(Guidelines for appropriate use of BirdNET scores and other detector outputs, Journal of Ornithology 165, 2024). Marks
of a class are few, and often no wrong one scores higher than a right one, where the likelihood has no maximum. So it is
penalised by Jeffreys' prior (Firth, Bias reduction of maximum likelihood estimates, Biometrika 80, 1993; Heinze and
Schemper, A solution to the problem of separation in logistic regression, Statistics in Medicine 21, 2002), which always
has one.

The threshold is where the fitted probability reaches the wanted precision. Whatever scores more is right at least as
often, so that the precision of all that reaches the threshold is no less than wanted, however scores are distributed.
The probability is known for the scores that were marked and for no others, so a threshold lies between the lowest and
the highest of them. Marks of one sound are alike: the interval resamples sounds (`report/resampling.py`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import attrs
import numpy as np
from numpy.typing import NDArray

from soundbench.report.resampling import LeftOut, Once, Resamples, Weights, effective_groups, interval

__all__ = ["Threshold", "firth", "fit_threshold"]

Floats = NDArray[np.float64]

RESAMPLES = 1000
SEED = 1
# Scores nearer to 0 or 1 are taken for this near: tables hold six decimals.
NEAR = 1e-6
# A threshold that is not reached, for the interval.
NEVER = 1.0

_STEPS = 100
_LONGEST = 5.0  # of a step, in standard deviations of the logit
_CLOSE = 1e-9


@attrs.frozen
class Threshold:
    """The threshold of a class.

    Attributes:
        value: the score; None if there is none.
        low: the lower bound of its interval; None if there is none.
        high: the upper bound; 1 where it may be that no score is enough.
        right: how many marks are right.
        wrong: how many are wrong.
        sounds: how many sounds they are of.
        reason: why there is no threshold; empty if there is one.
    """

    value: float | None
    low: float | None
    high: float | None
    right: int
    wrong: int
    sounds: int
    reason: str = ""


def fit_threshold(scores: Sequence[float], right: Sequence[bool], sounds: Sequence[str], precision: float) -> Threshold:
    """The threshold of one class.

    Args:
        scores: of N detections, in [0, 1].
        right: whether each is right.
        sounds: the sound of each.
        precision: the wanted share of what is right, between 0 and 1.
    """
    truth = np.asarray(right, bool)
    group = np.unique(np.asarray(sounds), return_inverse=True)[1].astype(np.int64)
    counts = int(truth.sum()), int((~truth).sum()), int(group.max()) + 1
    if not counts[0] or not counts[1]:
        given = "right" if counts[0] else "wrong"
        return Threshold(None, None, None, *counts, f"all marks are {given}; both kinds are needed")
    x = _logit(np.asarray(scores, float))
    if x.min() == x.max():
        return Threshold(None, None, None, *counts, "all marks have the same score")
    value = float(_thresholds(x, truth, Once(len(x)), precision)[0])
    if math.isnan(value):
        return Threshold(None, None, None, *counts, "no score that was marked is right so often")
    bounds: tuple[float | None, float | None] = None, None
    if counts[2] > 1:
        most = float(_logit(np.array([NEVER]))[0])
        drawn, left_out = (
            np.nan_to_num(_thresholds(x, truth, weights, precision), nan=most)
            for weights in (Resamples(group, RESAMPLES, SEED), LeftOut(group, SEED))
        )
        low, high = interval(value, drawn, left_out, effective_groups(group))
        bounds = _score(low), (NEVER if high >= most else _score(high))
    return Threshold(_score(value), *bounds, *counts)


def _thresholds(x: Floats, truth: NDArray[np.bool_], weights: Weights, precision: float) -> Floats:
    """The threshold as a logit under each weighting, `(R,)`; NaN where there is none."""
    found = []
    for block in weights.of_clips():
        offset, slope = firth(x, truth, block).T
        wanted = math.log(precision / (1 - precision))
        with np.errstate(divide="ignore", invalid="ignore"):
            meets = (wanted - offset) / slope
        low, high = x.min(), x.max()
        meets = np.where(slope > 0, np.clip(meets, low, None), low)
        found.append(np.where(offset + slope * high >= wanted, meets, np.nan))
    return np.concatenate(found)


def firth(x: Floats, truth: NDArray[np.bool_], weights: Floats) -> Floats:
    """Offset and slope `(R, 2)` of Firth's logistic regression of `truth` on `x`, under R weightings.

    Args:
        x: `(N,)`, not all alike.
        truth: `(N,)`.
        weights: `(R, N)`, how often each is counted.

    Returns:
        `P = 1 / (1 + exp(-(offset + slope x)))`; NaN where what is counted has a single `x`.
    """
    centre, spread = float(x.mean()), float(x.std())
    z, y = (x - centre) / spread, truth.astype(np.float64)
    beta = np.zeros((len(weights), 2))
    best = _penalised(beta, z, y, weights)
    with np.errstate(divide="ignore", invalid="ignore"):
        for _ in range(_STEPS):
            step = _step(beta, z, y, weights)
            step *= np.minimum(1.0, _LONGEST / np.maximum(np.abs(step).max(axis=1, keepdims=True), _CLOSE))
            after = _penalised(beta + step, z, y, weights)
            for _ in range(10):  # a step that is too long is halved
                worse = after < best - _CLOSE
                if not worse.any():
                    break
                step[worse] /= 2
                after = np.where(worse, _penalised(beta + step, z, y, weights), after)
            beta, best = beta + step, after
            if not (np.abs(step) > _CLOSE).any():
                break
    slope = beta[:, 1] / spread
    return np.stack([beta[:, 0] - slope * centre, slope], axis=1)


def _step(beta: Floats, z: Floats, y: Floats, weights: Floats) -> Floats:
    """The inverse of the information times the modified score, `(R, 2)` (Heinze and Schemper, 2002, equation 2)."""
    p, (a, b, c), determinant = _information(beta, z, weights)
    leverage = p * (1 - p) * (c[:, None] - 2 * b[:, None] * z + a[:, None] * z**2) / determinant[:, None]
    pull = weights * (y - p + leverage * (0.5 - p))
    first, second = pull.sum(axis=1), (pull * z).sum(axis=1)
    return np.stack([c * first - b * second, a * second - b * first], axis=1) / determinant[:, None]


def _penalised(beta: Floats, z: Floats, y: Floats, weights: Floats) -> Floats:
    """The log likelihood and half the logarithm of the information's determinant, `(R,)`."""
    line = beta[:, :1] + beta[:, 1:] * z
    determinant = _information(beta, z, weights)[2]
    with np.errstate(divide="ignore", invalid="ignore"):
        penalty: Floats = 0.5 * np.log(determinant)
    likelihood: Floats = (weights * (y * line - np.logaddexp(0, line))).sum(axis=1)
    return likelihood + penalty


def _information(beta: Floats, z: Floats, weights: Floats) -> tuple[Floats, tuple[Floats, Floats, Floats], Floats]:
    """The probabilities `(R, N)`; the information's three entries and its determinant, `(R,)` each."""
    p = 0.5 * (1 + np.tanh((beta[:, :1] + beta[:, 1:] * z) / 2))
    w = weights * p * (1 - p)
    a, b, c = w.sum(axis=1), (w * z).sum(axis=1), (w * z**2).sum(axis=1)
    return p, (a, b, c), a * c - b**2


def _logit(scores: Floats) -> Floats:
    near = np.clip(scores, NEAR, 1 - NEAR)
    logits: Floats = np.log(near / (1 - near))
    return logits


def _score(logit: float) -> float:
    return 0.5 * (1 + math.tanh(logit / 2))
