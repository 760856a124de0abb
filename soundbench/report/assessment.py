"""Scores and targets to all that a report says of them: metrics with intervals, a baseline, classes, confusion."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from soundbench.errors import DataError
from soundbench.report.metrics.metric import Metric, Sample
from soundbench.report.one_label import OneLabel
from soundbench.report.resampling import LEVEL, Once, Resamples, Weights
from soundbench.report.several_labels import SeveralLabels

__all__ = ["assess", "pooled"]


def assess(
    scores: npt.ArrayLike,
    targets: npt.ArrayLike,
    groups: npt.ArrayLike,
    classes: Sequence[str],
    *,
    prior: Sequence[float] | npt.NDArray[np.int64] | None = None,
    thresholds: npt.ArrayLike | None = None,
    resamples: int = 2000,
    seed: int = 0,
) -> dict[str, Any]:
    """All that is said of scored clips, of one label each or of several, in plain Python types and without NaN.

    Args:
        scores: `(N, K)`, higher is more likely; one that is NaN counts as the lowest of all.
        targets: `(N, K)`, more than zero for the classes that a clip carries.
        groups: `(N,)` integers, equal where clips share a group.
        classes: the K class names.
        prior: `(K,)`, how many training clips each class has, for the baseline of one label a clip; None for the
            counts of these clips.
        thresholds: of several labels a clip, `(K,)` or `(N, K)`: a clip is predicted to carry a class whose score
            reaches it. None for one label a clip: the class with the highest score, the first of equals.
        resamples: how many resamples an interval is made of; 0 for no intervals. Of several labels, fewer are drawn of
            very many clips and classes.
        seed: of the resamples.

    Returns:
        `metrics`: those of `report.metrics` that are meant for such clips, each with `value`, `low` and `high`
        (None for one group only); `baseline`; `per_class`, `classes`, `classes_without_clips`, `clips`, `groups`,
        `interval` (how it was made), `clips_without_finite_scores`; of one label `confusion` (rows are the truth), of
        several `multilabel` (true).

    Raises:
        DataError: there is no clip, or of one label a clip without it.
    """
    scores, targets, groups = np.asarray(scores), np.asarray(targets), np.asarray(groups)
    if scores.shape != targets.shape or scores.shape != (groups.size, len(classes)):
        raise ValueError(
            f"scores {scores.shape}, targets {targets.shape}, groups {groups.shape}, {len(classes)} classes"
        )
    if not groups.size:
        raise DataError("no clip is left to evaluate")
    distinct, group = np.unique(groups, return_inverse=True)
    clips: Clips = (
        OneLabel(scores, targets > 0, prior) if thresholds is None else SeveralLabels(scores, targets > 0, thresholds)
    )
    resamples = clips.affordable(int(resamples))
    sample, resampled = clips.sample(Once(groups.size)), None
    if resamples > 0 and distinct.size > 1:
        resampled = clips.sample(Resamples(group.reshape(-1), resamples, int(seed)))
    return {
        **({} if thresholds is None else {"multilabel": True}),
        "metrics": {metric.name: metric.figure(sample, resampled) for metric in clips.metrics},
        "baseline": clips.baseline(classes, sample, resampled),
        "per_class": _per_class(classes, sample, clips.per_class()),
        **clips.confusion(),
        "classes": [str(name) for name in classes],
        "classes_without_clips": [str(name) for name, count in zip(classes, sample.true[0], strict=True) if count == 0],
        "clips": int(groups.size),
        "groups": int(distinct.size),
        "interval": {
            "method": "percentile bootstrap over groups",
            "level": LEVEL,
            "resamples": resamples,
            "seed": int(seed),
        },
        "clips_without_finite_scores": int(np.count_nonzero(~np.isfinite(scores).all(axis=1))),
    }


def pooled(folds: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Each metric across folds: `mean`, `spread` (the sample's standard deviation; None for one fold), `values`.

    Args:
        folds: what `assess` gave for each fold, or mappings with its `metrics`.
    """
    result = {}
    for name in folds[0]["metrics"] if folds else ():
        values = [float(fold["metrics"][name]["value"]) for fold in folds]
        spread = statistics.stdev(values) if len(values) > 1 else None
        result[name] = {"mean": statistics.fmean(values), "spread": spread, "values": values}
    return result


class Clips(Protocol):
    """Scored clips, of one label each (`one_label.py`) or of several (`several_labels.py`)."""

    metrics: Sequence[Metric]

    def affordable(self, resamples: int) -> int:
        """How many resamples can be drawn in some seconds, up to those that are wanted."""

    def sample(self, weights: Weights) -> Any:
        """The clips under some weightings: a `Sample`."""

    def baseline(self, classes: Sequence[str], sample: Any, resampled: Any | None) -> dict[str, Any]:
        """What can be had without listening, given the clips themselves and their resamples."""

    def per_class(self) -> list[dict[str, Any]]:
        """What is said of each class beside its precision, recall and F1."""

    def confusion(self) -> dict[str, Any]:
        """`confusion`, where a clip is predicted to be of one class."""


def _per_class(classes: Sequence[str], sample: Sample, own: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """A row a class, in class order, with what is its own.

    A class with clips that is never predicted has precision 0. Of a class without clips, recall and F1 are None, and
    so is precision where it is never predicted.
    """
    counts = (one[0].tolist() for one in (sample.right, sample.predicted, sample.true))
    return [
        {
            "class": str(name),
            **columns,
            "precision": right / predicted if predicted else (0.0 if true else None),
            "recall": right / true if true else None,
            "f1": 2 * right / (predicted + true) if true else None,
            "support": int(true),
            "predicted": int(predicted),
        }
        for name, columns, right, predicted, true in zip(classes, own, *counts, strict=True)
    ]
