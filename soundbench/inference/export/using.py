"""A classifier of an exported model, without torch: `soundbench-runtime` consists of this and what it imports."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from soundbench.inference.classifier import Classifier
from soundbench.model.exported.metadata import Metadata
from soundbench.model.exported.scorer import ExportedScorer

__all__ = ["load_export"]


def load_export(path: str | os.PathLike[str]) -> Classifier:
    """The classifier of an ONNX file that `soundbench export --to onnx` wrote.

    Process-wide settings are left unchanged.

    Args:
        path: the file.

    Raises:
        RunError: it cannot be read, is damaged, of a newer format, or no such file.
        NotInstalled: ONNX Runtime is missing.
    """
    scorer: Any = ExportedScorer(Path(path))  # which has what a classifier uses of a `Scorer`
    about: Metadata = scorer.metadata
    return Classifier(scorer, about.classes, about.rate, about.grid, about.thresholds, about.multilabel)
