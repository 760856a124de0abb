"""Which found events are which annotated ones: by their onsets, by their overlap, or second by second.

An event and an annotation of one class may be a pair, and each is in one pair at most: a maximum matching, so that the
order of events does not matter. As sed_eval does (Mesaros, Heittola and Virtanen, Metrics for Polyphonic Sound Event
Detection, Applied Sciences 6, 2016), onsets are a pair if they differ by at most a collar. Overlap is that of the DCASE
challenge's task on bioacoustic events (Nolasco et al., Learning to detect an animal sound from five examples,
Ecological Informatics 77, 2023): the time that both have in common, as a share of the time that either has.

Spans are `(N, 2)` float64, start and end in seconds.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["Spans", "by_onset", "by_overlap", "in_common", "spans_of"]

Spans = NDArray[np.float64]
Pairs = NDArray[np.int64]

# Of times that are given in decimals, such as a difference of 0.2 s, which no sum of floats is exactly.
ROUNDING = 1e-9


def spans_of(pairs: Sequence[tuple[float, float]]) -> Spans:
    """Spans from pairs of start and end."""
    return np.array(pairs, np.float64).reshape(-1, 2)


def by_onset(annotated: Spans, found: Spans, collar: float) -> Pairs:
    """The event of each annotation, `(N,)`, -1 for none: those whose onsets differ by at most `collar` seconds."""
    near = [np.flatnonzero(np.abs(found[:, 0] - start) <= collar + ROUNDING) for start in annotated[:, 0]]
    return _most_pairs(near, len(found))


def by_overlap(annotated: Spans, found: Spans, share: float) -> Pairs:
    """The event of each annotation, `(N,)`, -1 for none: those whose overlap is at least `share`."""
    near = []
    for start, end in annotated:
        both = np.minimum(found[:, 1], end) - np.maximum(found[:, 0], start)
        either = np.maximum(found[:, 1], end) - np.minimum(found[:, 0], start)
        near.append(np.flatnonzero((both > 0) & (both >= share * either - ROUNDING)))
    return _most_pairs(near, len(found))


def in_common(annotated: Spans, found: Spans) -> tuple[float, float, float]:
    """The seconds that are in both, in any annotation and in any event; time in several of a kind counts once."""
    one, other = _joined(annotated), _joined(found)
    if not len(one) or not len(other):
        return 0.0, _length(one), _length(other)
    edges = np.unique(np.concatenate([one.ravel(), other.ravel()]))
    middles = (edges[1:] + edges[:-1]) / 2
    both = _covers(one, middles) & _covers(other, middles)
    return float(np.diff(edges)[both].sum()), _length(one), _length(other)


def _joined(spans: Spans) -> Spans:
    """The stretches that spans cover together, in order."""
    if not len(spans):
        return spans
    spans = spans[np.argsort(spans[:, 0], kind="stable")]
    until = np.maximum.accumulate(spans[:, 1])
    first = np.flatnonzero(np.append(True, spans[1:, 0] > until[:-1]))
    last = np.append(first[1:] - 1, len(spans) - 1)
    return np.stack([spans[first, 0], until[last]], axis=1)


def _covers(spans: Spans, times: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Whether each time is within one of the spans, which are in order and apart."""
    place = np.searchsorted(spans[:, 0], times, "right") - 1
    inside: NDArray[np.bool_] = (place >= 0) & (times < spans[np.maximum(place, 0), 1])
    return inside


def _length(spans: Spans) -> float:
    return float((spans[:, 1] - spans[:, 0]).sum())


def _most_pairs(near: Sequence[NDArray[np.int64]], count: int) -> Pairs:
    """A maximum matching, by augmenting paths (Berge, Two theorems in graph theory, 1957).

    Args:
        near: of each row, which columns it may be paired with.
        count: the number of columns.

    Returns:
        The column of each row, -1 for none.
    """
    column_of, row_of = np.full(len(near), -1), np.full(count, -1)
    for row in range(len(near)):
        before: dict[int, int] = {}  # the row from which each column was reached
        waiting = deque([row])
        while waiting:
            at = waiting.popleft()
            for column in near[at].tolist():
                if column not in before:
                    before[column] = at
                    if row_of[column] < 0:
                        _augment(column, before, column_of, row_of)
                        waiting.clear()
                        break
                    waiting.append(int(row_of[column]))
    return column_of


def _augment(column: int, before: dict[int, int], column_of: Pairs, row_of: Pairs) -> None:
    """Pair the rows on the way to a free column with the next column each."""
    while column >= 0:
        row = before[column]
        row_of[column], column_of[row], column = row, column, int(column_of[row])
