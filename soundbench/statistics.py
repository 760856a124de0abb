"""Predictions to metrics, each with an interval.

Clips of one recording are judged alike, so they are no independent evidence. The interval therefore resamples groups,
not clips: the percentile bootstrap of Efron and Tibshirani (An Introduction to the Bootstrap, 1993, chapter 13) with
the group as its unit (Davison and Hinkley, Bootstrap Methods and their Application, 1997, section 3.8). Every metric
here is a function of a few counts a class, and counts add up over groups: one resample is a weighted sum of the groups'
counts, and no clip is looked at twice.

A macro average is the mean of the classes' own values (Opitz and Burst, Macro F1 and Macro F1, arXiv 1911.03347, 2019:
the "averaged F1"), over the classes that have clips.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import attrs
import numpy as np

from soundbench.errors import DataError

__all__ = ["LEVEL", "TOP", "evaluate", "pooled"]

LEVEL = 0.95
TOP = 3
_BLOCK = 1024


def evaluate(
    scores: np.ndarray,
    target: np.ndarray,
    groups: np.ndarray,
    classes: Sequence[str],
    prior: np.ndarray | Sequence[float],
    resamples: int = 2000,
    seed: int = 0,
) -> dict[str, Any]:
    """All that is said of a set of judged clips, in plain Python types and without NaN.

    The predicted class is the one with the highest score, the first of equals; a score that is NaN counts as the lowest
    of all.

    Args:
        scores: `(N, K)`, higher is more likely.
        target: `(N, K)`, more than zero for the classes that a clip carries.
        groups: `(N,)` integers, equal where clips share a group.
        classes: the K class names.
        prior: `(K,)`, how many training clips each class has.
        resamples: how many resamples an interval is made of; 0 for no intervals.
        seed: of the resamples.

    Returns:
        `metrics`: accuracy, macro_f1, balanced_accuracy and, for more than three classes, top3, each with `value`,
        `low` and `high` (None for one group only); `baseline`: the class prior's accuracy and macro_f1;
        `per_class`, `confusion` (rows are the truth), `classes`, `classes_without_clips`, `clips`, `groups`,
        `interval` (how it was made) and `clips_without_finite_scores`.

    Raises:
        DataError: there is no clip, or one without a label.
    """
    judged = _judge(np.asarray(scores), np.asarray(target), np.asarray(groups), len(classes))
    commonest = int(np.argmax(np.asarray(prior)))
    counts = _counts(judged, np.zeros(judged.truth.size, np.int64), 1)
    values = {name: float(value[0]) for name, value in _metrics(counts, judged.classes, commonest).items()}
    intervals = _intervals(judged, commonest, resamples, seed)
    named = {name: {"value": value, **intervals[name]} for name, value in values.items()}
    support = counts[0, 2 * judged.classes : 3 * judged.classes]
    return {
        "metrics": {name: value for name, value in named.items() if not name.startswith("baseline_")},
        "baseline": {
            "name": "class prior",
            "class": str(classes[commonest]),
            "accuracy": named["baseline_accuracy"],
            "macro_f1": named["baseline_macro_f1"],
        },
        "per_class": _per_class(counts[0], classes),
        "confusion": _confusion(judged).tolist(),
        "classes": [str(name) for name in classes],
        "classes_without_clips": [str(name) for name, count in zip(classes, support, strict=True) if count == 0],
        "clips": int(judged.truth.size),
        "groups": judged.groups,
        "interval": {
            "method": "percentile bootstrap over groups",
            "level": LEVEL,
            "resamples": int(resamples),
            "seed": int(seed),
        },
        "clips_without_finite_scores": int(np.count_nonzero(~np.isfinite(scores).all(axis=1))),
    }


def pooled(folds: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Each metric across folds: `mean`, `spread` (the sample's standard deviation; None for one fold), `values`.

    Args:
        folds: what `evaluate` gave for each fold, or mappings with its `metrics`.
    """
    result = {}
    for name in folds[0]["metrics"] if folds else ():
        values = [float(fold["metrics"][name]["value"]) for fold in folds]
        spread = statistics.stdev(values) if len(values) > 1 else None
        result[name] = {"mean": statistics.fmean(values), "spread": spread, "values": values}
    return result


