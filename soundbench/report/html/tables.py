"""The tables of a report on its page: figures, classes, and what only some reports have."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from soundbench.report import calibration
from soundbench.report.html import charts, numbers
from soundbench.report.html.page import Markup, figure, items, paragraph, table
from soundbench.report.metrics import metric_of
from soundbench.report.rejecting import figures as rejecting
from soundbench.report.resampling import LEVEL
from soundbench.report.run_directory import Predictions

__all__ = ["by_value", "classes", "figures", "protocol", "reject", "reliability", "wilson"]

_Z = 1.959963984540054  # the 97.5th percentile of the normal distribution


def figures(report: Mapping[str, Any]) -> Markup:
    """All metrics with their intervals and the baseline; of several folds, their spread; beside the run's own."""
    if not report["metrics"]:
        return paragraph("There is no test set: nothing is known of how well the model does.")
    baseline, across = report["baseline"], report.get("across_folds") or {}
    own = (report.get("own") or {}).get("metrics") or {}
    head = ["metric", "value", f"{LEVEL:.0%} interval", "baseline"]
    head += ["mean ± spread of folds"] * bool(across) + ["run's own test set"] * bool(own)
    rows = []
    for name, found in report["metrics"].items():
        low, high = (numbers.value_of(name, found[end]) for end in ("low", "high"))
        bounds = "-" if found["low"] is None else f"{low} to {high}"
        chance = baseline.get(name)
        row = [_title(name), numbers.value_of(name, found["value"]), bounds]
        row.append(numbers.value_of(name, chance.get("value")) if isinstance(chance, Mapping) else "-")
        row += [numbers.across(name, across[name]) if name in across else "-"] * bool(across)
        row += [numbers.with_interval(name, own[name]) if name in own else "-"] * bool(own)
        rows.append(row)
    body = table(head, rows, caption="Metrics of the test clips")
    if "class" in baseline:
        body += paragraph(f"The baseline always predicts {baseline['class']}, {numbers.commonness(report)}.")
    else:
        body += paragraph("The baseline gives every clip the same score.")
    cautions = list(_cautions(report))
    body += items(cautions) if cautions else Markup("")
    folds = report.get("folds", [])
    if len(folds) > 1:
        body += _of_folds(folds)
    return body


def _title(name: str) -> str:
    """The name of a metric in a table of all."""
    return f"{metric_of(name).title}{' (lower is better)' * metric_of(name).lower_is_better}"


def _cautions(report: Mapping[str, Any]) -> Iterator[str]:
    """What a reader of the figures must know."""
    method = report.get("interval")
    if method:
        yield f"Intervals: {method['method']}, {method['resamples']} resamples, seed {method['seed']}."
        if "note" in method:
            yield f"Note: {method['note']}."
    if report.get("classes_without_clips"):
        names = ", ".join(report["classes_without_clips"])
        yield f"Classes without a test clip, left out of means over classes: {names}."
    if broken := report.get("clips_without_finite_scores"):
        yield f"{numbers.counted(broken, 'clip')} got scores that are not finite: the training has diverged."
    for note in (report.get("protocol") or {}).get("notes", []):
        yield f"Note: {note}."
    if skipped := (report.get("skipped") or {}).get("count"):
        yield f"{numbers.counted(skipped, 'clip')} could not be read and were left out; report.json lists them."


def _of_folds(folds: Sequence[Mapping[str, Any]]) -> Markup:
    names = [name for name in folds[0]["metrics"] if all(name in fold["metrics"] for fold in folds)]
    rows = [
        [
            fold.get("fold", fold.get("test", number)),
            fold.get("clips"),
            fold.get("groups"),
            *(numbers.with_interval(name, fold["metrics"][name]) for name in names),
        ]
        for number, fold in enumerate(folds, 1)
    ]
    head = ["fold", "clips", "groups", *(metric_of(name).title for name in names)]
    return table(head, rows, caption="Each fold, with its own network", sortable=True)


# Classes --------------------------------------------------------------------------------------------------------------


def classes(report: Mapping[str, Any], found: Predictions | None) -> Markup:
    """A row for each class, with a bar for its recall."""
    if "per_class" not in report:
        return Markup("")
    several = bool(report.get("multilabel"))
    sizes = _independent(found.targets > 0, found.groups) if found else None
    rows = []
    for number, row in enumerate(report["per_class"], 1):
        low, high = wilson(row["recall"], sizes[number - 1]) if sizes is not None else (None, None)
        bounds = "" if low is None else f" ({100 * low:.0f} to {100 * (high or 0.0):.0f}%)"
        recall = charts.bar(row["recall"], low, high) + f"{numbers.percent(row['recall'])}{bounds}"
        own = [numbers.percent(row["average_precision"]), numbers.threshold(row["threshold"])] if several else []
        rest = [numbers.percent(row["precision"]), numbers.percent(row["f1"]), row["support"], row["predicted"]]
        rows.append([number, row["class"], recall, *own, *rest])
    own = ["average precision", "threshold"] if several else []
    head = ["number", "class", "recall", *own, "precision", "F1", "clips", "predicted"]
    text = (
        f"The bar is the recall, the line its {LEVEL:.0%} interval: Wilson's score interval (1927) with as many "
        "observations as the clips of a class are worth if those of one group say the same, (Σ m)² / Σ m² for groups "
        "of m clips (Kish, 1965). It is wide rather than narrow."
    )
    return (paragraph(text) if sizes is not None else Markup("")) + table(
        head, rows, caption="Classes", sortable=True, kind="classes"
    )


