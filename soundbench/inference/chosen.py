"""The clips that are evaluated, as a dataset with the model's classes."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from soundbench.contracts import Clip
from soundbench.data.clips import ClipTable
from soundbench.errors import CallError
from soundbench.inference.classifier import Classifier

__all__ = ["Chosen"]


class Chosen:
    """Some clips of a table, as a dataset with a model's classes.

    Raises:
        CallError: labels that are not among the model's classes, or a multi-label dataset for a single-label model.
    """

    def __init__(self, classifier: Classifier, table: ClipTable, rows: NDArray[np.int64]) -> None:
        self.classes, self.multilabel = classifier.classes, classifier.multilabel
        self.table, self.rows = table, rows
        if table.multilabel and not self.multilabel:
            raise CallError("the dataset is multi-label, but the model predicts a single class per sound")
        counts = zip(table.classes, table.class_counts(rows).tolist(), strict=True)
        unknown = [f"{name!r} ({count})" for name, count in counts if count and name not in self.classes]
        if unknown:
            raise CallError(
                f"labels that are not among the model's classes, with their number of clips: {', '.join(unknown)}; "
                f"its classes: {', '.join(self.classes)}"
            )

    def clips(self) -> Iterator[Clip]:
        """The clips."""
        return (self.table.clip(int(row)) for row in self.rows)
