"""A run as an object: its report, metrics, tables and pictures, read from its directory when they are asked for."""

from __future__ import annotations

import os
from collections.abc import Mapping
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import attrs
import numpy as np

from soundbench import files
from soundbench.errors import CallError, RunError, RunPlaceError
from soundbench.recipe.entry_points import MODELS, allowed
from soundbench.report.results import notebook
from soundbench.report.results.tables import Frame, frame, pandas, read_columns
from soundbench.report.run_directory import FOLDS, RunDirectory

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Estimate", "Run"]

# What `predictions.csv` puts before the name of a class.
SCORE = "score:"


def _short(value: float | None) -> str:
    return "None" if value is None else f"{value:.4g}"


@attrs.frozen
class Estimate:
    """The value of a metric on the test set, with its interval.

    Attributes:
        value: the value; None if it is not finite.
        low: the lower bound of its interval; None where there is no interval, as with a single group.
        high: the upper bound of its interval; None where there is none.
    """

    value: float | None = attrs.field(repr=_short)
    low: float | None = attrs.field(repr=_short)
    high: float | None = attrs.field(repr=_short)


def _directory(path: str | os.PathLike[str] | RunDirectory) -> RunDirectory:
    """A run directory as it is; at a path, one that exists, or the folder of an evaluation."""
    if isinstance(path, RunDirectory):  # a process that did not write it may not see it
        return path
    found = RunDirectory(Path(path))
    with files.explain_os_errors(found.path):
        evaluation = not found.recipe.exists() and found.report_json.exists()
    if not found.path.exists() and str(found.path) in [one.name for one in allowed(entry_points(group=MODELS))]:
        hint = "it is an installed model: give it to soundbench.load"
        raise RunPlaceError(f"{found.path}: no such run directory; {hint}")
    return found if evaluation else RunDirectory.open(found.path)


