"""What a classifier returns: the prediction for a sound or a window, and the stream of scored windows behind it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from soundbench.errors import SoundError
from soundbench.model.windows import WindowMean

__all__ = [
    "UNKNOWN",
    "EndOfSound",
    "ScoredWindow",
    "Prediction",
    "WindowPrediction",
    "averaged",
    "good_windows",
    "means",
]

Values = NDArray[np.float32]

UNKNOWN = "unknown"
"""The label of sound of none of the classes."""

# The classes that `repr` shows with their scores.
SHOWN = 3


@attrs.frozen(repr=False)
class Prediction:
    """The prediction for one sound.

    Attributes:
        label: the class with the highest score; `unknown` where the sound is rejected.
        score: the highest score of a class, in [0, 1].
        scores: every class and its score, highest first, over the classes alone.
        labels: the predicted classes, highest score first: for a multi-label model those that reach their threshold,
            possibly none; otherwise only `label`, unless it has a threshold and does not reach it; none where the sound
            is rejected.
        probabilities: the score of each class, in the order of the classifier's `classes`, `(K,)` float32; calibrated
            where the model is.
        nearest: the class with the highest score, whether the sound is rejected or not.
        rejected: whether the sound is of none of the classes.
    """

    label: str
    score: float
    scores: Mapping[str, float]
    labels: tuple[str, ...]
    probabilities: Values = attrs.field(eq=False)
    nearest: str
    rejected: bool

    def __repr__(self) -> str:
        best = [f"{name!r}: {score:.3f}" for name, score in list(self.scores.items())[:SHOWN]]
        best += [f"... {len(self.scores) - SHOWN} more"] * (len(self.scores) > SHOWN)
        labels = f"rejected, nearest={self.nearest!r}" if self.rejected else f"labels={list(self.labels)}"
        return f"{type(self).__name__}({self._place()}{labels}, scores={{{', '.join(best)}}})"

    def _place(self) -> str:
        """Where in the sound it is, for `repr`."""
        return ""

    def to_dict(self) -> dict[str, Any]:
        """As plain data."""
        return {
            "label": self.label,
            "nearest": self.nearest,
            "rejected": self.rejected,
            "score": self.score,
            "labels": list(self.labels),
            "scores": dict(self.scores),
        }


@attrs.frozen(repr=False)
class WindowPrediction(Prediction):
    """The prediction for one window of a sound.

    Attributes:
        start: seconds from the beginning of the sound.
        end: seconds from the beginning of the sound.
    """

    start: float
    end: float

    def _place(self) -> str:
        return f"start={self.start:g}, end={self.end:g}, "

    def to_dict(self) -> dict[str, Any]:
        """As plain data."""
        return {"start": self.start, "end": self.end, **super().to_dict()}


@attrs.frozen(eq=False)
class ScoredWindow:
    """A window and what the network gave for it.

    Attributes:
        sound: the index of its sound in the list of sounds.
        start: seconds from the beginning of the sound.
        end: seconds from the beginning of the sound.
        values: its scores and its evidence (see `Scorer.rated`), `(K + 2,)`; or its embedding.
    """

    sound: int
    start: float
    end: float
    values: Values


@attrs.frozen(eq=False)
class EndOfSound:
    """The end of a sound, after its windows.

    Attributes:
        sound: the index of the sound in the list of sounds.
        seconds: how much of it was scored.
        error: why it could not be read to its end, and its windows must be ignored; None if it could.
    """

    sound: int
    seconds: float
    error: SoundError | None


def good_windows(flow: Iterable[ScoredWindow | EndOfSound]) -> Iterator[ScoredWindow]:
    """The windows of one sound.

    Raises:
        SoundError: the sound cannot be read.
    """
    for one in flow:
        if isinstance(one, ScoredWindow):
            yield one
        elif one.error:
            raise one.error


def means(flow: Iterable[ScoredWindow | EndOfSound]) -> list[Values]:
    """The mean of each sound's windows.

    Raises:
        SoundError: a sound cannot be read.
    """
    found: list[Values] = []
    for _, mean in averaged(flow):
        if isinstance(mean, SoundError):
            raise mean
        found.append(mean)
    return found


def averaged(flow: Iterable[ScoredWindow | EndOfSound]) -> Iterator[tuple[int, Values | SoundError]]:
    """The mean of each sound's windows, or the error that it has."""
    mean = WindowMean()
    for one in flow:
        if isinstance(one, ScoredWindow):
            mean.add(one.values)
        else:
            yield one.sound, one.error or mean.take()
            mean.clear()
