"""The bootstrap over groups: sums over N clips, under R resamples of their groups.

Clips of one recording get similar scores, so they are not independent evidence. An interval therefore resamples groups,
not clips: the percentile bootstrap of Efron and Tibshirani (An Introduction to the Bootstrap, 1993, chapter 13) with
the group as its unit (Davison and Hinkley, Bootstrap Methods and their Application, 1997, section 3.8). The weight of a
clip is how often its group was drawn, and sums over clips are weighted sums of the groups' sums.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol

import attrs
import numpy as np
from numpy.typing import NDArray

__all__ = ["LEVEL", "Once", "Resamples", "Weights", "percentiles"]

Floats = NDArray[np.float64]
Codes = NDArray[np.int64]
Count = Callable[[Codes, int, Codes], Floats]

LEVEL = 0.95

# The most kinds of group, and the most weights of clips or groups, in memory at a time.
_KINDS = 1024
_WEIGHTS = 4_000_000


class Weights(Protocol):
    """R weightings of N clips."""

    def of_clips(self) -> Iterator[Floats]:
        """The weight of each clip, `(r, N)` for some weightings at a time, R in all."""

    def sums(self, values: NDArray[np.generic]) -> Floats:
        """Weighted sums over the clips of each column of `(N, M)`, under each weighting: `(R, M)`."""

    def counts(self, outcome: Codes, columns: int, count: Count) -> Floats:
        """Counts under each weighting, `(R, M)`, where a clip's outcome alone decides in which columns it counts.

        Args:
            outcome: `(N,)` codes.
            columns: M.
            count: gives the counts of each unit `(units, M)`, from the units that some clips belong to `(n,)`, how many
                units there are, and which clips these are `(n,)`.
        """


@attrs.frozen
class Once:
    """A single weighting: each clip has weight 1."""

    clips: int

    def of_clips(self) -> Iterator[Floats]:
        """See `Weights`."""
        yield np.ones((1, self.clips))

    def sums(self, values: NDArray[np.generic]) -> Floats:
        """See `Weights`."""
        sums: Floats = values.sum(axis=0, keepdims=True, dtype=np.float64)
        return sums

    def counts(self, outcome: Codes, columns: int, count: Count) -> Floats:
        """See `Weights`."""
        return count(np.zeros(self.clips, np.int64), 1, np.arange(self.clips))


@attrs.frozen
class Resamples:
    """Resamples of groups: the weight of a clip is how often its group was drawn.

    The draws are the same at every call, and memory does not grow with their number. `of_clips` and `sums` use the same
    draws, so that metrics may use both; `counts` uses other ones, which are quicker.

    Attributes:
        group: `(N,)`, the codes of the clips' groups, from 0 without a gap.
        resamples: R.
        seed: of the draws.
    """

    group: Codes
    resamples: int
    seed: int

    def of_clips(self) -> Iterator[Floats]:
        """See `Weights`."""
        for draws in self._draws(_WEIGHTS // len(self.group)):
            yield draws[:, self.group]

    def sums(self, values: NDArray[np.generic]) -> Floats:
        """See `Weights`."""
        table = np.stack([np.bincount(self.group, weights=column) for column in values.T], axis=1)
        return np.concatenate([draws @ table for draws in self._draws(_WEIGHTS // len(table))])

    def counts(self, outcome: Codes, columns: int, count: Count) -> Floats:
        """See `Weights`.

        Groups with the same counts are of one kind and are drawn together: where every clip is its own group, thousands
        of groups are a handful of kinds. Kinds are drawn block by block, each block with its share of the draws, so
        that memory does not grow with the groups.
        """
        random = np.random.default_rng(self.seed)
        groups = int(self.group.max()) + 1
        kind, copies = _kinds(outcome, self.group, groups, random)
        kinds = int(copies.size)
        starts = np.arange(0, kinds, _KINDS)
        shares = np.add.reduceat(copies, starts)
        drawn = random.multinomial(groups, shares / shares.sum(), size=self.resamples)
        totals = np.zeros((self.resamples, columns))
        order = np.argsort(kind, kind="stable")
        edges = np.searchsorted(kind[order], np.append(starts, kinds))
        for block, start in enumerate(starts.tolist()):
            size = min(_KINDS, kinds - start)
            rows = order[edges[block] : edges[block + 1]]
            weights = random.multinomial(drawn[:, block], copies[start : start + size] / shares[block])
            totals += weights.astype(np.float64) @ count(kind[rows] - start, size, rows)
        return totals

    def _draws(self, block: int) -> Iterator[Floats]:
        """How often each group was drawn, `(r, G)` for at most `block` resamples at a time."""
        random = np.random.default_rng(self.seed)
        groups = int(self.group.max()) + 1
        block = max(1, block)
        for first in range(0, self.resamples, block):
            size = min(block, self.resamples - first)
            yield random.multinomial(groups, np.full(groups, 1 / groups), size=size).astype(np.float64)


def percentiles(drawn: Floats) -> tuple[float, float]:
    """The bounds of the middle `LEVEL` of a metric's values under the resamples."""
    low, high = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def _kinds(outcome: Codes, group: Codes, groups: int, random: np.random.Generator) -> tuple[Codes, Codes]:
    """The kind that each clip represents, `(N,)`, and the number of groups of each kind.

    Groups are of one kind if they have the same outcomes equally often. A kind is identified by the sum of random
    64-bit numbers, one for each outcome, modulo 2**64. One group represents each kind; clips of the others have -1.
    """
    _, outcome = np.unique(outcome, return_inverse=True)
    numbers = random.integers(0, 2**64, size=int(outcome.max()) + 1, dtype=np.uint64)
    sums = np.zeros(groups, np.uint64)
    np.add.at(sums, group, numbers[outcome.reshape(-1)])
    _, first, copies = np.unique(sums, return_index=True, return_counts=True)
    kind = np.full(groups, -1, np.int64)
    kind[first] = np.arange(first.size)
    return kind[group], copies
