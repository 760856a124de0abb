"""Expected calibration error (ECE): how far probabilities are from the shares that turn out to be true, in bins.

Naeini, Cooper and Hauskrecht, Obtaining Well Calibrated Probabilities Using Bayesian Binning, AAAI 2015; here with bins
of equal mass (Nixon et al., Measuring Calibration in Deep Learning, arXiv 1904.01685, 2019), which are not empty where
nearly all scores are high. It is above 0 for a perfectly calibrated model, too: `report/calibration.py` has that floor.
"""

from __future__ import annotations

import attrs
import numpy as np
from numpy.typing import NDArray

from soundbench.report.metrics.metric import Floats, Metric, OneLabelSample, Sample

__all__ = ["BINS", "EXPECTED_CALIBRATION_ERROR", "Pairs", "pairs_of"]

BINS = 15


@attrs.frozen
class Pairs:
    """M pairs of a probability and whether it came true.

    Attributes:
        probability: `(M,)`.
        came_true: `(M,)`.
        clip: the clip of each pair, `(M,)`.
        bin: the bin of each pair, `(M,)`, from 0 in the order of the probabilities.
    """

    probability: Floats
    came_true: NDArray[np.bool_]
    clip: NDArray[np.int64]
    bin: NDArray[np.int64]


def pairs_of(sample: Sample) -> Pairs:
    """Of one label, each clip's highest probability and whether it is of the true class; of several, those of all."""
    clips, classes = sample.truth.shape
    if isinstance(sample, OneLabelSample):
        clip = np.arange(clips)
        top = clip, sample.scores.argmax(axis=1)
        probability, came_true = sample.probabilities[top], sample.truth[top]
    else:
        clip = np.repeat(np.arange(clips), classes)
        probability, came_true = sample.probabilities.reshape(-1), sample.truth.reshape(-1)
    return Pairs(probability, came_true, clip, _equal_mass(probability))


def expected_calibration_error(sample: Sample) -> Floats:
    """The sum over bins of `|mean probability - share that came true|`, weighted by the pairs of each bin.

    The bins are those of the whole sample under each weighting, so that resampled bins are sums.
    """
    pairs = pairs_of(sample)
    clips = len(sample.truth)
    place, gap = pairs.clip * BINS + pairs.bin, pairs.probability - pairs.came_true
    gaps = np.bincount(place, weights=gap, minlength=clips * BINS).reshape(clips, BINS)
    sums = sample.weights.sums(np.concatenate([gaps, np.ones((clips, 1))], axis=1))
    error: Floats = np.abs(sums[:, :-1]).sum(axis=1) / (sums[:, -1] * (len(pairs.bin) / clips))
    return error


def _equal_mass(probability: Floats) -> NDArray[np.int64]:
    """Bins of as nearly the same number of pairs as equal probabilities, which share a bin, allow, `(M,)`."""
    first = np.arange(1, BINS) * len(probability) // BINS
    edges = np.unique(np.partition(probability, first)[first])
    return np.searchsorted(edges[edges > probability.min()], probability, side="right")


EXPECTED_CALIBRATION_ERROR = Metric(
    name="expected_calibration_error",
    title="calibration error",
    value=expected_calibration_error,
    share=False,
    lower_is_better=True,
)
