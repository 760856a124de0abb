"""What a classifier says: of a sound, of a window of it; and what goes by while sounds are judged."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from soundbench.errors import SoundError

__all__ = ["Ended", "Heard", "Prediction", "WindowPrediction"]

Values = NDArray[np.float32]


@attrs.frozen
class Prediction:
    """The judgement of one sound.

    Attributes:
        label: the class with the highest score.
        score: its score, in [0, 1].
        scores: every class and its score, highest first.
        labels: the classes that the sound is said to carry, highest first: of a multilabel model those whose score
            reaches their threshold, maybe none; else `label` alone.
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
    """The judgement of one window of a sound.

    Attributes:
        start: where it begins, in seconds.
        end: where it ends.
    """

    start: float
    end: float

    def to_dict(self) -> dict[str, Any]:
        """As plain data."""
        return {"start": self.start, "end": self.end, **super().to_dict()}


@attrs.frozen(eq=False)
class Heard:
    """A window that went through the network.

    Attributes:
        sound: which sound it is of, by its place among those given.
        start: where it begins, in seconds.
        end: where it ends.
        values: its scores `(K,)`, or its embedding.
    """

    sound: int
    start: float
    end: float
    values: Values


@attrs.frozen(eq=False)
class Ended:
    """The end of a sound, after its windows.

    Attributes:
        sound: which one.
        seconds: how much of it was judged.
        error: what is wrong with it; then its windows count for nothing.
    """

    sound: int
    seconds: float
    error: SoundError | None
