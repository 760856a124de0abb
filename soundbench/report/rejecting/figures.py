"""What a report says of sound of none of the classes: what is kept, how well, and what noise and other sound give."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from numpy.typing import NDArray

from soundbench.messages import markdown
from soundbench.report.resampling import LeftOut, Once, Resamples, Weights, interval

__all__ = ["LEFT_OUT", "kept_figures", "left_out", "lines", "pooled_rejection", "rows", "sentence"]

Floats = NDArray[np.float64]


def kept_figures(
    scores: npt.ArrayLike,
    targets: npt.ArrayLike,
    rejected: npt.ArrayLike,
    groups: npt.ArrayLike,
    *,
    resamples: int = 2000,
    seed: int = 0,
) -> dict[str, Any]:
    """The share of test clips that is kept, and the accuracy of these; each with its interval over groups.

    Args:
        scores: `(N, K)`; NaN counts as the lowest.
        targets: `(N, K)`, greater than zero for the label of a clip.
        rejected: whether each clip is said to be of none of the classes, `(N,)`.
        groups: `(N,)` integers.
        resamples: how many resamples an interval is computed from; 0 for no intervals.
        seed: of the resamples.

    Returns:
        `kept` and `accuracy_of_kept`, each with `value`, `low` and `high`; None where there is no such number.
    """
    scores, kept = np.asarray(scores, np.float64), ~np.asarray(rejected, np.bool_)
    best = np.where(np.isnan(scores), -np.inf, scores).argmax(axis=1)
    right = np.asarray(targets)[np.arange(len(scores)), best] > 0
    columns = np.stack([np.ones(len(kept)), kept, kept & right], axis=1)
    distinct, group = np.unique(np.asarray(groups), return_inverse=True)
    drawn = Resamples(group.reshape(-1), resamples, seed) if resamples and len(distinct) > 1 else None
    return {
        "kept": _figure(columns[:, [1, 0]], drawn),
        "accuracy_of_kept": _figure(columns[:, [2, 1]], drawn),
    }


def _figure(columns: Floats, drawn: Resamples | None) -> dict[str, float | None]:
    """The share of the first column in the second."""
    (value,) = _shares(Once(len(columns)), columns) or (None,)
    found: dict[str, float | None] = {"value": value, "low": None, "high": None}
    if value is not None and drawn is not None:
        resampled, left_out = (np.array(_shares(by, columns)) for by in (drawn, LeftOut(drawn.group, drawn.seed)))
        if len(left_out) > 1:
            low, high = interval(value, resampled, left_out, drawn.units)
            found |= {"low": max(0.0, low), "high": min(1.0, high)}
    return found


def _shares(weights: Weights, columns: Floats) -> list[float]:
    """The share of the first column in the second under each weighting; without those where there is none."""
    parts, wholes = weights.sums(columns).T
    shares: list[float] = (parts[wholes > 0] / wholes[wholes > 0]).tolist()
    return shares


def pooled_rejection(reports: Sequence[Mapping[str, Any]], kept: Mapping[str, Any]) -> dict[str, Any]:
    """The `reject` of a report over all folds: the clips pooled, the shares of noise as the mean over the networks.

    Args:
        reports: the `reject` of each fold.
        kept: the result of `kept_figures` for the clips of all folds.
    """
    found: dict[str, Any] = {"use": reports[0]["use"], "keep": reports[0]["keep"], **kept}
    reasons = [one["reason"] for one in reports if "reason" in one]
    if reasons:
        found["reason"] = f"in {len(reasons)} of {len(reports)} folds: {', '.join(dict.fromkeys(reasons))}"
    for name in ("silence", "white_noise", "pink_noise", "negatives"):
        parts = [one[name] for one in reports if one.get(name)]
        if len(parts) == len(reports):
            found[name] = {key: _mean([part[key] for part in parts]) for key in parts[0]}
    return found


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


LEFT_OUT = ("class", "clips", "AUROC", "false positives at 95% kept", "unknown")
"""The columns of `left_out`."""


def lines(report: Mapping[str, Any]) -> Iterator[str]:
    """The section of `report.md`, line by line; none for a model that rejects nothing."""
    if found := report.get("reject"):
        yield from ("", "## None of these", "", markdown(sentence(found)))
        yield from ("", "| | value |", "| --- | --- |")
        yield from (f"| {title} | {value} |" for title, value in rows(found))
    if classes := left_out(report):
        yield from ("", "## Classes left out of training", "")
        yield "The reject scores of test clips against those of clips of a class that training had none of."
        yield from ("", f"| {' | '.join(LEFT_OUT)} |", "| --- " * len(LEFT_OUT) + "|")
        yield from (f"| {' | '.join(map(markdown, row))} |" for row in classes)


def sentence(found: Mapping[str, Any]) -> str:
    """By what `report["reject"]` says that sound is rejected."""
    if "reason" in found:
        return f"No threshold was fitted ({found['reason']}); only digital silence is called unknown then."
    said = "Sound of none of the classes is called unknown" + (f", by {found['use']}." if "use" in found else ".")
    return f"{said} What is kept is by the threshold of {found['source']}." if "source" in found else said


def rows(found: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The figures of `report["reject"]`, each with its title."""
    if "kept" in found:
        yield "test clips kept", _interval(found["kept"])
        yield "accuracy of the kept ones", _interval(found["accuracy_of_kept"])
    for name, title in (("silence", "silence"), ("white_noise", "white noise"), ("pink_noise", "pink noise")):
        if found.get(name):
            yield f"{title}: unknown", _percent(found[name]["unknown"])
    if other := found.get("negatives"):
        yield "other sound (reject.negatives): unknown", _percent(other["unknown"])
        yield "false alarms per hour of it", f"{other['false_alarms_per_hour']:.1f}"


def left_out(report: Mapping[str, Any]) -> list[list[str]]:
    """How well classes that were left out of training are recognised as none of the others, by `LEFT_OUT`."""
    return [
        [
            row["class"],
            str(row["clips"]),
            f"{row['auroc']:.3f}",
            _percent(row["false_positive_rate_at_95"]),
            _percent(row["unknown"]),
        ]
        for row in report.get("left_out") or []
    ]


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f}%"


def _interval(figure: Mapping[str, float | None]) -> str:
    value, low, high = (_percent(figure[name]) for name in ("value", "low", "high"))
    return value if figure["low"] is None else f"{value} ({low.removesuffix('%')} to {high})"
