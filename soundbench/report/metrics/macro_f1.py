"""Macro-F1: the mean of the F1 of each class, for clips with one label or several.

Two metrics have this name; this one is the "averaged F1" of Opitz and Burst (Macro F1 and Macro F1, arXiv
1911.03347, 2019), not the F1 of mean precision and mean recall.
"""

from __future__ import annotations

import numpy as np

from soundbench.report.metrics.metric import Floats, Metric, Sample

__all__ = ["MACRO_F1"]


def macro_f1(sample: Sample) -> Floats:
    """The mean of `2 t_c / (n_c + p_c)` over the classes that have clips; 0 if none has."""
    present = sample.true > 0
    f1 = 2 * sample.right / np.maximum(sample.predicted + sample.true, 1)
    mean: Floats = (f1 * present).sum(axis=1) / np.maximum(present.sum(axis=1), 1)
    return mean


MACRO_F1 = Metric(name="macro_f1", title="macro-F1", value=macro_f1)
