"""Top-3 accuracy: the share of clips whose true class is among the three with the highest scores."""

from __future__ import annotations

from soundbench.report.metrics.metric import TOP, Floats, Metric, OneLabelSample

__all__ = ["TOP3"]


def top3(sample: OneLabelSample) -> Floats:
    """The share; of classes with equal scores, the first in class order ranks higher."""
    return sample.among_top / sample.clips


TOP3 = Metric(name="top3", title="top-3", value=top3, min_classes=TOP + 1)
