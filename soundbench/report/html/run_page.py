"""The page of a run, of all folds, or of an evaluation: its sections, from the report and the files beside it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import attrs
import numpy as np

from soundbench import files
from soundbench.errors import RunError
from soundbench.report import run_directory
from soundbench.report.html import charts, numbers, tables
from soundbench.report.html.clips import mistakes, suspicious
from soundbench.report.html.confusion import confusion
from soundbench.report.html.page import Markup, Section, code, figure, page, paragraph, side_by_side, table
from soundbench.report.html.places import Places
from soundbench.report.metrics import metric_of
from soundbench.report.run_directory import FOLDS, Predictions, RunDirectory

__all__ = ["Drawn", "draw", "folds_of", "sentence"]

_LARGEST = 14_500_000
"""Bytes that a page has at most; sound that does not fit is left out."""


@attrs.frozen
class Drawn:
    """A page.

    Attributes:
        html: the page; empty if it could not be made.
        problem: what is missing in it, in one line; empty if nothing is.
    """

    html: str
    problem: str = ""


def draw(run: RunDirectory, report: Mapping[str, Any], dataset: Any | str | None = None) -> Drawn:
    """The page of a run.

    Args:
        run: the directory of a run, of all folds, or of an evaluation.
        report: the content of its `report.json`.
        dataset: the dataset, from which the sound of mistakes is read; or why there is none.

    Raises:
        RunError: predictions that are damaged, or that are not those of the report.
    """
    places = Places.of(report)
    shown = places.report(report)
    folds = folds_of(run)
    found = _predictions(run, folds, report.get("classes", ()), report["clips"])
    sections = [
        Section("Figures", tables.figures(shown)),
        Section("Learning curves", _curves(run, folds, shown)),
        Section("Confusion", confusion(shown["confusion"], shown["classes"]) if "confusion" in shown else Markup("")),
        Section("Classes", tables.classes(shown, found)),
        Section("Reliability", tables.reliability(shown)),
        Section("Figures by value", tables.by_value(shown)),
        Section("None of these", tables.reject(shown)),
    ]
    after = [
        Section("Suspicious labels", suspicious(found, shown, places) if found else Markup("")),
        Section("Protocol", tables.protocol(shown)),
        Section("Made with", _made_with(run, folds, report)),
        Section("Reproduce", _again(shown)),
    ]
    title = str(shown.get("name", run.path.name))
    lead = sentence(run, folds, shown)
    room = _LARGEST - len(page(title, [*sections, *after], lead=lead).encode("utf-8", "replace"))
    notes: list[str] = []
    worst, silent = Markup(""), ""
    if found:
        worst, notes, silent = mistakes(found, shown, places, dataset, room)
    html = page(title, [*sections, Section("Worst mistakes", worst), *after], lead=lead, notes=notes)
    return Drawn(html, silent and f"mistakes without sound: {silent}")


# The files beside the report ------------------------------------------------------------------------------------------


def folds_of(run: RunDirectory) -> list[RunDirectory]:
    """The runs of the folds; none for a run of its own."""
    if not (run.path / FOLDS).exists():
        return []
    return [run.fold(fold) for fold in files.read_json(run.path / FOLDS, "folds")["folds"]]


def _predictions(
    run: RunDirectory, folds: Sequence[RunDirectory], classes: Sequence[str], clips: int
) -> Predictions | None:
    """The predictions of a run, or of all its folds; None where there are none."""
    read = [run_directory.read_predictions(one) for one in folds or [run] if one.predictions.exists()]
    if not read:
        return None
    for one, place in zip(read, folds or [run], strict=False):
        if list(one.classes) != list(classes):
            raise RunError(f"{place.predictions}: its classes are not those of {run.report_json.name}")
    if sum(len(one.clips) for one in read) != clips:
        raise RunError(f"{run.path}: {run.report_json.name} is of {clips} clips, not of those in predictions.csv")
    joined = [clip for one in read for clip in one.clips]
    predicted = [name for one in read for name in one.predicted]
    scores, rejected = (np.concatenate([getattr(one, name) for one in read]) for name in ("scores", "rejected"))
    return Predictions(read[0].classes, joined, predicted, scores, rejected)


def _environment(run: RunDirectory, folds: Sequence[RunDirectory], report: Mapping[str, Any]) -> dict[str, Any]:
    """What a run, the first of its folds, or the run that was evaluated was made with; empty if that is not known."""
    evaluated = (report.get("protocol") or {}).get("model")
    for one in (*folds[:1], run, *([RunDirectory(evaluated)] if isinstance(evaluated, str) else [])):
        if one.environment.is_file():
            found = files.read_json(one.environment)
            if isinstance(found, dict) and "packages" in found:
                return found
    return {}


# What was run ---------------------------------------------------------------------------------------------------------


def sentence(run: RunDirectory, folds: Sequence[RunDirectory], report: Mapping[str, Any]) -> str:
    """What was run on what, and by which protocol."""
    protocol, parts = report.get("protocol") or {}, report.get("parts") or {}
    tested = f"{numbers.counted(report['clips'], 'clip')} from {numbers.counted(report['groups'], 'group')}"
    data = f"{_of_classes(report)}{_of_dataset(report)}"
    if "evaluated" in protocol:
        return (
            f"The model of {protocol.get('model', 'a run')} was evaluated on {protocol['evaluated']}: {tested}, {data}."
        )
    components = _environment(run, folds, report).get("plugins", [])
    backbone = next((one["name"] for one in components if one.get("kind") == "backbone"), "")
    network = f"A {_name(backbone)} network" if backbone else "A network"
    if len(report.get("folds", [])) > 1:
        each = f"{network} for each of {len(report['folds'])} folds was trained on the other folds"
        own = f"{each}{_chosen(protocol, {})} and tested once on its own"
        return f"{own}; the figures pool all test clips: {tested}, {data}."
    trained = f"{network} was trained on {numbers.counted(parts['train'], 'clip')}" if "train" in parts else network
    if not report["metrics"]:
        return f"{trained}{_chosen(protocol, parts)} and not tested: {data}."
    test = (protocol.get("split") or {}).get("test")
    rule = f" (split.test = {test})" if test is not None else ""
    return f"{trained}{_chosen(protocol, parts)} and tested once on {tested}, {data}{rule}."


def _of_classes(report: Mapping[str, Any]) -> str:
    count = len(report["classes"]) if "classes" in report else (report.get("protocol") or {}).get("classes", "some")
    return f"{count} classes"


def _of_dataset(report: Mapping[str, Any]) -> str:
    use = ((report.get("protocol") or {}).get("dataset") or {}).get("use", "")
    name = report.get("title") or _name(use)
    return f" of {name}" if name else ""


def _chosen(protocol: Mapping[str, Any], parts: Mapping[str, Any]) -> str:
    """By which rule the epoch was chosen, and which it is."""
    rule, best, epochs = (protocol.get(key) for key in ("selection", "best_epoch", "epochs"))
    which = f" (epoch {best} of {epochs})" if isinstance(best, int) else ""
    if rule is None or rule == "last epoch":
        return f", kept as it was after the last epoch{which}," if rule else ""
    of = f" on {numbers.counted(parts['validation'], 'clip')}" if parts.get("validation") else ""
    return f", selected by the {rule}{of}{which},"


def _name(use: str) -> str:
    """A component's name; of one in a local file, that of the class."""
    return use.rpartition(":")[2]


