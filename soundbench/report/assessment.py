"""From scores and targets to the numbers of a report: metrics with intervals, baseline, classes, confusion."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import attrs
import numpy as np
import numpy.typing as npt

from soundbench.errors import DataError
from soundbench.report.metrics.metric import Metric, Sample, Spread, spread_of
from soundbench.report.one_label import OneLabel
from soundbench.report.resampling import LEVEL, METHOD, Once, Resamples, Weights, few
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
    by: Mapping[str, Sequence[object]] | None = None,
    resamples: int = 2000,
    seed: int = 0,
) -> dict[str, Any]:
    """All numbers of a report, for clips with one label or several, in plain Python types and without NaN.

    Args:
        scores: `(N, K)`, higher is more likely; NaN counts as the lowest score.
        targets: `(N, K)`, greater than zero for the labels of a clip.
        groups: `(N,)` integers, equal for clips of the same group.
        classes: the K class names.
        prior: `(K,)`, how many training clips each class has, for the baseline where a clip has one label; None to
            count these clips instead.
        thresholds: `(K,)` or `(N, K)`, where a clip has several labels: a class is predicted if its score reaches the
            threshold. None where a clip has one label: the class with the highest score is predicted, the first of
            equals.
        by: columns of the clips by their names, each with N values, for whose values metrics are given too.
        resamples: how many resamples an interval is computed from; 0 for no intervals. Where a clip has several labels,
            fewer are drawn if clips and classes are many.
        seed: of the resamples.

    Returns:
        `metrics`: those of `report.metrics` for such clips, each with `value`, `low` and `high` (None if there is only
        one group); `baseline`; `per_class`, `classes`, `classes_without_clips`, `clips`, `groups`, `interval` (how it
        was computed, with a `note` if groups are few), `clips_without_finite_scores`; with one label a clip `confusion`
        (rows are true classes), with several `multilabel` (true); with columns `by` (see `_by_value`).

    Raises:
        DataError: there are no clips, or a clip has no label where it needs one.
    """
    scores, targets, groups = np.asarray(scores), np.asarray(targets), np.asarray(groups)
    if scores.shape != targets.shape or scores.shape != (groups.size, len(classes)):
        raise ValueError(
            f"scores {scores.shape}, targets {targets.shape}, groups {groups.shape}, {len(classes)} classes"
        )
    if not groups.size:
        raise DataError("there are no clips to evaluate")
    given = _Given(scores, targets > 0, groups, None if thresholds is None else np.asarray(thresholds))
    clips, sample, spread = given.measured(prior, resamples, seed)
    distinct = len(np.unique(groups))
    note = few(distinct)
    return {
        **({} if thresholds is None else {"multilabel": True}),
        "metrics": {metric.name: metric.figure(sample, spread) for metric in clips.metrics},
        "baseline": clips.baseline(classes, sample, spread),
        "per_class": _per_class(classes, sample, clips.per_class()),
        **clips.confusion(),
        "classes": [str(name) for name in classes],
        "classes_without_clips": [str(name) for name, count in zip(classes, sample.true[0], strict=True) if count == 0],
        "clips": int(groups.size),
        "groups": distinct,
        "interval": {
            "method": METHOD,
            "level": LEVEL,
            "resamples": clips.affordable(int(resamples)),
            "seed": int(seed),
            **({"note": note} if note else {}),
        },
        "clips_without_finite_scores": int(np.count_nonzero(~np.isfinite(scores).all(axis=1))),
        **({"by": {name: _by_value(given, values, resamples, seed) for name, values in by.items()}} if by else {}),
    }


@attrs.frozen(eq=False)
class _Given:
    """What the figures are of: `scores` and `carried` labels `(N, K)`, `groups` `(N,)`, `thresholds` as of `assess`."""

    scores: npt.NDArray[Any]
    carried: npt.NDArray[np.bool_]
    groups: npt.NDArray[Any]
    thresholds: npt.NDArray[Any] | None

    def measured(self, prior: npt.ArrayLike | None, resamples: int, seed: int) -> tuple[Clips, Any, Spread | None]:
        """The clips, their sample, and what intervals are made from if there is more than one group."""
        clips: Clips = (
            OneLabel(self.scores, self.carried, prior)
            if self.thresholds is None
            else SeveralLabels(self.scores, self.carried, self.thresholds)
        )
        resamples = clips.affordable(int(resamples))
        distinct, group = np.unique(self.groups, return_inverse=True)
        spread = None
        if resamples > 0 and distinct.size > 1:
            spread = spread_of(clips.sample, Resamples(group.reshape(-1), resamples, int(seed)))
        return clips, clips.sample(Once(self.groups.size)), spread

    def of(self, rows: npt.NDArray[np.int64]) -> _Given:
        """The same of some rows."""
        thresholds = self.thresholds
        if thresholds is not None and thresholds.ndim == 2:
            thresholds = thresholds[rows]
        return _Given(self.scores[rows], self.carried[rows], self.groups[rows], thresholds)


def _by_value(given: _Given, values: Sequence[object], resamples: int, seed: int) -> list[dict[str, Any]]:
    """The metrics of the clips of each value of a column: `value`, `clips`, `groups`, `metrics`, the worst first.

    The first metric, accuracy or mAP, decides which is worse. Clips without a value (None) have the value `""`.
    """
    rows: dict[str, list[int]] = {}
    for row, value in enumerate(values):
        rows.setdefault("" if value is None else str(value), []).append(row)
    found = []
    for value, own in rows.items():
        part = given.of(np.array(own))
        clips, sample, spread = part.measured(None, resamples, seed)
        metrics = {metric.name: metric.figure(sample, spread) for metric in clips.metrics}
        groups = len(np.unique(part.groups))
        found.append({"value": value, "clips": len(own), "groups": groups, "metrics": metrics})
    return sorted(found, key=lambda one: (next(iter(one["metrics"].values()))["value"], -one["clips"], one["value"]))


def pooled(folds: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Each metric across folds: `mean`, `spread` (the sample standard deviation; None for one fold), `values`.

    Args:
        folds: the result of `assess` for each fold, or mappings with its `metrics`.
    """
    result = {}
    for name in folds[0]["metrics"] if folds else ():
        if not all(name in fold["metrics"] for fold in folds):
            continue  # a fold that an older version finished has fewer
        values = [float(fold["metrics"][name]["value"]) for fold in folds]
        spread = statistics.stdev(values) if len(values) > 1 else None
        result[name] = {"mean": statistics.fmean(values), "spread": spread, "values": values}
    return result


class Clips(Protocol):
    """Scored clips, with one label each (`one_label.py`) or several (`several_labels.py`)."""

    metrics: Sequence[Metric]

    def affordable(self, resamples: int) -> int:
        """How many resamples can be drawn in a few seconds, at most `resamples`."""

    def sample(self, weights: Weights) -> Any:
        """The clips under some weightings: a `Sample`."""

    def baseline(self, classes: Sequence[str], sample: Any, spread: Spread | None) -> dict[str, Any]:
        """The metrics of predictions that ignore the sound, with their intervals."""

    def per_class(self) -> list[dict[str, Any]]:
        """Further numbers for each class, beside precision, recall and F1."""

    def confusion(self) -> dict[str, Any]:
        """`confusion`, where one class is predicted for each clip."""


def _per_class(classes: Sequence[str], sample: Sample, own: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """A row for each class, in class order, with the further numbers `own`.

    A class with clips that is never predicted has precision 0. For a class without clips, recall and F1 are None, and
    so is precision if it is never predicted.
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
