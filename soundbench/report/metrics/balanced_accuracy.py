"""Balanced accuracy: the mean of the recall of each class (as scikit-learn's `balanced_accuracy_score`)."""

from __future__ import annotations

import numpy as np

from soundbench.report.metrics.metric import Floats, Metric, OneLabelSample

__all__ = ["BALANCED_ACCURACY"]


def balanced_accuracy(sample: OneLabelSample) -> Floats:
    """The mean of `t_c / n_c` over the classes that have clips."""
    recall = sample.right / np.maximum(sample.true, 1)
    mean: Floats = recall.sum(axis=1) / (sample.true > 0).sum(axis=1)
    return mean


BALANCED_ACCURACY = Metric(name="balanced_accuracy", title="balanced accuracy", value=balanced_accuracy)
