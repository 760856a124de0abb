"""Predictions of several classes a clip to metrics, each with an interval.

Average precision is the area under the precision-recall curve as a sum over the ranks at which recall rises (Manning,
Raghavan and Schütze, Introduction to Information Retrieval, 2008, section 8.4), clips of equal score at one rank; mAP
is its mean over the classes that have clips. It does not depend on thresholds; F1 does, and each class has its own. The
interval resamples groups as in `statistics.py`: a clip weighs as often as its group was drawn.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from soundbench.errors import DataError
from soundbench.statistics import LEVEL

__all__ = ["average_precision", "choose_thresholds", "evaluate_tags"]

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

# What is resampled at most, in clips times classes times resamples: some seconds of work.
_WORK = 2_000_000_000

# Weights that are in memory at a time.
_BLOCK = 4_000_000


def average_precision(scores: Floats, truth: Bools, weights: Floats) -> Floats:
    """The average precision of one class under each of R weightings of its clips, `(R,)`; NaN without a positive.

    Args:
        scores: `(N,)`.
        truth: `(N,)`, whether each clip carries the class.
        weights: `(R, N)`, what each clip weighs.
    """
    ranked = np.argsort(-scores, kind="stable")
    last = _last_of_equals(scores[ranked])
    weighed = weights[:, ranked]
    found = np.cumsum(weighed * truth[ranked], axis=1)[:, last]
    seen = np.cumsum(weighed, axis=1)[:, last]
    rises = np.diff(found, axis=1, prepend=0.0)
    with np.errstate(invalid="ignore", divide="ignore"):
        precision = np.where(seen > 0, found / seen, 0.0)
        area: Floats = (rises * precision).sum(axis=1) / found[:, -1]
    return area


def choose_thresholds(scores: npt.ArrayLike, target: npt.ArrayLike) -> Floats:
    """For each class the threshold with the best F1 `(K,)`, half-way to the next lower score; 0.5 without a positive.

    Args:
        scores: `(N, K)`, of clips that are not the test set's; one that is NaN counts as 0.
        target: `(N, K)`, more than zero for the classes that a clip carries.
    """
    known = np.nan_to_num(np.asarray(scores, float), nan=0.0)
    return np.array([_best(own, true) for own, true in zip(known.T, np.asarray(target).T > 0, strict=True)])


def _last_of_equals(descending: Floats) -> npt.NDArray[np.intp]:
    """The last place of each run of equal scores. No difference is taken: of two that are minus infinity it is none."""
    return np.append(np.flatnonzero(descending[1:] != descending[:-1]), len(descending) - 1)


def _best(scores: Floats, truth: Bools) -> float:
    if not truth.any():
        return 0.5
    ranked = np.argsort(-scores, kind="stable")
    descending = scores[ranked]
    last = _last_of_equals(descending)
    found = np.cumsum(truth[ranked])[last]
    place = last[np.argmax(2 * found / (last + 1 + truth.sum()))]
    below = descending[place + 1] if place + 1 < len(descending) else 0.0
    return float((descending[place] + below) / 2)


def evaluate_tags(
    scores: np.ndarray,
    target: np.ndarray,
    groups: np.ndarray,
    classes: Sequence[str],
    thresholds: npt.ArrayLike,
    resamples: int = 2000,
    seed: int = 0,
) -> dict[str, Any]:
    """All that is said of judged clips that may carry several classes, in plain Python types and without NaN.

    Args:
        scores: `(N, K)`, higher is more likely; one that is NaN counts as the lowest of all.
        target: `(N, K)`, more than zero for the classes that a clip carries.
        groups: `(N,)` integers, equal where clips share a group.
        classes: the K class names.
        thresholds: `(K,)` or `(N, K)`: a clip is said to carry a class whose score reaches it.
        resamples: how many resamples an interval is made of; fewer are drawn of very many clips and classes.
        seed: of the resamples.

    Returns:
        `metrics`: mean_average_precision, macro_f1 and micro_f1, each with `value`, `low` and `high` (None for one
        group only); `baseline`: what one score for all gets; `per_class`, `classes`, `classes_without_clips`, `clips`,
        `groups`, `interval`, `clips_without_finite_scores`.

    Raises:
        DataError: there is no clip.
    """
    if not len(scores):
        raise DataError("no clip is left to evaluate")
    finite = np.isfinite(scores).all(axis=1)
    ranked, truth = np.nan_to_num(np.asarray(scores, np.float64), nan=-np.inf), np.asarray(target) > 0
    said = ranked >= np.asarray(thresholds)
    distinct, group = np.unique(groups, return_inverse=True)
    resamples = min(resamples, max(100, _WORK // truth.size))
    whole = _metrics(ranked, truth, said, np.ones((1, len(truth))))
    named = {name: {"value": float(value[0]), "low": None, "high": None} for name, value in whole.items()}
    if resamples and len(distinct) > 1:
        drawn = [_metrics(ranked, truth, said, weights) for weights in _weights(group.reshape(-1), resamples, seed)]
        for name, figure in named.items():
            values = np.concatenate([draw[name] for draw in drawn])
            low, high = np.nanquantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
            figure.update(low=float(low), high=float(high))
    support = truth.sum(axis=0)
    common = float(support.sum() / max(np.count_nonzero(support), 1) / len(truth))
    return {
        "multilabel": True,
        "metrics": named,
        "baseline": {"name": "one score for all", "mean_average_precision": {"value": common}},
        "per_class": _per_class(ranked, truth, said, classes, np.asarray(thresholds)),
        "classes": [str(name) for name in classes],
        "classes_without_clips": [str(name) for name, count in zip(classes, support, strict=True) if count == 0],
        "clips": len(truth),
        "groups": len(distinct),
        "interval": {
            "method": "percentile bootstrap over groups",
            "level": LEVEL,
            "resamples": int(resamples),
            "seed": int(seed),
        },
        "clips_without_finite_scores": int(np.count_nonzero(~finite)),
    }


def _metrics(scores: Floats, truth: Bools, said: Bools, weights: Floats) -> dict[str, Floats]:
    """Every metric under each of R weightings `(R, N)` of the clips, each `(R,)`."""
    areas = np.stack([average_precision(*column, weights) for column in zip(scores.T, truth.T, strict=True)], axis=1)
    right, told, true = weights @ (said & truth), weights @ said, weights @ truth
    present = true > 0
    measured = np.maximum(present.sum(axis=1), 1)
    f1 = 2 * right / np.maximum(told + true, 1)
    return {
        "mean_average_precision": np.where(present, areas, 0.0).sum(axis=1) / measured,
        "macro_f1": (f1 * present).sum(axis=1) / measured,
        "micro_f1": 2 * right.sum(axis=1) / np.maximum((told + true).sum(axis=1), 1),
    }


def _weights(group: npt.NDArray[np.intp], resamples: int, seed: int) -> Iterator[Floats]:
    """How often each resample has drawn each clip, `(r, N)` for some resamples at a time."""
    random = np.random.default_rng(seed)
    groups = int(group.max()) + 1
    block = max(1, _BLOCK // len(group))
    for first in range(0, resamples, block):
        draws = random.multinomial(groups, np.full(groups, 1 / groups), size=min(block, resamples - first))
        yield draws[:, group].astype(np.float64)


def _per_class(
    scores: Floats, truth: Bools, said: Bools, classes: Sequence[str], thresholds: Floats
) -> list[dict[str, Any]]:
    """A row a class; what divides by zero is None, but for the precision of a class that is never told."""
    one = np.ones((1, len(truth)))
    table = []
    for code, name in enumerate(classes):
        carried, told = truth[:, code], said[:, code]
        true, predicted, right = int(carried.sum()), int(told.sum()), int((carried & told).sum())
        area = float(average_precision(scores[:, code], carried, one)[0]) if true else None
        table.append(
            {
                "class": str(name),
                "average_precision": area,
                "threshold": float(thresholds[code]) if thresholds.ndim == 1 else None,
                "precision": right / predicted if predicted else (0.0 if true else None),
                "recall": right / true if true else None,
                "f1": 2 * right / (predicted + true) if true else None,
                "support": true,
                "predicted": predicted,
            }
        )
    return table
