"""Compares an export with its model: scores, labels, and the time that both need for a window."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import attrs
import numpy as np
import torch
from numpy.typing import NDArray

from soundbench.contracts import Runner
from soundbench.data.batches import RawBatch, on_device, pack
from soundbench.inference.classifier import Classifier
from soundbench.inference.export.sounds import Sample
from soundbench.inference.predictions import Prediction, ScoredWindow, averaged
from soundbench.model.scoring import silent

__all__ = ["NEAR", "SAME", "Comparison", "compare", "milliseconds", "rated_by"]

NEAR = 1e-4
"""How much a score of a window may differ at the most."""

SAME = 0.9
"""The share of sounds that must keep their labels in 8 bits, where scores differ more."""

# How often the time of a window is measured.
_TIMES = 9


@attrs.frozen
class Comparison:
    """How an export differs from its model.

    Attributes:
        sounds: how many sounds were compared.
        windows: how many windows they have.
        scores: the largest difference of two scores of a window; infinite where one is not finite.
        reject: the same of reject scores, as a share of the range of those of all windows, or of 1 if that is less;
            None where there are none. They may be differences of large squares, so that the size of one says nothing.
        flipped: how many sounds have other labels, or are rejected by one of both alone.
        labelled: of how many sounds the labels are known.
        accuracy: the share of those whose labels are right by the export, were none rejected; None where no label is
            known.
        accuracy_before: the same by the model.
    """

    sounds: int
    windows: int
    scores: float
    reject: float | None
    flipped: int
    labelled: int
    accuracy: float | None
    accuracy_before: float | None

    @property
    def agreement(self) -> float:
        """The share of sounds that keep their labels."""
        return 1 - self.flipped / self.sounds

    @property
    def near(self) -> bool:
        """Whether all scores are as good as the same."""
        return self.scores <= NEAR and (self.reject is None or self.reject <= NEAR)


def compare(classifier: Classifier, other: Classifier, runner: Runner, samples: Iterable[Sample]) -> Comparison:
    """Score sounds with a model and with its export; the windows of both are the same, in the same batches.

    Args:
        classifier: the model.
        other: the same with the thresholds of the export.
        runner: computes with the export.
        samples: the sounds.
    """
    labels: list[tuple[str, ...] | None] = []
    classes = len(classifier.classes)
    apart, apart_reject, windows, flipped = 0.0, 0.0, 0, 0
    right, lowest, highest = [0, 0], np.inf, -np.inf

    def sounds() -> Iterator[NDArray[np.float32]]:
        for sample in samples:
            labels.append(sample.labels)
            yield sample.samples

    def measured(flow: Iterable[Any]) -> Iterator[Any]:
        nonlocal apart, apart_reject, windows, lowest, highest
        for one in flow:
            if isinstance(one, ScoredWindow):
                windows += 1
                here, there = np.split(one.values.astype(np.float64), 2)
                apart = max(apart, _apart(here[:classes], there[:classes]))
                apart_reject = max(apart_reject, _apart(here[classes], there[classes]))
                lowest, highest = min(lowest, here[classes]), max(highest, here[classes])
            yield one

    rated = rated_by(runner)

    def both(raw: RawBatch) -> NDArray[np.float32]:
        return np.concatenate([classifier.scorer.rated(raw), rated(raw)], axis=1)

    for number, mean in averaged(measured(classifier.flow(sounds(), classifier.rate, compute=both))):
        here, there = np.split(np.asarray(mean), 2)
        flipped += _named(classifier.prediction(here)) != _named(other.prediction(there))
        known = labels[number]
        if known is not None:  # as a report has it: by the scores alone, which are never rejected
            right[0] += _named(other.prediction(there[:classes])) == frozenset(known)
            right[1] += _named(classifier.prediction(here[:classes])) == frozenset(known)
    labelled = sum(known is not None for known in labels)
    accuracies = [count / labelled if labelled else None for count in right]
    reject = None if classifier.scorer.rejector is None else apart_reject / max(1.0, float(highest - lowest))
    return Comparison(len(labels), windows, apart, reject, flipped, labelled, *accuracies)


def _named(prediction: Prediction) -> frozenset[str]:
    """The labels of a prediction, in any order; none where the sound is rejected."""
    return frozenset(prediction.labels)


def _apart(one: Any, other: Any) -> float:
    """The largest difference; infinite where a value is not finite."""
    found = float(np.max(np.abs(np.asarray(one) - np.asarray(other))))
    return found if np.isfinite(found) else float("inf")


def rated_by(runner: Runner) -> Callable[[RawBatch], NDArray[np.float32]]:
    """What computes for a batch of windows what `Scorer.rated` gives, `(B, K + 2)`, by an export."""

    def compute(raw: RawBatch) -> NDArray[np.float32]:
        found = runner(_inputs(raw))
        scores = np.asarray(found["scores"], np.float32)
        evidence = np.stack([found.get("reject", np.zeros(len(scores))), ~silent(raw)], 1).astype(np.float32)
        return np.concatenate([scores, evidence], axis=1)

    return compute


def _inputs(raw: RawBatch) -> dict[str, NDArray[Any]]:
    """A batch as the inputs of an export."""
    batch = on_device(raw, torch.device("cpu"), "off")
    return {"waveform": batch.data.numpy(), "lengths": batch.lengths.numpy()}


def milliseconds(classifier: Classifier, runner: Runner) -> tuple[float, float]:
    """The time of one window by the export and by the model: medians of runs in turns."""
    samples = (3000 * np.random.default_rng(0).standard_normal(classifier.grid.window)).clip(-32768, 32767)
    raw = pack([samples.astype(np.int16)], [1 / 32768], [0], len(classifier.classes))
    inputs = _inputs(raw)
    calls: tuple[Callable[[], Any], ...] = (lambda: runner(inputs), lambda: classifier.scorer.rated(raw))
    spent: tuple[list[float], ...] = ([], [])
    for _ in range(_TIMES + 1):
        for call, times in zip(calls, spent, strict=True):
            began = time.perf_counter()
            call()
            times.append(1000 * (time.perf_counter() - began))
    there, here = (statistics.median(times[1:]) for times in spent)
    return there, here