@attrs.frozen
class _Judged:
    """What the metrics need of N clips: codes of classes and groups, and whether the truth is among the first three."""

    truth: np.ndarray
    predicted: np.ndarray
    among_top: np.ndarray
    group: np.ndarray
    groups: int
    classes: int


def _judge(scores: np.ndarray, target: np.ndarray, groups: np.ndarray, classes: int) -> _Judged:
    """The clips as codes."""
    if scores.shape != target.shape or scores.shape != (groups.size, classes):
        raise ValueError(f"scores {scores.shape}, target {target.shape}, groups {groups.shape}, {classes} classes")
    if not groups.size:
        raise DataError("no clip is left to evaluate")
    carried = target > 0
    if not carried.any(axis=1).all():
        raise DataError(f"{int((~carried.any(axis=1)).sum())} of the clips to evaluate carry no label")
    truth = carried.argmax(axis=1)
    scores = np.where(np.isnan(scores), -np.inf, scores)
    own = np.take_along_axis(scores, truth[:, None], axis=1)
    earlier = np.arange(classes)[None, :] < truth[:, None]
    before = ((scores > own) | ((scores == own) & earlier)).sum(axis=1)
    distinct, group = np.unique(groups, return_inverse=True)
    return _Judged(truth, scores.argmax(axis=1), before < TOP, group.reshape(-1), distinct.size, classes)


def _counts(judged: _Judged, unit: np.ndarray, units: int, rows: np.ndarray | slice = slice(None)) -> np.ndarray:
    """Counts of each unit, `(units, 3K + 1)`: right, predicted and true a class, then truths among the first three.

    Args:
        judged: the clips.
        unit: the unit that each of `rows` belongs to.
        units: how many there are.
        rows: which clips are counted.
    """
    truth, predicted, top = judged.truth[rows], judged.predicted[rows], judged.among_top[rows]
    size = judged.classes
    right = truth == predicted
    columns = [
        np.bincount(unit[right] * size + truth[right], minlength=units * size).reshape(units, size),
        np.bincount(unit * size + predicted, minlength=units * size).reshape(units, size),
        np.bincount(unit * size + truth, minlength=units * size).reshape(units, size),
        np.bincount(unit[top], minlength=units).reshape(units, 1),
    ]
    return np.concatenate(columns, axis=1).astype(np.float64)


def _metrics(counts: np.ndarray, classes: int, commonest: int) -> dict[str, np.ndarray]:
    """Every metric of every row of counts `(R, 3K + 1)`, each `(R,)`; a row has at least one clip."""
    right, predicted, true = (counts[:, i * classes : (i + 1) * classes] for i in range(3))
    clips, present = true.sum(axis=1), true > 0
    measured = present.sum(axis=1)
    f1 = 2 * right / np.maximum(predicted + true, 1)
    metrics = {
        "accuracy": right.sum(axis=1) / clips,
        "macro_f1": (f1 * present).sum(axis=1) / measured,
        "balanced_accuracy": (right / np.maximum(true, 1)).sum(axis=1) / measured,
    }
    if classes > TOP:
        metrics[f"top{TOP}"] = counts[:, -1] / clips
    # One answer for all: its class has recall 1 and precision n_c / n, hence F1 2 n_c / (n + n_c); the others have 0.
    hits = true[:, commonest]
    metrics["baseline_accuracy"] = hits / clips
    metrics["baseline_macro_f1"] = 2 * hits / (clips + hits) / measured
    return metrics


