"""What a classifier returns: the prediction for a sound or a window, and the stream of scored windows behind it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from soundbench.errors import SoundError

__all__ = ["EndOfSound", "ScoredWindow", "Prediction", "WindowPrediction"]

Values = NDArray[np.float32]


@attrs.frozen
class Prediction:
    """The prediction for one sound.

    Attributes:
        label: the class with the highest score.
        score: its score, in [0, 1].
        scores: every class and its score, highest first.
        labels: the predicted classes, highest score first: for a multi-label model those that reach their threshold,
            possibly none; otherwise only `label`.
    """

    label: str
    score: float
    scores: Mapping[str, float]
    labels: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """As plain data."""
        return {"label": self.label, "score": self.score, "labels": list(self.labels), "scores": dict(self.scores)}


@attrs.frozen
class WindowPrediction(Prediction):
    """The prediction for one window of a sound.

    Attributes:
        start: seconds from the beginning of the sound.
        end: seconds from the beginning of the sound.
    """

    start: float
    end: float

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
        values: its scores `(K,)`, or its embedding.
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
