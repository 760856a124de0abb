"""Micro-F1: the F1 of all labels of all classes together (Manning, Raghavan and Schütze, 2008, section 13.6)."""

from __future__ import annotations

import numpy as np

from soundbench.report.metrics.metric import Floats, Metric, Sample

__all__ = ["MICRO_F1"]


def micro_f1(sample: Sample) -> Floats:
    """`2 sum t_c / sum (n_c + p_c)`; every label counts equally."""
    f1: Floats = 2 * sample.right.sum(axis=1) / np.maximum((sample.predicted + sample.true).sum(axis=1), 1)
    return f1


MICRO_F1 = Metric(name="micro_f1", title="micro-F1", value=micro_f1)