def _intervals(judged: _Judged, commonest: int, resamples: int, seed: int) -> dict[str, dict[str, float | None]]:
    """The percentile interval of every metric; of one group, or without resamples, there is none."""
    if judged.groups < 2 or resamples < 1:
        names = _metrics(np.ones((1, 3 * judged.classes + 1)), judged.classes, commonest)
        return {name: {"low": None, "high": None} for name in names}
    draws = _metrics(_resample(judged, resamples, seed), judged.classes, commonest)
    tails = [(1 - LEVEL) / 2, (1 + LEVEL) / 2]
    bounds = {name: np.quantile(drawn, tails) for name, drawn in draws.items()}
    return {name: {"low": float(low), "high": float(high)} for name, (low, high) in bounds.items()}


def _resample(judged: _Judged, resamples: int, seed: int) -> np.ndarray:
    """The counts of each resample of the groups, `(resamples, 3K + 1)`.

    Groups with the same counts are drawn as one that is as many times as likely: where every clip is its own group,
    thousands of them are a handful of kinds. Kinds go through block by block, each given its share of the draws, so
    that memory does not grow with the groups.
    """
    random = np.random.default_rng(seed)
    kind, copies = _kinds(judged, random)
    kinds = int(copies.size)
    blocks = np.arange(0, kinds, _BLOCK)
    shares = np.add.reduceat(copies, blocks)
    drawn = random.multinomial(judged.groups, shares / shares.sum(), size=resamples)
    totals = np.zeros((resamples, 3 * judged.classes + 1))
    order = np.argsort(kind, kind="stable")
    edges = np.searchsorted(kind[order], np.append(blocks, kinds))
    for block, start in enumerate(range(0, kinds, _BLOCK)):
        size = min(_BLOCK, kinds - start)
        rows = order[edges[block] : edges[block + 1]]
        counts = _counts(judged, kind[rows] - start, size, rows)
        weights = random.multinomial(drawn[:, block], copies[start : start + size] / shares[block])
        totals += weights.astype(np.float64) @ counts
    return totals


def _kinds(judged: _Judged, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Which kind of group each clip stands for, and how many groups are of each kind.

    Groups are of one kind where they hold the same outcomes equally often. A kind is known by the sum of random 64-bit
    numbers, one an outcome, modulo 2**64. Clips of all but one group of a kind stand for nothing: -1.
    """
    outcome = (judged.truth * judged.classes + judged.predicted) * 2 + judged.among_top
    _, outcome = np.unique(outcome, return_inverse=True)
    numbers = random.integers(0, 2**64, size=int(outcome.max()) + 1, dtype=np.uint64)
    sums = np.zeros(judged.groups, np.uint64)
    np.add.at(sums, judged.group, numbers[outcome.reshape(-1)])
    _, first, copies = np.unique(sums, return_index=True, return_counts=True)
    kind = np.full(judged.groups, -1, np.int64)
    kind[first] = np.arange(first.size)
    return kind[judged.group], copies


def _confusion(judged: _Judged) -> np.ndarray:
    """How often each truth (row) was given each answer (column), `(K, K)` int64."""
    size = judged.classes
    return np.bincount(judged.truth * size + judged.predicted, minlength=size * size).reshape(size, size)


def _per_class(counts: np.ndarray, classes: Sequence[str]) -> list[dict[str, Any]]:
    """Precision, recall, F1 and support a class, in class order.

    A class with clips that is never predicted has precision 0. Of a class without clips, recall and F1 are None, and
    so is precision where it is never predicted.
    """
    size = len(classes)
    table = []
    for name, right, predicted, true in zip(
        classes,
        counts[:size].tolist(),
        counts[size : 2 * size].tolist(),
        counts[2 * size : 3 * size].tolist(),
        strict=True,
    ):
        table.append(
            {
                "class": str(name),
                "precision": right / predicted if predicted else (0.0 if true else None),
                "recall": right / true if true else None,
                "f1": 2 * right / (predicted + true) if true else None,
                "support": int(true),
                "predicted": int(predicted),
            }
        )
    return table
