"""Windows of one sound or several, scored together in batches."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeAlias

import attrs
import numpy as np
from numpy.typing import NDArray

from soundbench.data.windowing.packing import RawBatch, pack
from soundbench.inference.predictions import EndOfSound, ScoredWindow
from soundbench.model.windows import Window

__all__ = ["BATCH", "MINUTE", "Bound", "scored"]

Values: TypeAlias = NDArray[np.float32]
Cut: TypeAlias = tuple[int, Window] | EndOfSound

# The default batch: the windows of so many seconds of sound, but at most so many windows; of windows under a second
# those of so many seconds, at most so many: what a batch costs whatever its size would be most of their time.
MINUTE, BATCH = 60, 32
SHORT, MANY = 32, 256


@attrs.frozen
class Bound:
    """How many windows are scored together.

    Attributes:
        batch: their number; None for those of a minute of sound, with what they are padded with, at most 32, or those
            of half a minute, at most 256.
        rate: the model's sample rate in Hz.
    """

    batch: int | None
    rate: int

    def allows(self, rows: int, longest: int) -> bool:
        """Whether so many windows are not too many, the longest of which has so many samples; one never is."""
        if self.batch is not None or rows == 1:
            return rows <= (self.batch or 1)
        size = rows * longest
        return size <= MINUTE * self.rate if rows <= BATCH else rows <= MANY and size <= SHORT * self.rate


def scored(
    cuts: Iterable[Cut], compute: Callable[[RawBatch], Values], bound: Bound, classes: int
) -> Iterator[ScoredWindow | EndOfSound]:
    """The windows with what is computed for them, and the ends of sounds, in order.

    Args:
        cuts: the windows of each sound with its number, followed by its end.
        compute: gives the windows of a batch one row each.
        bound: how many are in a batch.
        classes: the number of the model's classes.
    """
    waiting: list[Cut] = []
    rows = longest = 0
    for cut in cuts:
        size = 0 if isinstance(cut, EndOfSound) else len(cut[1].samples)
        if size and rows and not bound.allows(rows + 1, max(longest, size)):
            yield from _through(waiting, compute, bound.rate, classes)
            waiting, rows, longest = [], 0, 0
        waiting.append(cut)
        rows, longest = rows + (size > 0), max(longest, size)
        full = not bound.allows(rows + 1, longest) if size else len(waiting) > 4 * (bound.batch or MANY)
        if full or not rows:
            yield from _through(waiting, compute, bound.rate, classes)
            waiting, rows, longest = [], 0, 0
    yield from _through(waiting, compute, bound.rate, classes)


def _through(
    waiting: list[Cut], compute: Callable[[RawBatch], Values], rate: int, classes: int
) -> Iterator[ScoredWindow | EndOfSound]:
    """Score the waiting windows together, and yield them with the ends of sounds, in order."""
    cuts = [cut for cut in waiting if not isinstance(cut, EndOfSound)]
    if cuts:
        rows, scales = [window.samples for _, window in cuts], [window.scale for _, window in cuts]
        values = iter(compute(pack(rows, scales, list(range(len(cuts))), classes)))
    for one in waiting:
        if isinstance(one, EndOfSound):
            yield one
        else:
            start, stop = one[1].start, one[1].start + len(one[1].samples)
            yield ScoredWindow(one[0], start / rate, stop / rate, next(values))
