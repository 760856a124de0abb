"""`soundbench compare`: runs that were measured alike, side by side, and whether they differ by more than chance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

from soundbench.errors import CallError, RunError
from soundbench.report.pairing import METHOD
from soundbench.report.resampling import LEVEL
from soundbench.studies.comparing.agreement import moved, refuse_disagreement
from soundbench.studies.comparing.pairs import SIGNIFICANT, Pair, compare_scores
from soundbench.studies.comparing.results import Result, read_result

__all__ = ["METRICS", "Comparison", "Compared", "Figure", "compare"]

METRICS = (
    "accuracy",
    "mean_average_precision",
    "macro_f1",
    "negative_log_likelihood",
    "expected_calibration_error",
)
"""The metrics of a comparison, where a report has them."""

_RESAMPLES, _SEED = 2000, 0


@attrs.frozen
class Figure:
    """A metric of one run.

    Attributes:
        value: of the metric.
        low: the lower bound of its interval; None with a single group.
        high: the upper bound.
    """

    value: float
    low: float | None
    high: float | None


@attrs.frozen
class Compared:
    """A run in a comparison.

    Attributes:
        name: the end of its path, as long as is needed to tell the runs apart.
        path: as it was given.
        metrics: those of `METRICS` that its report has.
        parameters: of its network; None if its report is of an older version.
        macs: multiply-adds of one window; likewise.
        seconds: how long it took.
    """

    name: str
    path: str
    metrics: Mapping[str, Figure]
    parameters: int | None
    macs: int | None
    seconds: float | None


@attrs.frozen
class Comparison:
    """Runs side by side, and every two of them.

    Attributes:
        runs: in the order in which they were given.
        pairs: every two runs, by their places in `runs`.
        clips: how many test clips they share.
        groups: from how many groups these are.
        protocol: the protocol that they share: `dataset`, `split` and `audio`.
        notes: what to know before the numbers are used.
    """

    runs: tuple[Compared, ...]
    pairs: tuple[Pair, ...]
    clips: int
    groups: int
    protocol: Mapping[str, Any]
    notes: tuple[str, ...]

    @property
    def metrics(self) -> list[str]:
        """The metrics that at least one run has, in the order of `METRICS`."""
        return [name for name in METRICS if any(name in run.metrics for run in self.runs)]

    def to_dict(self) -> dict[str, Any]:
        """The comparison in the types of JSON; `pairs` name the runs, `difference` is the second's less the first's."""
        pairs = [
            {
                "first": self.runs[pair.first].name,
                "second": self.runs[pair.second].name,
                "difference": {
                    one.metric: {key: value for key, value in attrs.asdict(one).items() if key != "metric"}
                    for one in pair.differences
                },
                "mcnemar": None if pair.mcnemar is None else attrs.asdict(pair.mcnemar),
                "significant": pair.significant,
            }
            for pair in self.pairs
        ]
        return {
            "runs": [attrs.asdict(run) for run in self.runs],
            "pairs": pairs,
            "clips": self.clips,
            "groups": self.groups,
            "protocol": dict(self.protocol),
            "interval": {"method": METHOD, "level": LEVEL, "resamples": _RESAMPLES, "seed": _SEED},
            "significant_below": SIGNIFICANT,
            "notes": list(self.notes),
        }


def compare(paths: Sequence[str | Path], *, accept_changes: bool = False) -> Comparison:
    """Compare runs that were measured on the same test clips by the same protocol.

    Args:
        paths: two or more run directories, directories of all folds, or folders of evaluations.
        accept_changes: whether their results may have changed since soundbench wrote them.

    Raises:
        CallError: fewer than two, one of them twice, or runs that do not agree in dataset, classes, split, audio or
            test clips; the message says in what they differ.
        RunError: one of them is not finished, is damaged, has changed, or is of another version.
    """
    places = [Path(paths)] if isinstance(paths, str | Path) else [Path(path) for path in paths]
    if len(places) < 2:
        raise CallError(f"compare needs two runs or more, has {len(places)}")
    whole = [path.resolve() for path in places]
    for number, path in enumerate(whole):
        if path in whole[:number]:
            raise CallError(f"{places[number]}: given twice; compare needs different runs")
    results = [read_result(path, accept_changes) for path in places]
    first = results[0]
    for other in results[1:]:
        refuse_disagreement(first, other)
    names = _names(whole)
    groups = [clip.group for clip in first.clips]
    thresholds = [one.thresholds for one in results if one.thresholds is not None]
    pairs = compare_scores(
        [one.scores for one in results], first.targets, groups, thresholds or None, resamples=_RESAMPLES, seed=_SEED
    )
    return Comparison(
        tuple(_compared(*each) for each in zip(results, names, strict=True)),
        tuple(pairs),
        len(groups),
        len(set(groups)),
        {key: first.protocol[key] for key in ("dataset", "split", "audio") if key in first.protocol},
        tuple(_notes(results, names, len(set(groups)))),
    )


def _names(paths: Sequence[Path]) -> list[str]:
    """The ends of paths, of as many parts as are needed to tell them apart."""
    for parts in range(1, max(len(path.parts) for path in paths)):
        names = ["/".join(path.parts[-parts:]) for path in paths]
        if len(set(names)) == len(names):
            return names
    return [path.as_posix() for path in paths]


def _compared(result: Result, name: str) -> Compared:
    report = result.report
    metrics = {key: _figure(result, key) for key in METRICS if key in report["metrics"]}
    sizes = [_number(report.get(key)) for key in ("parameters", "macs", "seconds")]
    parameters, macs = (None if size is None else int(size) for size in sizes[:2])
    return Compared(name, str(result.path), metrics, parameters, macs, sizes[2])


def _figure(result: Result, key: str) -> Figure:
    found = result.report["metrics"][key]
    given = [_number(found.get(bound)) for bound in ("value", "low", "high")] if isinstance(found, Mapping) else [None]
    if given[0] is None:
        raise RunError(f"{result.path}: report.json is damaged: metrics.{key} has no value")
    return Figure(given[0], *given[1:])


def _number(value: Any) -> float | None:
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def _notes(results: Sequence[Result], names: Sequence[str], groups: int) -> list[str]:
    """What to know before the numbers are used."""
    notes = []
    for result, name in zip(results[1:], names[1:], strict=True):
        if keys := moved(results[0], result):
            notes.append(f"{', '.join(keys)} of {names[0]} and {name} are different folders; their clips agree by name")
    for result, name in zip(results, names, strict=True):
        if broken := result.report.get("clips_without_finite_scores"):
            notes.append(f"{name} has scores that are not finite for {broken} clips; they count as the lowest")
    if groups == 1:
        notes.append("there is no interval: it is computed by resampling groups, and the test set has only one")
    if results[0].thresholds is not None:
        notes.append("a clip may have several labels: McNemar's test, which needs one prediction a clip, is left out")
    return notes
