"""Figures of a run for its owner: the confusion matrix and the learning curves, which a notebook shows by itself."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from soundbench.report import figures
from soundbench.report.results.notebook import title
from soundbench.report.results.tables import Columns

__all__ = ["confusion", "learning_curves"]

_PREFIX = "validation_"


class _Picture(Figure):
    """A figure that a notebook shows also where pyplot was never imported, and whose labels are never cut off."""

    def savefig(self, fname: Any, **options: Any) -> None:
        """As matplotlib's own, with the labels that stand out over the edge."""
        super().savefig(fname, **{"bbox_inches": "tight", **options})

    def _repr_png_(self) -> bytes:
        picture = io.BytesIO()
        self.savefig(picture, format="png")
        return picture.getvalue()


def confusion(counts: np.ndarray, classes: Sequence[str]) -> Figure:
    """The confusion matrix of the K classes, counts `(K, K)`."""
    figure = _Picture()
    figures.draw_confusion(figure, counts, classes)
    return figure


def learning_curves(history: Columns, best: int | None) -> Figure:
    """The losses of each epoch, and below them the metrics of validation, if there are some.

    Args:
        history: the columns of `history.csv`.
        best: the epoch whose network was tested, to be marked; None if that is not known.
    """
    losses = {"train_loss": "training", "validation_loss": "validation"}
    measured = [name for name in history if name.startswith(_PREFIX) and name not in losses]
    curves = [("loss", {name: text for name, text in losses.items() if name in history})]
    curves += [("validation", {name: title(name.removeprefix(_PREFIX)) for name in measured})] if measured else []
    with figures.drawing("".join(text for _, lines in curves for text in lines.values())):
        figure = _Picture(figsize=(7, 3 * len(curves)), layout="constrained")
        for place, (label, lines) in zip(
            figure.subplots(len(curves), 1, sharex=True, squeeze=False)[:, 0], curves, strict=True
        ):
            for name, text in lines.items():
                place.plot(history["epoch"], history[name], marker=".", label=text)
            if best is not None:
                place.axvline(best, color="0.5", linestyle=":", label="tested")
            place.set_ylabel(label)
            place.xaxis.set_major_locator(MaxNLocator(integer=True))
            place.set_xlim(history["epoch"][0] - 0.5, history["epoch"][-1] + 0.5)
            place.legend()
        place.set_xlabel("epoch")
    return figure
