"""Tables of given or drawn clips, for tests that read no sound."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from soundbench.contracts import Clip
from soundbench.data.clips import ClipTable


class Listed:
    """A dataset of given clips."""

    def __init__(self, clips: Sequence[Clip], classes: Sequence[str], multilabel: bool) -> None:
        self.classes, self.multilabel, self.given = classes, multilabel, clips

    def clips(self) -> Iterator[Clip]:
        yield from self.given


def table_of(clips: Sequence[Clip], classes: Sequence[str] = ("a", "b", "c"), multilabel: bool = False) -> ClipTable:
    return ClipTable.of(Listed(clips, classes, multilabel))


def some_clips(seed: int) -> list[Clip]:
    """Some 600 clips of three unequal classes in groups of 1 to 30, a few of which cross folds and classes."""
    draws = np.random.default_rng(seed)
    clips = []
    for group in range(120):
        label = str(draws.choice(["a", "b", "c"], p=[0.6, 0.3, 0.1]))
        fold = int(draws.integers(1, 6))
        for _ in range(1 + int(draws.exponential(4)) % 30):
            crosses = group % 17 == 0 and draws.uniform() < 0.5
            other = str(draws.choice(["a", "b", "c"])) if crosses else label
            clips.append(Clip(f"{len(clips)}.wav", (other,), fold=fold % 5 + 1 if crosses else fold, group=f"g{group}"))
    return clips