# Training -------------------------------------------------------------------------------------------------------------


def _curves(run: RunDirectory, folds: Sequence[RunDirectory], report: Mapping[str, Any]) -> Markup:
    """Losses and validation metrics over the epochs, a line for each fold."""
    losses: list[charts.Line] = []
    shares: list[charts.Line] = []
    rates: list[charts.Line] = []
    last: dict[str, float] = {}
    for one in folds or [run]:
        rows = files.read_rows(one.history)
        for column in rows[0] if rows else ():
            points = [
                (epoch, value)
                for row in rows
                if (epoch := _float(row.get("epoch"))) and (value := _float(row[column])) is not None
            ]
            name, _, metric = column.partition("_")
            if column in ("train_loss", "validation_loss"):
                losses.append(charts.Line(column.replace("_", " "), points))
            elif name == "validation" and _is_share(metric):
                shares.append(charts.Line(f"validation {metric_of(metric).title}", points))
            elif column == "rate":
                rates.append(charts.Line("learning rate", points))
            if points and column.endswith("loss"):
                last[column] = points[-1][1]
    best = (report.get("protocol") or {}).get("best_epoch")
    mark = float(best) if isinstance(best, int) and not folds else None
    drawn = [
        charts.curves(losses, title="Losses by epoch: " + _spoken(last), across="epoch", mark=mark),
        charts.curves(shares, title="Validation metrics by epoch", across="epoch", share=True, mark=mark),
        charts.curves(rates, title="Learning rate by epoch", across="epoch", mark=mark),
    ]
    each = ", one line for each fold" if folds else ""
    chosen = f". The vertical line is epoch {best}, which was tested" if mark else ""
    captions = [f"Loss{each}{chosen}.", f"Metrics of the validation set{each}.", f"Learning rate{each}."]
    blocks = [figure(one, caption) for one, caption in zip(drawn, captions, strict=True) if one]
    return side_by_side(blocks) if blocks else Markup("")


def _spoken(last: Mapping[str, float]) -> str:
    return ", ".join(f"{name.replace('_', ' ')} ends at {value:.3g}" for name, value in last.items())


def _is_share(name: str) -> bool:
    try:
        return metric_of(name).share
    except KeyError:
        return False


def _float(text: str | None) -> float | None:
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if math.isfinite(value) else None


# How it was made ------------------------------------------------------------------------------------------------------


def _made_with(run: RunDirectory, folds: Sequence[RunDirectory], report: Mapping[str, Any]) -> Markup:
    """The versions and the machine."""
    found = _environment(run, folds, report)
    if not found:
        return Markup("")
    rows = [(name, version) for name, version in found["packages"].items() if version]
    rows = [("Python", found.get("python")), *rows, ("processor", found.get("device"))]
    body = table(["what", "version"], rows, caption="Versions")
    plugins = [
        [one.get("kind"), _name(str(one.get("name"))), one.get("distribution") or "local file", one.get("version")]
        for one in found.get("plugins", [])
    ]
    head = ["kind", "component", "distribution", "version"]
    return body + (table(head, plugins, caption="Components") if plugins else Markup(""))


def _again(report: Mapping[str, Any]) -> Markup:
    """How to get the same figures."""
    if "command" in report:
        return code(report["command"])
    folds = " --folds all" if len(report.get("folds", [])) > 1 else ""
    return paragraph("recipe.toml holds every setting. Run this in the run directory:") + code(
        f"soundbench run recipe.toml{folds}"
    )
