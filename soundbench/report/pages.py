"""The report on disk: `report.md` and `report.html` for people, `report.json` for programs, the confusion matrix.

`docs/report.md` explains the keys. `report.json` is written last: if it exists, the rest is complete.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from soundbench import files
from soundbench.errors import SoundbenchError
from soundbench.messages import markdown as _cell
from soundbench.messages import printable
from soundbench.report import calibration, figures
from soundbench.report.html import numbers, run_page
from soundbench.report.html.numbers import across, counted, flat, percent, threshold, value_of, with_interval
from soundbench.report.html.places import Places
from soundbench.report.html.run_page import Drawn
from soundbench.report.metrics import metric_of
from soundbench.report.rejecting.figures import lines as rejection_lines
from soundbench.report.resampling import LEVEL
from soundbench.report.run_directory import RunDirectory

__all__ = ["NO_TEST", "class_table", "headline", "metric_lines", "summary", "write", "write_pages"]

# Of a run that trains on everything.
NO_TEST = "no test set: nothing is known of how well the model does"

_MATRIX_UP_TO = 20
_SKIPPED_SHOWN = 50
_VALUES_SHOWN = 20
_NO_VALUE = "(no value)"


def write(run: RunDirectory, report: Mapping[str, Any], dataset: Any | None = None) -> str:
    """Write all files of a report: its pages, for one label a clip `confusion.csv` and a picture, and `report.json`.

    Args:
        run: the directory, of one run or of all folds.
        report: the result of `assessment.assess`, with `name`, `protocol` (a mapping; its `notes` a list), `parts`
            (clips in each part), `folds` (a list of mappings with `metrics`), `across_folds` (of `assessment.pooled`),
            `skipped` (`count`, and `clips` with `path` and `reason`), `device`, `precision`, `tf32` and `seconds` if
            known, and `sounds` (how many mistakes have their sound in `report.html`); for an evaluation also `command`
            (which repeats it) and `own` (`metrics`, `clips` and `groups` of the run's own test set). Any other keys are
            copied to `report.json`.
        dataset: the dataset, from which `report.html` gets the sound of mistakes; None for a page without sound.

    Returns:
        What could not be made, in one line; empty if all could.

    Raises:
        RunError: a file cannot be written.
    """
    plain = _plain(report)
    drawn = _drawn(run, plain, dataset)
    write_pages(run, plain, drawn)
    files.write_json(run.report_json, plain)
    return drawn.problem


def write_pages(run: RunDirectory, report: Mapping[str, Any], drawn: Drawn) -> list[str]:
    """Write the files that follow from `report.json`; returns their names in the directory.

    Args:
        run: the directory.
        report: the content of `report.json`.
        drawn: the page in HTML.

    Raises:
        RunError: a file cannot be written.
    """
    picture: list[str] = []
    if "confusion" in report:
        classes, matrix = report["classes"], report["confusion"]
        rows = ([name, *counts] for name, counts in zip(classes, matrix, strict=True))
        files.write_rows(run.confusion_csv, ["truth\\predicted", *classes], rows)
        picture = _picture(run, report)
    if drawn.html:
        files.write_text(run.report_html, drawn.html)
    else:
        with files.explain_os_errors(run.report_html):
            run.report_html.unlink(missing_ok=True)
        picture = [*picture, "", f"{_cell(drawn.problem)}."]
    shown = Places.of(report).report(report)
    files.write_text(run.report_md, "\n".join(_page(run, shown, picture)) + "\n")
    places = (run.confusion_csv, run.confusion_png, run.confusion_labels, run.report_html, run.report_md)
    return [place.relative_to(run.path).as_posix() for place in places]


def _drawn(run: RunDirectory, report: Mapping[str, Any], dataset: Any | None) -> Drawn:
    """The page in HTML; if it cannot be made, the rest of the report is there without it."""
    try:
        return run_page.draw(run, report, dataset)
    except Exception as error:  # no mistake of a page may cost the result of a run
        return Drawn("", f"there is no {run.report_html.name}: {type(error).__name__}: {' '.join(str(error).split())}")


def summary(report: Mapping[str, Any]) -> str:
    """The report in a few lines, for a console."""
    if not report["metrics"]:
        trained = ", ".join(f"{count} {part}" for part, count in report["parts"].items())
        return f"{NO_TEST}; clips: {trained}"
    metrics, baseline = report["metrics"], report["baseline"]
    errors = {name: figure for name, figure in metrics.items() if metric_of(name).lower_is_better}
    lines = [
        (metric_of(name).title, with_interval(name, figure)) for name, figure in metrics.items() if name not in errors
    ]
    lines[0] = (
        lines[0][0],
        f"{lines[0][1]}, on {counted(report['clips'], 'clip')} from {counted(report['groups'], 'group')}",
    )
    if errors:
        values = (f"{metric_of(name).title} {value_of(name, figure['value'])}" for name, figure in errors.items())
        lines.append(("lower is better", ", ".join(values)))
    if "class" in baseline:
        always = f"always {baseline['class']!r}: {percent(baseline['accuracy']['value'])}"
        lines.append(("baseline", f"{always}, macro-F1 {percent(baseline['macro_f1']['value'])}"))
    else:
        lines.append(("baseline", f"one score for all: {percent(baseline['mean_average_precision']['value'])}"))
    if parts := report.get("parts"):
        counts = [f"{count} {part}" for part, count in parts.items()]
        lines.append(("clips", ", ".join([*counts, *_left_out(report)])))
    if folds := report.get("across_folds"):
        lines.append(("folds", across(*next(iter(folds.items())))))
    if own := report.get("own"):
        name, figure = next(iter(own["metrics"].items()))
        lines.append(("run's test set", f"{metric_of(name).title} {with_interval(name, figure)}"))
    if broken := report.get("clips_without_finite_scores"):
        lines.append(("WARNING", f"{counted(broken, 'clip')} got scores that are not finite"))
    width = max(len(name) for name, _ in lines)
    return "\n".join(f"{name:<{width}}  {text}" for name, text in lines)


def _left_out(report: Mapping[str, Any]) -> Iterator[str]:
    """How many clips were left out, and why."""
    if (purged := report.get("protocol", {}).get("purged")) is not None:
        yield f"{purged} purged"
    if (skipped := report.get("skipped", {}).get("count")) is not None:
        yield f"{skipped} unreadable"


def _picture(run: RunDirectory, report: Mapping[str, Any]) -> list[str]:
    """Draw the figure; the lines of the page about it. If drawing fails, the report has no figure."""
    classes = report["classes"]
    try:
        png, numbered = figures.confusion_png(report["confusion"], classes)
        files.write_bytes(run.confusion_png, png)
    except SoundbenchError:
        raise
    except Exception as error:  # no error of a drawing library may cost the report
        return [f"There is no figure: matplotlib cannot be used ({type(error).__name__}: {_cell(str(error))})."]
    text = [f"![Confusion matrix; rows are true classes]({run.confusion_png.relative_to(run.path).as_posix()})"]
    if numbered:
        legend = [f"{number}\t{printable(' '.join(name.split()))}" for number, name in enumerate(classes, 1)]
        files.write_text(run.confusion_labels, "\n".join(legend) + "\n")
        where = run.confusion_labels.relative_to(run.path).as_posix()
        text += [
            "",
            f"No installed font has the characters of every class name. The axes show numbers, listed in `{where}`.",
        ]
    return text


def _page(run: RunDirectory, report: Mapping[str, Any], picture: Sequence[str]) -> Iterator[str]:
    """`report.md`, line by line."""
    yield f"# {_cell(str(report.get('name', run.path.name)))}"
    if report["metrics"]:
        yield from ("", headline(report), "")
        yield from metric_lines(report)
        yield from _beside(report)
        yield from _folds(report)
        yield from _by_value(report)
    else:
        yield from ("", f"{NO_TEST[0].upper()}{NO_TEST[1:]}.")
    yield from calibration.lines(report)
    yield from rejection_lines(report)
    yield from _protocol(report)
    if report["metrics"]:
        yield from ("", "## Classes", "", *class_table(report))
    yield from _confusion(report, picture)
    yield from _skipped(report)
    yield from _again(run, report)


def _confusion(report: Mapping[str, Any], picture: Sequence[str]) -> Iterator[str]:
    """Which classes were predicted for clips of each class; and what could not be drawn."""
    if "confusion" not in report:
        yield from picture
        return
    yield from ("", "## Confusion", "")
    yield from ("Rows are true classes, columns are predicted classes. `confusion.csv` has the complete matrix.", "")
    if len(report["classes"]) <= _MATRIX_UP_TO:
        head = ["truth \\ predicted", *report["classes"]]
        rows = zip(report["classes"], report["confusion"], strict=True)
        yield from (*_table(head, ([name, *counts] for name, counts in rows)), "")
    yield from picture


def headline(report: Mapping[str, Any]) -> str:
    """The main metric with its interval, what it was measured on, and the baseline that ignores the sound."""
    metrics, baseline = report["metrics"], report["baseline"]
    measured = f"{counted(report['clips'], 'test clip')} from {counted(report['groups'], 'group')}"
    macro_f1 = with_interval("macro_f1", metrics["macro_f1"])
    if report.get("multilabel"):
        precision = with_interval("mean_average_precision", metrics["mean_average_precision"])
        common = percent(baseline["mean_average_precision"]["value"])
        return f"**mAP {precision}**, macro-F1 {macro_f1}, on {measured}. One score for all gives an mAP of {common}."
    return (
        f"**Accuracy {with_interval('accuracy', metrics['accuracy'])}**, macro-F1 {macro_f1}, on {measured}. "
        f"Always predicting {_cell(baseline['class'])}, {numbers.commonness(report)}, "
        f"gives {percent(baseline['accuracy']['value'])}."
    )


def metric_lines(report: Mapping[str, Any]) -> Iterator[str]:
    """A table of all metrics, and notes on their intervals."""
    baseline, level = report["baseline"], f"{LEVEL:.0%} interval"
    rows = []
    for name, figure in report["metrics"].items():
        by_chance = baseline.get(name, {}).get("value")
        bounds = (
            "-" if figure["low"] is None else f"{value_of(name, figure['low'])} to {value_of(name, figure['high'])}"
        )
        title = f"{metric_of(name).title}{' (lower is better)' * metric_of(name).lower_is_better}"
        rows.append([title, value_of(name, figure["value"]), bounds, value_of(name, by_chance)])
    yield from _table(["metric", "value", level, "baseline"], rows)
    first, groups = next(iter(report["metrics"].values())), report["groups"]
    if first["low"] is None:
        yield from ("", "There is no interval: it is computed by resampling groups, and this test set has only one.")
    elif first["value"] in (0.0, 1.0) and not report.get("multilabel"):
        how = "incorrectly" if first["value"] else "correctly"
        yield ""
        yield f"No clip was classified {how}, so the interval from resampling has no width. By the rule of three,"
        yield f"with {groups} groups, up to about {percent(min(1.0, 3 / groups))} of new groups may be."
    if note := report.get("interval", {}).get("note"):
        yield from ("", f"Note: {note}.")
    if report["classes_without_clips"]:
        names = ", ".join(_cell(name) for name in report["classes_without_clips"])
        yield from ("", f"Classes without a test clip, left out of means over classes: {names}.")
    if broken := report.get("clips_without_finite_scores"):
        yield from (
            "",
            f"**{counted(broken, 'clip')} got scores that are not finite.** The training has diverged.",
        )


def _beside(report: Mapping[str, Any]) -> Iterator[str]:
    """An evaluation's metrics beside those of the run's own test set."""
    if own := report.get("own"):
        yield from ("", "## Compared with the run's own test set", "")
        rows = [
            [
                metric_of(name).title,
                with_interval(name, figure),
                with_interval(name, own["metrics"][name]),
            ]
            for name, figure in report["metrics"].items()
            if name in own["metrics"]  # an older run may lack it
        ]
        rows += [[name, report[name], own[name]] for name in ("clips", "groups")]
        yield from _table(["", "here", "run's own test set"], rows)


def _folds(report: Mapping[str, Any]) -> Iterator[str]:
    """A row for each fold, if there are several; the headline pools their clips."""
    folds = report.get("folds", [])
    if len(folds) < 2:
        return
    yield from (
        "",
        "## Folds",
        "",
        "Each fold has its own network and test clips. The numbers above pool the test clips of all folds.",
        "",
    )
    names = [name for name in folds[0]["metrics"] if all(name in fold["metrics"] for fold in folds)]
    rows: list[list[Any]] = []
    for number, fold in enumerate(folds, 1):
        named = fold.get("fold", fold.get("test", number))
        values = [with_interval(name, fold["metrics"][name]) for name in names]
        rows.append([named, fold.get("clips", "-"), fold.get("groups", "-"), *values])
    if spread := report.get("across_folds"):
        rows.append(["mean ± spread", "", "", *(across(name, spread[name]) for name in names)])
    yield from _table(["fold", "clips", "groups", *(metric_of(name).title for name in names)], rows)


def _by_value(report: Mapping[str, Any]) -> Iterator[str]:
    """For each column that the recipe names, a row for each of its values, the worst first."""
    for column, values in report.get("by", {}).items():
        names = list(values[0]["metrics"])[:2]
        first, worst = names[0], values[0]
        yield from ("", f"## By {_cell(column)}", "")
        if len(values) > 1:
            yield (
                f"Worst: {_value(worst)}, {metric_of(first).title} {with_interval(first, worst['metrics'][first])} on "
                f"{counted(worst['clips'], 'clip')} from {counted(worst['groups'], 'group')}. The best of "
                f"{len(values)} values: {_value(values[-1])}, {value_of(first, values[-1]['metrics'][first]['value'])}."
            )
            yield ""
        rows = (
            [one["value"] or _NO_VALUE, one["clips"], one["groups"]]
            + [with_interval(name, one["metrics"][name]) for name in names]
            for one in values[:_VALUES_SHOWN]
        )
        yield from _table([column, "clips", "groups", *(metric_of(name).title for name in names)], rows)
        if len(values) > _VALUES_SHOWN:
            yield from ("", f"{len(values) - _VALUES_SHOWN} more values, which are better, are in `report.json`.")


def _value(one: Mapping[str, Any]) -> str:
    return _cell(one["value"] or _NO_VALUE)


def _protocol(report: Mapping[str, Any]) -> Iterator[str]:
    """The protocol: numbers are comparable only if it is the same."""
    protocol = report.get("protocol", {})
    yield from ("", "## Protocol", "")
    rows = [pair for pair in flat(protocol) if pair[0] != "notes"]
    if "parts" in report:
        rows.append(("clips", ", ".join(f"{count} {part}" for part, count in report["parts"].items())))
    known = ("device", "precision", "tf32", "parameters", "macs", "seconds")
    rows += [(name, report[name]) for name in known if name in report]
    yield from _table(["", ""], rows)
    for note in protocol.get("notes", []):
        yield from ("", f"Note: {_cell(str(note))}.".replace("..", "."))


def class_table(report: Mapping[str, Any]) -> Iterator[str]:
    """A row for each class."""
    several = bool(report.get("multilabel"))
    rows = []
    for number, row in enumerate(report["per_class"], 1):
        own = [percent(row["average_precision"]), threshold(row["threshold"])] if several else []
        shares = [percent(row[name]) for name in ("precision", "recall", "f1")]
        rows.append([number, row["class"], *own, *shares, row["support"]])
    own = ["average precision", "threshold"] if several else []
    yield from _table(["", "class", *own, "precision", "recall", "F1", "clips"], rows)


def _skipped(report: Mapping[str, Any]) -> Iterator[str]:
    """Clips that could not be read."""
    skipped = report.get("skipped") or {}
    if not skipped.get("count"):
        return
    clips = skipped.get("clips", [])
    count = counted(skipped["count"], "clip")
    yield from ("", "## Skipped", "", f"{count} could not be read and were left out.", "")
    yield from (f"- {_cell(clip['path'])}: {_cell(clip['reason'])}" for clip in clips[:_SKIPPED_SHOWN])
    if len(clips) > _SKIPPED_SHOWN:
        yield f"- and {len(clips) - _SKIPPED_SHOWN} more, listed in `report.json`"


def _again(run: RunDirectory, report: Mapping[str, Any]) -> Iterator[str]:
    """How to reproduce these numbers."""
    folds = " --folds all" if len(report.get("folds", [])) > 1 else ""
    yield from ("", "## Reproduce", "")
    if "command" not in report:
        yield from ("`recipe.toml` holds every setting. Run this in the run directory:", "")
    yield from ("```sh", printable(report.get("command", f"soundbench run recipe.toml{folds}")), "```")
    method = report.get("interval")
    if method:
        yield ""
        yield f"Intervals: {method['method']}, {method['resamples']} resamples, seed {method['seed']}."


def _table(head: Sequence[object], rows: Any) -> Iterator[str]:
    """A Markdown table."""
    yield "| " + " | ".join(_cell(str(cell)) for cell in head) + " |"
    yield "|" + " --- |" * len(head)
    for row in rows:
        yield "| " + " | ".join(_cell(_text(cell)) for cell in row) + " |"


def _text(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _plain(value: Any) -> Any:
    """The value in types that JSON has; NaN and infinity become None."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        return _plain(value.tolist())
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return str(value) if isinstance(value, Path) else value
