"""Accuracy: the share of clips whose predicted class is the true one."""

from __future__ import annotations

from soundbench.report.metrics.metric import Floats, Metric, OneLabelSample

__all__ = ["ACCURACY"]


def accuracy(sample: OneLabelSample) -> Floats:
    """`sum t_c / N`: of N clips, `t_c` are of class c and predicted as c; every clip counts once."""
    share: Floats = sample.right.sum(axis=1) / sample.clips
    return share


ACCURACY = Metric(name="accuracy", title="accuracy", value=accuracy)
