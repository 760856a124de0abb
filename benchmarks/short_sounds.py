"""Parts of sounds, of several lengths: how often a network is right about them, and how much of them is unknown."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from leak import accuracy, percent
from numpy.typing import NDArray
from turns import line

import soundbench
from soundbench import audio

__all__ = ["SECONDS", "measured", "share_unknown", "table"]

SECONDS = (0.2, 0.35, 0.5, 0.7, 0.85, 1.0, 1.2, 1.35, 1.5, 1.7, 2.0, 2.35, 2.7, 3.0, 3.5, 4.0, 5.0)

Score = Callable[[Sequence[NDArray[np.float32]]], NDArray[np.floating[Any]]]


def part(samples: NDArray[np.float32], count: int) -> NDArray[np.float32]:
    """So many samples around the middle of the energy of a sound `(S,)`; all, if there are no more."""
    energy = np.square(samples, dtype=np.float64).cumsum()
    first = int(np.searchsorted(energy, energy[-1] / 2)) - count // 2
    first = min(max(first, 0), max(len(samples) - count, 0))
    return samples[first : first + count]


def measured(classifier: soundbench.Classifier, clips: Sequence[dict[str, str]], score: Score) -> list[dict[str, Any]]:
    """For each length what a network says of parts of clips: their labels, their nearest classes and reject scores."""
    rate = classifier.rate
    whole = [audio.load(clip["path"], rate) for clip in clips]
    found = []
    for seconds in SECONDS:
        parts = [part(samples, round(seconds * rate)) for samples in whole]
        nearest = [one.nearest for one in classifier.predict(parts, rate)]
        labels, groups = ([clip[column] for clip in clips] for column in ("labels", "group"))
        found.append({"labels": labels, "groups": groups, "nearest": nearest, "scores": score(parts).tolist()})
    return found


def table(networks: Sequence[Sequence[dict[str, Any]]], threshold: float) -> list[str]:
    """For each length the accuracy of the nearest class, and the share below the threshold, of all networks' clips."""
    head = ["seconds", "nearest class is right, % (95%)", "unknown, % (95%)"]
    rows = [line(head), line(["---"] * len(head))]
    for place, seconds in enumerate(SECONDS):
        of_length = [network[place] for network in networks]
        labels, groups, nearest, scores = (
            [value for one in of_length for value in one[key]] for key in ("labels", "groups", "nearest", "scores")
        )
        unknown = share_unknown([score < threshold for score in scores], groups)
        rows.append(line([f"{seconds:g}", percent(accuracy(labels, nearest, groups)), percent(unknown)]))
    return rows


def share_unknown(unknown: Iterable[bool], recordings: Sequence[str]) -> dict[str, float]:
    """The share of sounds that is unknown, `value`, with an interval over recordings, `low` and `high`."""
    return accuracy(["unknown"] * len(recordings), ["unknown" if one else "known" for one in unknown], recordings)