@attrs.frozen(repr=False)
class Run(os.PathLike[str]):
    """A run: what `soundbench.run()`, `resume()`, `run_folds()` and `evaluate()` return.

    A run is also a path: `soundbench.load(run)` gives its classifier, `run.path / "notes.txt"` a file inside it. Each
    attribute reads its file anew, so that a run still at work shows how far it is; keep in a variable what you use
    often. Nothing here needs torch.

    `predictions`, `history` and `clips` are pandas frames if `import pandas` succeeds, else `Table`s with the part of a
    frame's interface that needs no pandas: `table[name]`, `table.columns`, `len(table)` (rows), `table.shape`, `name in
    table`, `for name in table`. `np.asarray(table[name])` is an array in either case. pandas is imported when one of
    them, or `confusion`, is asked for, not before.

    Args:
        path: a run directory, or the folder of an evaluation; it need not be finished.

    Attributes:
        directory: the run directory, whose attributes are the paths of its files, such as `run.directory.report_md`.

    Raises:
        RunPlaceError: there is no run or evaluation at the path.
    """

    directory: RunDirectory = attrs.field(converter=_directory, alias="path")

    @property
    def path(self) -> Path:
        """The folder."""
        return self.directory.path

    def __fspath__(self) -> str:
        return str(self.path)

    @property
    def report(self) -> dict[str, Any]:
        """The content of `report.json`; `docs/report.md` explains every key.

        Raises:
            RunError: the run is not finished, or the file is damaged.
        """
        path = self._existing(self.directory.report_json)
        report: dict[str, Any] = files.read_json(path, "metrics")
        return report

    @property
    def metrics(self) -> dict[str, Estimate]:
        """Each metric by its name, in the report's order: `run.metrics["accuracy"].low`.

        Raises:
            RunError: the run is not finished, or its report is damaged.
        """
        metrics = self.report["metrics"]
        if not isinstance(metrics, Mapping) or not all(map(_is_figure, metrics.values())):
            raise self._damaged("metrics must each have a value")
        return {
            name: Estimate(figure["value"], figure.get("low"), figure.get("high")) for name, figure in metrics.items()
        }

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the K classes.

        Raises:
            RunError: the run is not finished, or its report is damaged.
        """
        classes = self.report.get("classes")
        if not isinstance(classes, list) or not all(isinstance(name, str) for name in classes):
            raise self._damaged("classes must be a list of names")
        return tuple(classes)

    @property
    def confusion(self) -> Frame:
        """The confusion matrix, counts `(K, K)`; a row is a true class, a column a predicted one.

        An array in the order of `classes`; if `import pandas` succeeds, a frame with their names on both sides.

        Raises:
            RunError: the run is not finished, its clips have several labels each, or its report is damaged.
        """
        counts, classes, module = self._counts(), list(self.classes), pandas()
        if module is None:
            return counts
        index, columns = (module.Index(classes, name=name) for name in ("truth", "predicted"))
        return module.DataFrame(counts, index=index, columns=columns)

    @property
    def predictions(self) -> Frame:
        """The N test clips with their labels and scores: the columns of `predictions.csv`.

        `start`, `stop`, `score` and `score:<class>` are float64 (NaN for an open `stop`), the others text. Several
        labels are joined by `|`; `docs/run-directory.md` says how.

        Raises:
            RunError: the run is not finished, or the file is damaged.
        """
        path = self._existing(self.directory.predictions)
        return frame(read_columns(path, "path", "label", "predicted", numbers=_is_number_of_a_prediction))

    @property
    def history(self) -> Frame:
        """What was measured in each epoch: the columns of `history.csv`, `epoch` and `step` int64, the others float64.

        Raises:
            RunError: no epoch is finished, this is no single run, or the file is damaged.
        """
        path = self._existing(self.directory.history)
        columns = dict(read_columns(path, "epoch", numbers=lambda name: True))
        for name in {"epoch", "step"} & columns.keys():
            if not np.isfinite(columns[name]).all():
                raise RunError(f"{path}: damaged: column {name} must have a number in every row")
            columns[name] = columns[name].astype(np.int64)
        return frame(columns)

    @property
    def clips(self) -> Frame:
        """Every clip of the dataset with its part of the split: the columns of `clips.csv`.

        `start` and `stop` are float64 (NaN for an open `stop`), the others text.

        Raises:
            RunError: the split is not made yet, this is no single run, or the file is damaged.
        """
        path = self._existing(self.directory.clips)
        return frame(read_columns(path, "part", "path", "labels", numbers=lambda name: name in ("start", "stop")))

    @property
    def folds(self) -> list[Run]:
        """The runs of the folds that have begun, in the order of the folds; empty for a single run.

        Raises:
            RunError: `folds.json` is damaged.
        """
        if not (self.path / FOLDS).exists():
            return [Run(path.parent) for path in sorted(self.path.glob("fold-*/recipe.toml"))]
        names = files.read_json(self.path / FOLDS, "folds")["folds"]
        if not isinstance(names, list) or not all(isinstance(name, int | str) for name in names):
            raise RunError(f"{self.path / FOLDS}: damaged: folds must be a list of numbers or names")
        places = [self.directory.fold(name) for name in names]
        return [Run(place) for place in places if place.recipe.exists()]

    def plot(self, what: Literal["confusion", "history"] | None = None) -> Figure:
        """Draw the confusion matrix or the learning curves; a notebook shows the figure, `savefig(path)` writes it.

        pyplot is not used, so that no figure stays open and no setting of yours changes. Where no installed font has
        the characters of every class, the axes of the confusion matrix show the numbers 1 to K in the order of
        `classes`.

        Args:
            what: `confusion` or `history`; None for the confusion matrix if there is one, else the learning curves.

        Raises:
            RunError: there is nothing to draw yet, or a file is damaged.
            CallError: `what` is something else.
        """
        from soundbench.report.results import pictures

        if what not in (None, "confusion", "history"):
            raise CallError(f'what to plot must be "confusion" or "history", is {what!r}')
        if what is None:
            finished = self.directory.report_json.exists()
            what = "confusion" if finished and "confusion" in self.report else "history"
        if what == "confusion":
            return pictures.confusion(self._counts(), self.classes)
        columns = {name: np.asarray(column) for name, column in dict(self.history).items()}
        if not len(columns["epoch"]):  # killed while the first row was written
            raise RunError(f"{self.path}: no epoch is finished")
        return pictures.learning_curves(columns, self._best_epoch())

    def __repr__(self) -> str:
        return notebook.line(self)

    def _repr_html_(self) -> str:
        """The metrics with their intervals, for a notebook."""
        return notebook.html(self)

    def _counts(self) -> np.ndarray:
        """The confusion matrix, `(K, K)` int64."""
        report, size = self.report, len(self.classes)
        if "confusion" not in report:
            raise RunError(f"{self.path}: there is no confusion matrix: its clips may have several labels each")
        try:
            counts = np.array(report["confusion"], np.int64)
        except (TypeError, ValueError, OverflowError):
            counts = np.empty(0, np.int64)
        if counts.shape != (size, size):
            raise self._damaged(f"confusion must be {size} rows of {size} counts")
        return counts

    def _best_epoch(self) -> int | None:
        """The epoch whose network was tested; None where that is not known yet."""
        if not self.directory.report_json.exists():
            return None
        protocol = self.report.get("protocol")
        best = protocol.get("best_epoch") if isinstance(protocol, Mapping) else None
        return best if isinstance(best, int) else None

    def _existing(self, path: Path) -> Path:
        """The path of a file inside, which must exist.

        Raises:
            RunError: it does not; the message says why.
        """
        with files.explain_os_errors(path):
            if path.exists():
                return path
            if not self.directory.recipe.exists():
                why = f"an evaluation has no {path.name}"
            elif self.directory.has_folds and path != self.directory.report_json:
                why = f"it holds a run for each fold, and {path.name} is in each of them: see folds"
            elif path == self.directory.history:
                why = f"no epoch is finished: {path.name} is missing"
            else:
                why = f"the run is not finished: {path.name} is missing; soundbench run --resume {self.path}"
        raise RunError(f"{self.path}: {why}")

    def _damaged(self, why: str) -> RunError:
        return RunError(f"{self.directory.report_json}: damaged: {why}")


def _is_figure(figure: object) -> bool:
    """Whether an entry of a report's metrics has a value, and numbers as bounds if it has some."""
    if not isinstance(figure, Mapping) or "value" not in figure:
        return False
    return all(figure.get(name) is None or isinstance(figure[name], int | float) for name in ("value", "low", "high"))


def _is_number_of_a_prediction(name: str) -> bool:
    return name in ("start", "stop", "score") or name.startswith(SCORE)