def _independent(targets: NDArray[np.bool_], groups: Sequence[str]) -> NDArray[np.float64]:
    """How many independent observations the clips of each class are worth, `(K,)`: Kish's effective sample size.

    Kish: Survey Sampling, 1965, section 8.2, with a correlation of 1 within a group: `(sum m)^2 / sum m^2`.
    """
    _, group = np.unique(np.array(groups, dtype=np.str_), return_inverse=True)
    columns = [np.bincount(group.reshape(-1), weights=own) for own in targets.T]
    sizes = np.stack(columns, axis=1)
    squares = (sizes**2).sum(axis=0)
    worth: NDArray[np.float64] = sizes.sum(axis=0) ** 2 / np.maximum(squares, 1)
    return worth


def wilson(share: float | None, observations: float) -> tuple[float | None, float | None]:
    """Wilson's score interval of a share at 95%; (None, None) without observations.

    Wilson: Probable Inference, the Law of Succession, and Statistical Inference, Journal of the American Statistical
    Association 22, 1927.
    """
    if share is None or observations <= 0:
        return None, None
    z2 = _Z**2 / observations
    centre = (share + z2 / 2) / (1 + z2)
    half = math.sqrt(share * (1 - share) * z2 + z2**2 / 4) / (1 + z2)
    return max(0.0, centre - half), min(1.0, centre + half)


# Parts that a report may have -----------------------------------------------------------------------------------------


def reliability(report: Mapping[str, Any]) -> Markup:
    """Whether scores are probabilities, before and after calibration."""
    found = report.get("calibration")
    if not isinstance(found, Mapping):
        return Markup("")
    parts = {name: found[name] for name in ("before", "after") if isinstance(found.get(name), Mapping)}
    body = paragraph(calibration.sentence(found))
    bins = {name: one["reliability"] for name, one in parts.items() if one.get("reliability")}
    if bins:
        title = "Reliability: the share of clips that are right, by the mean score of a bin"
        caption = "On the dashed diagonal, a score is the share of clips that are right: a probability."
        body += figure(charts.reliability(bins, title=title), caption)
    rows = [list(row) for row in calibration.rows(found)]
    if rows:
        body += table(["figure (lower is better)", "before", "after"], rows, caption="Calibration of the scores")
    return body


def by_value(report: Mapping[str, Any]) -> Markup:
    """The metrics of the clips with each value of a column."""
    body = Markup("")
    for column, rows in (report.get("by") or {}).items():
        names = list(rows[0]["metrics"]) if rows else []
        cells = [
            [
                row["value"] or "(no value)",
                row["clips"],
                row["groups"],
                *(
                    numbers.with_interval(name, row["metrics"][name]) if name in row["metrics"] else "-"
                    for name in names
                ),
            ]
            for row in rows
        ]
        head = [column, "clips", "groups", *(metric_of(name).title for name in names)]
        body += table(head, cells, caption=f"By {column}", sortable=True)
    return body


def reject(report: Mapping[str, Any]) -> Markup:
    """How sound of none of the classes is recognised."""
    found, body = report.get("reject"), Markup("")
    if isinstance(found, Mapping):
        rows = [list(row) for row in rejecting.rows(found)]
        body += paragraph(rejecting.sentence(found))
        body += table(["", "value"], rows, caption="Sound of none of the classes")
    if classes := rejecting.left_out(report):
        body += table(list(rejecting.LEFT_OUT), classes, caption="Classes left out of training")
    return body


def protocol(report: Mapping[str, Any]) -> Markup:
    """The protocol: numbers are comparable only if it is the same."""
    rows = [pair for pair in numbers.flat(report.get("protocol") or {}) if pair[0] != "notes"]
    if "parts" in report:
        rows.append(("clips", ", ".join(f"{count} {part}" for part, count in report["parts"].items())))
    known = ("device", "precision", "tf32", "parameters", "macs", "seconds")
    rows += [(name, report[name]) for name in known if name in report]
    return (
        table(["key", "value"], rows, caption="Metrics are comparable only within the same protocol")
        if rows
        else Markup("")
    )
