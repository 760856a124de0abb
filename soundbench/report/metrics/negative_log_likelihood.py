"""Negative log-likelihood (log loss): small if the classes that clips have get high probabilities.

It is a proper score: its expectation is least for the true probabilities (Gneiting and Raftery, Strictly Proper Scoring
Rules, Prediction, and Estimation, JASA 102, 2007).
"""

from __future__ import annotations

import numpy as np

from soundbench.report.metrics.metric import Floats, Metric, OneLabelSample, Sample

__all__ = ["EPSILON", "NEGATIVE_LOG_LIKELIHOOD"]

EPSILON = 1e-7
"""The least probability that counts: a single class that is ruled out may not make the mean infinite. The step of
float32 below 1 is 6e-8, so a score cannot say more of the classes that it takes for certain."""


def negative_log_likelihood(sample: Sample) -> Floats:
    """The mean over clips of `-log p_true`; of several labels, over clips and classes of the binary cross entropy.

    Natural logarithms. Probabilities below `EPSILON` count as `EPSILON`; of several labels, also those above
    `1 - EPSILON` as that.
    """
    given = np.where(sample.truth, sample.probabilities, 1.0 - sample.probabilities)  # to what is true of each class
    losses = np.abs(np.log(given.clip(EPSILON, 1.0)))
    if isinstance(sample, OneLabelSample):
        return sample.mean(losses[sample.truth])
    return sample.mean(losses.mean(axis=1))


NEGATIVE_LOG_LIKELIHOOD = Metric(
    name="negative_log_likelihood",
    title="log loss",
    value=negative_log_likelihood,
    share=False,
    lower_is_better=True,
)
