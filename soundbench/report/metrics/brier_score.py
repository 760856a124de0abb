"""Brier score: the mean squared distance of the probabilities from the truth.

Brier, Verification of Forecasts Expressed in Terms of Probability, Monthly Weather Review 78, 1950.
"""

from __future__ import annotations

from soundbench.report.metrics.metric import Floats, Metric, OneLabelSample, Sample

__all__ = ["BRIER_SCORE"]


def brier_score(sample: Sample) -> Floats:
    """The mean over clips of `sum_k (p_k - y_k)^2`, from 0 to 2; of several labels, over clips and classes, to 1."""
    squares = (sample.probabilities - sample.truth) ** 2
    return sample.mean(squares.sum(axis=1) if isinstance(sample, OneLabelSample) else squares.mean(axis=1))


BRIER_SCORE = Metric(
    name="brier_score",
    title="Brier score",
    value=brier_score,
    share=False,
    lower_is_better=True,
)
