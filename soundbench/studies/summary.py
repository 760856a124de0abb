"""The results of a sweep: one row for each combination of values, in which folds and seeds are pooled.

Let `m_s` be a metric of the test clips of all folds together, scored by the runs of seed `s`. A row has the mean of
`m_s` over seeds, their sample standard deviation, and the interval of the mean, as in a report: groups of clips are
drawn, the same for every seed, and each resample gives the mean over seeds of the metric of the drawn groups. For
accuracy, that is the share of correct predictions of a clip averaged over seeds, and then over clips.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from soundbench import files
from soundbench.errors import RunError
from soundbench.report import run_directory
from soundbench.report.assessment import assess
from soundbench.report.one_label import OneLabel
from soundbench.report.resampling import METHOD, effective_groups, interval
from soundbench.report.run_directory import Predictions
from soundbench.report.several_labels import SeveralLabels
from soundbench.studies.cells import Cell
from soundbench.studies.folder import SweepFolder
from soundbench.studies.sweep import Standing

__all__ = ["components", "summary"]

RESAMPLES, SEED = 2000, 0
_WEIGHTS = 4_000_000  # in memory at a time

Floats = NDArray[np.float64]
Codes = NDArray[np.int64]


@attrs.frozen(eq=False)
class _Result:
    """A finished cell, its report and its predictions."""

    cell: Cell
    report: Mapping[str, Any]
    predictions: Predictions


@attrs.frozen(eq=False)
class _Pool:
    """The test clips of all folds, scored by the runs of one seed.

    Attributes:
        scores: `(N, K)`.
        targets: `(N, K)`.
        groups: N names.
        classes: K names.
        thresholds: `(N, K)`, those of each clip's own run; None where a clip has one label.
    """

    scores: Floats
    targets: NDArray[np.float32]
    groups: list[str]
    classes: tuple[str, ...]
    thresholds: Floats | None

    @classmethod
    def of(cls, results: Sequence[_Result]) -> _Pool:
        """The clips of runs on different folds."""
        predictions = [one.predictions for one in results]
        thresholds = None
        if results[0].report.get("multilabel"):
            own = [[row["threshold"] for row in one.report["per_class"]] for one in results]
            thresholds = np.repeat(own, [len(one.clips) for one in predictions], axis=0)
        scores, targets = (np.concatenate([getattr(p, name) for p in predictions]) for name in ("scores", "targets"))
        groups = [group for one in predictions for group in one.groups]
        return cls(scores, targets, groups, predictions[0].classes, thresholds)

    def metrics(self) -> dict[str, float]:
        """Every metric of a report."""
        groups = np.unique(self.groups, return_inverse=True)[1]
        found = assess(self.scores, self.targets, groups, self.classes, thresholds=self.thresholds, resamples=0)
        return {name: figure["value"] for name, figure in found["metrics"].items()}

    def scored(self) -> OneLabel | SeveralLabels:
        """The clips, ready for metrics."""
        carried = self.targets > 0
        if self.thresholds is None:
            return OneLabel(self.scores, carried, None)
        return SeveralLabels(self.scores, carried, self.thresholds)


@attrs.frozen(eq=False)
class _Draws:
    """Resamples of groups that are the same for every seed: `Weights` of `report/resampling.py`.

    Attributes:
        group: `(N,)`, the codes of the clips' groups.
        groups: how many groups all seeds have together.
        resamples: R.
    """

    group: Codes
    groups: int
    resamples: int

    def of_clips(self) -> Iterator[Floats]:
        """See `Weights`."""
        for draws in self._blocks(len(self.group)):
            yield draws[:, self.group]

    def sums(self, values: NDArray[np.generic]) -> Floats:
        """See `Weights`."""
        table = [np.bincount(self.group, weights=column, minlength=self.groups) for column in values.T]
        return self._weighted(np.stack(table, axis=1))

    def counts(self, outcome: Codes, columns: int, count: Callable[[Codes, int, Codes], Floats]) -> Floats:
        """See `Weights`."""
        return self._weighted(count(self.group, self.groups, np.arange(len(self.group))))

    def _weighted(self, table: Floats) -> Floats:
        return np.concatenate([draws @ table for draws in self._blocks(len(table))])

    def _blocks(self, width: int) -> Iterator[Floats]:
        """How often each group is drawn, `(r, G)`; the draws of one resample do not depend on the size of a block."""
        random, most = np.random.default_rng(SEED), max(1, _WEIGHTS // max(width, self.groups))
        for first in range(0, self.resamples, most):
            size = min(most, self.resamples - first)
            drawn = random.integers(self.groups, size=(size, self.groups)) + np.arange(size)[:, None] * self.groups
            counts = np.bincount(drawn.ravel(), minlength=size * self.groups)
            yield counts.reshape(size, self.groups).astype(np.float64)


class _LeftOut(_Draws):
    """The jackknife: each of at most 200 weightings leaves out one of as many blocks of groups."""

    def _blocks(self, width: int) -> Iterator[Floats]:
        """See `_Draws`."""
        block = np.arange(self.groups) % min(self.groups, 200)
        most = max(1, _WEIGHTS // max(width, self.groups))
        for first in range(0, int(block.max()) + 1, most):
            yield (block != np.arange(first, min(first + most, int(block.max()) + 1))[:, None]).astype(np.float64)


def _interval(pools: Sequence[_Pool], value: float) -> tuple[float, float] | None:
    """The interval of the mean over seeds of the first metric, which is `value`; None with one group."""
    names, codes = np.unique([group for one in pools for group in one.groups], return_inverse=True)
    if len(names) < 2:
        return None
    groups = np.split(codes, np.cumsum([len(one.groups) for one in pools])[:-1])
    scored = [one.scored() for one in pools]
    resamples = min(one.affordable(RESAMPLES) for one in scored)
    metric = scored[0].metrics[0]
    drawn, left_out = (
        np.mean(
            [
                metric.value(one.sample(weights(group, len(names), resamples)))
                for one, group in zip(scored, groups, strict=True)
            ],
            axis=0,
        )
        for weights in (_Draws, _LeftOut)
    )
    return interval(value, drawn, left_out, effective_groups(codes), share=metric.share)


def components(values: Mapping[Any, Sequence[float]]) -> dict[str, float | None]:
    """The variance of a metric between folds, and between the seeds of a fold.

    Seeds are nested in folds: `y_fs = mu + a_f + e_fs`, with variances `folds` of `a` and `seeds` of `e`. By analysis
    of variance (Searle, Casella and McCulloch, Variance Components, 1992, section 3.6, also for unequal counts), of N
    values with `n_f` in fold f of F,

        seeds = sum_fs (y_fs - mean_f)^2 / (N - F)
        folds = max(0, (sum_f n_f (mean_f - mean)^2 / (F - 1) - seeds) / n),  n = (N - sum_f n_f^2 / N) / (F - 1)

    Args:
        values: those of the seeds of each fold.

    Returns:
        `folds` and `seeds`; None for what cannot be estimated: seeds where no fold has two, folds where there is one
        fold or no estimate of seeds.
    """
    lists = [np.asarray(one, np.float64) for one in values.values() if len(one)]
    count, total = len(lists), sum(len(one) for one in lists)
    if total == count:
        return {"folds": None, "seeds": None}
    seeds = sum(float(((one - one.mean()) ** 2).sum()) for one in lists) / (total - count)
    if count < 2:
        return {"folds": None, "seeds": seeds}
    mean = float(np.concatenate(lists).mean())
    between = sum(len(one) * (float(one.mean()) - mean) ** 2 for one in lists) / (count - 1)
    size = (total - sum(len(one) ** 2 for one in lists) / total) / (count - 1)
    return {"folds": max(0.0, (between - seeds) / size), "seeds": seeds}


def summary(folder: SweepFolder, cells: Sequence[Cell], standing: Standing) -> dict[str, Any]:
    """The summary of the finished cells.

    Args:
        folder: the folder of the sweep.
        cells: its cells.
        standing: where they stand.

    Returns:
        `metric` (the name of the one that orders the rows; None without a finished cell), `keys` (those that are
        swept), `datasets` (the names of those that finished cells were tested on), `rows` (best first; each with
        `values`, `cells`, `finished`, `seeds`, `folds`, `clips`, `groups`, `metrics` with `mean` and `deviation`, `low`
        and `high` of the first one, `variance` with `folds` and `seeds`), `cells` (each with `name`, `values`, `fold`,
        `seed`, `state`, its first metric as `value`, and `failure`), and `interval` (how it was computed).
    """
    results = {}
    for cell in cells:
        if standing.states[cell.name] == "finished" and cell.name not in standing.failures:
            run = folder.run(cell)
            report = files.read_json(run.report_json, "metrics", "per_class")
            results[cell.name] = _Result(cell, report, run_directory.read_predictions(run))
    combinations: dict[str, list[Cell]] = {}
    for cell in cells:
        combinations.setdefault(repr(cell.values), []).append(cell)
    rows = [_row(own, [results[cell.name] for cell in own if cell.name in results]) for own in combinations.values()]
    metric = next((next(iter(row["metrics"])) for row in rows if row["metrics"]), None)
    rows.sort(key=lambda row: -_mean(row, metric))
    return {
        "metric": metric,
        "keys": list(cells[0].values) if cells else [],
        "datasets": sorted({name for one in results.values() if (name := _dataset(one.report))}),
        "rows": rows,
        "cells": [_of_cell(cell, standing, results.get(cell.name), metric) for cell in cells],
        "interval": {"method": METHOD, "resamples": RESAMPLES, "seed": SEED},
    }


def _dataset(report: Mapping[str, Any]) -> str:
    return str(report.get("protocol", {}).get("dataset", {}).get("use", ""))


def _mean(row: Mapping[str, Any], metric: str | None) -> float:
    found = row["metrics"].get(metric)
    return float("-inf") if found is None else found["mean"]


def _row(cells: Sequence[Cell], results: Sequence[_Result]) -> dict[str, Any]:
    """The row of one combination; without metrics where no cell is finished."""
    by_seed: dict[int, list[_Result]] = {}
    by_fold: dict[Any, list[float]] = {}
    for one in results:
        by_seed.setdefault(one.cell.seed, []).append(one)
        by_fold.setdefault(one.cell.fold, []).append(_first(one.report)[1])
    if len({one.predictions.classes for one in results}) > 1:
        raise RunError(f"{cells[0].label}: its runs have different classes; their results cannot be pooled")
    pools = [_Pool.of(own) for own in by_seed.values()]
    metrics = _over_seeds([pool.metrics() for pool in pools])
    first = next(iter(metrics.values()), None)
    if first is not None and first["mean"] is not None and (bounds := _interval(pools, first["mean"])) is not None:
        first.update(low=bounds[0], high=bounds[1])
    return {
        "values": cells[0].values,
        "cells": len(cells),
        "finished": len(results),
        "seeds": len(by_seed),
        "folds": len(by_fold) if cells[0].fold is not None else None,
        "clips": len({clip for one in results for clip in _clips(one)}),
        "groups": len({group for pool in pools for group in pool.groups}),
        "metrics": metrics,
        "variance": components(by_fold),
    }


def _clips(one: _Result) -> Iterator[tuple[str, float]]:
    yield from ((clip.path, clip.start) for clip in one.predictions.clips)


def _first(report: Mapping[str, Any]) -> tuple[str, float]:
    name, figure = next(iter(report["metrics"].items()))
    return name, float(figure["value"])


def _over_seeds(values: Sequence[Mapping[str, float]]) -> dict[str, dict[str, float | None]]:
    """The mean of each metric over seeds, and their sample standard deviation; None for one seed."""
    found: dict[str, dict[str, float | None]] = {}
    for name in values[0] if values else ():
        own = [one[name] for one in values]
        found[name] = {"mean": statistics.fmean(own), "deviation": statistics.stdev(own) if len(own) > 1 else None}
    return found


def _of_cell(cell: Cell, standing: Standing, result: _Result | None, metric: str | None) -> dict[str, Any]:
    state: str = "stopped early" if cell.name in standing.early else standing.states[cell.name]
    state = "failed" if cell.name in standing.failures else state
    value = None if result is None or metric is None else result.report["metrics"].get(metric, {}).get("value")
    return {
        "name": cell.name,
        "values": cell.values,
        "fold": cell.fold,
        "seed": cell.seed,
        "state": state,
        "value": value,
        "seconds": None if result is None else result.report.get("seconds"),
        "failure": standing.failures.get(cell.name),
    }
