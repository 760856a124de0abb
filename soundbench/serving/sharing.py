"""Batches that several requests share: their windows are scored together, by one thread, in the order they came in.

A window waits for others at most 10 ms, and only while another request is at work that may bring some. Short sound and
long sound begin batches in turns, so that a clip does not wait for all the long recordings that came before it.
"""

from __future__ import annotations

import copy
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from soundbench.data.batches import RawBatch, pack
from soundbench.inference.batching.together import BATCH, MINUTE
from soundbench.inference.classifier import Classifier
from soundbench.serving.refusals import Gone

__all__ = ["SharedBatches"]

Values = NDArray[np.float32]

# Seconds that a window waits for others.
WAIT = 0.01
# Windows are scored together if the longest is at most so many times as long as the shortest: all are padded to it.
ALIKE = 2
# Windows of one request are short sound up to so many seconds together.
SHORT = 10


@attrs.define(eq=False)
class _Asked:
    """Windows that a request waits for."""

    raw: RawBatch
    until: float
    scores: Future[Values] = attrs.field(factory=Future)

    @property
    def rows(self) -> int:
        return int(self.raw.samples.shape[0])

    @property
    def width(self) -> int:
        return int(self.raw.samples.shape[1])

    @property
    def size(self) -> int:
        return self.rows * self.width


class SharedBatches:
    """Scores windows of several threads together.

    Args:
        classifier: whose scorer is shared.
        count: called with the number of windows of each batch.
    """

    def __init__(self, classifier: Classifier, count: Callable[[int], None] = lambda _rows: None) -> None:
        self._classifier, self._count = classifier, count
        self._most = MINUTE * classifier.rate  # samples of a batch, padding included
        self._changed = threading.Condition()
        self._queue: deque[_Asked] = deque()
        self._working = 0
        self._long = self._closed = False
        self._thread = threading.Thread(target=self._run, name="scoring", daemon=True)
        self._thread.start()

    def classifier(self, check: Callable[[RawBatch], None]) -> Classifier:
        """A classifier of the same model that shares batches; use it inside `working`.

        Args:
            check: called with each batch of windows before it is scored; raises where the work must end.
        """
        mine = copy.copy(self._classifier)
        mine.scorer = _SharedScorer(self, self._classifier.scorer, check)  # type: ignore[assignment]
        return mine

    @contextmanager
    def working(self) -> Iterator[None]:
        """In the body, windows may come from this thread, so that others wait for them for a moment."""
        self._add(1)
        try:
            yield
        finally:
            self._add(-1)

    def close(self) -> None:
        """Score what is waiting, and end the thread."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join()

    def rated(self, raw: RawBatch) -> Values:
        """As `Scorer.rated`, in a batch with the windows of others.

        Raises:
            Gone: all is closed.
        """
        asked = _Asked(raw, time.monotonic() + WAIT)
        with self._changed:
            if self._closed:
                raise Gone
            self._queue.append(asked)
            self._changed.notify_all()
        return asked.scores.result()

    def _add(self, count: int) -> None:
        with self._changed:
            self._working += count
            self._changed.notify_all()

    def _run(self) -> None:
        while together := self._next():
            try:
                self._count(sum(one.rows for one in together))
                scores = self._classifier.scorer.rated(_joined([one.raw for one in together]))
            except BaseException as error:  # the requests raise it, each for itself; the thread goes on
                for one in together:
                    one.scores.set_exception(error)
                continue
            done = 0
            for one in together:
                one.scores.set_result(scores[done : done + one.rows])
                done += one.rows

    def _next(self) -> list[_Asked]:
        """The windows to score next; none once all is done and closed."""
        with self._changed:
            while not self._queue and not self._closed:
                self._changed.wait()
            if not self._queue:
                return []
            until = self._queue[0].until
            while (left := until - time.monotonic()) > 0 and self._more_may_come():
                self._changed.wait(left)
            found = self._fitting()
            self._long = self._is_long(found[0])
            self._queue = deque(one for one in self._queue if one not in found)
            return found

    def _more_may_come(self) -> bool:
        """Whether another request is at work, and the batch has room."""
        found = self._fitting()
        return self._working > len(self._queue) and len(found) == len(self._queue) and self._room(found)

    def _room(self, found: list[_Asked]) -> bool:
        rows, width = sum(one.rows for one in found) + 1, max(one.width for one in found)
        return rows <= BATCH and rows * width <= self._most

    def _is_long(self, one: _Asked) -> bool:
        return one.size > SHORT * self._classifier.rate

    def _fitting(self) -> list[_Asked]:
        """The windows whose turn it is, and those that can be scored with them."""
        first = next((one for one in self._queue if self._is_long(one) != self._long), self._queue[0])
        found, rows, least, most = [first], first.rows, first.width, first.width
        for one in self._queue:
            total, low, high = rows + one.rows, min(least, one.width), max(most, one.width)
            if one is not first and total <= BATCH and total * high <= self._most and high <= ALIKE * low:
                found.append(one)
                rows, least, most = total, low, high
        return found


class _SharedScorer:
    """A scorer whose batches are shared; all else is of the scorer itself."""

    def __init__(self, shared: SharedBatches, scorer: Any, check: Callable[[RawBatch], None]) -> None:
        self._shared, self._scorer, self._check = shared, scorer, check

    def __getattr__(self, name: str) -> Any:
        return getattr(self._scorer, name)

    def rated(self, raw: RawBatch) -> Values:
        self._check(raw)
        return self._shared.rated(raw)


def _joined(raws: list[RawBatch]) -> RawBatch:
    """One batch of the windows of several."""
    if len(raws) == 1:
        return raws[0]
    rows = [
        row[:length]
        for raw in raws
        for row, length in zip(np.asarray(raw.samples), np.asarray(raw.lengths).tolist(), strict=True)
    ]
    scales = [scale for raw in raws for scale in np.asarray(raw.scales).tolist()]
    return pack(rows, scales, list(range(len(rows))), raws[0].target.shape[1])
