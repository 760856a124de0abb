"""Intervals over groups: sums over N clips under R resamples of their groups, and the interval that these give.

Clips of one recording get similar scores, so they are not independent evidence. An interval therefore resamples groups,
not clips: the bootstrap of Efron and Tibshirani (An Introduction to the Bootstrap, 1993, chapter 13) with the group as
its unit (Davison and Hinkley, Bootstrap Methods and their Application, 1997, section 3.8). The weight of a clip is how
often its group was drawn, and sums over clips are weighted sums of the groups' sums. `interval` makes bounds of the
resampled values.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import cached_property, lru_cache
from statistics import NormalDist
from typing import Protocol

import attrs
import numpy as np
from numpy.typing import NDArray

__all__ = [
    "FEW_GROUPS",
    "LEVEL",
    "METHOD",
    "LeftOut",
    "Once",
    "Resamples",
    "SameDraws",
    "Weights",
    "effective_groups",
    "few",
    "interval",
]

Floats = NDArray[np.float64]
Codes = NDArray[np.int64]
Count = Callable[[Codes, int, Codes], Floats]

LEVEL = 0.95

METHOD = "bootstrap over groups, logit t for shares and expanded percentiles for other metrics"
"""The name of `interval` in a report."""

FEW_GROUPS = 20
"""With fewer groups, a report says what its intervals cannot promise."""

# The most kinds of group, and the most weights of clips or groups, in memory at a time; the most that are kept.
_KINDS = 1024
_WEIGHTS = 4_000_000
_KEPT = 16_000_000
_DRAWN = 100_000

# The most blocks of groups that a jackknife leaves out in turn; where groups are more, several are left out together.
_LEFT_OUT = 200


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

    @property
    def units(self) -> float:
        """How many groups of equal size are worth as much as these."""
        return effective_groups(self.group)

    def _draws(self, block: int) -> Iterator[Floats]:
        """How often each group was drawn, `(r, G)` for at most `block` resamples at a time."""
        block = max(1, block)
        if self._kept is None:
            yield from (drawn.astype(np.float64) for drawn in self._drawn(block))
        else:
            for first in range(0, self.resamples, block):
                yield self._kept[first : first + block].astype(np.float64)

    @cached_property
    def _kept(self) -> NDArray[np.uint16] | None:
        """All draws, `(R, G)`, if they are few enough to be kept from one metric to the next."""
        groups = int(self.group.max()) + 1
        if self.resamples * groups > _KEPT:
            return None
        kept = np.empty((self.resamples, groups), np.uint16)
        first = 0
        for drawn in self._drawn(max(1, _DRAWN // groups)):
            kept[first : first + len(drawn)] = drawn
            first += len(drawn)
        return kept

    def _drawn(self, block: int) -> Iterator[NDArray[np.int64]]:
        """Draw as many groups as there are, with replacement, for each resample."""
        random = np.random.default_rng(self.seed)
        groups = int(self.group.max()) + 1
        for first in range(0, self.resamples, block):
            size = min(block, self.resamples - first)
            places = random.integers(0, groups, size=(size, groups)) + groups * np.arange(size)[:, None]
            yield np.bincount(places.reshape(-1), minlength=size * groups).reshape(size, groups)


class SameDraws(Resamples):
    """Resamples whose `counts` use the draws of `sums` too, so that two models are resampled alike."""

    def counts(self, outcome: Codes, columns: int, count: Count) -> Floats:
        """See `Weights`."""
        table = count(self.group, int(self.group.max()) + 1, np.arange(len(self.group)))
        return np.concatenate([draws @ table for draws in self._draws(_WEIGHTS // len(table))])


@attrs.frozen
class LeftOut:
    """The jackknife: each weighting leaves out one group, or if they are many, one of 200 blocks of groups.

    Attributes:
        group: `(N,)`, the codes of the clips' groups, from 0 without a gap.
        seed: of the draw that puts groups into blocks.
    """

    group: Codes
    seed: int

    @cached_property
    def _block(self) -> Codes:
        """The block of each clip, `(N,)`."""
        groups = int(self.group.max()) + 1
        if groups <= _LEFT_OUT:
            return self.group
        block: Codes = np.random.default_rng(self.seed).permutation(groups)[self.group] % _LEFT_OUT
        return block

    def of_clips(self) -> Iterator[Floats]:
        """See `Weights`."""
        block, size = self._block, max(1, _WEIGHTS // len(self.group))
        for first in range(0, int(block.max()) + 1, size):
            left_out = np.arange(first, min(first + size, int(block.max()) + 1))
            yield (block != left_out[:, None]).astype(np.float64)

    def sums(self, values: NDArray[np.generic]) -> Floats:
        """See `Weights`."""
        table = np.stack([np.bincount(self._block, weights=column) for column in values.T], axis=1)
        sums: Floats = table.sum(axis=0) - table
        return sums

    def counts(self, outcome: Codes, columns: int, count: Count) -> Floats:
        """See `Weights`."""
        table = count(self._block, int(self._block.max()) + 1, np.arange(len(self._block)))
        counts: Floats = table.sum(axis=0) - table
        return counts


def interval(
    value: float, drawn: Floats, left_out: Floats, units: float, *, level: float = LEVEL, share: bool = False
) -> tuple[float, float]:
    """The bounds of the interval of a value.

    The percentile bootstrap is too narrow where groups are few. Hesterberg (What Teachers Should Know About the
    Bootstrap, The American Statistician 69, 2015) takes more extreme percentiles, at `Phi(-t sqrt(G / (G - 1)))` and
    `Phi(t sqrt(G / (G - 1)))`. Here t has the degrees of freedom of `units` groups, less one; and the factor is
    measured, as the ratio of the standard errors of jackknife and bootstrap: it is `sqrt(G / (G - 1))` for a mean over
    equal groups, and more for a mean over classes of which some have few groups (the jackknife is also the best of
    standard errors for few, unequal groups: MacKinnon, Nielsen and Webb, Journal of Econometrics 232, 2023). Resampling
    adds the bias of a metric a second time; the difference of the draws' mean and the value is taken off.

    A share varies less the nearer it is to 1, which percentiles do not know: where nearly every clip is right, they
    miss a true value below. So its interval is `t` standard errors wide on the logit scale, as for shares in surveys by
    clusters (Dean and Pagano, Evaluating Confidence Interval Methods for Binomial Proportions in Clustered Surveys,
    Journal of Survey Statistics and Methodology 3, 2015); its standard error is the bootstrap's times the same factor.

    Args:
        value: of the metric.
        drawn: `(R,)`, its values under the resamples.
        left_out: `(B,)`, its values with each group left out.
        units: how many equal groups the groups are worth.
        level: how often it is to contain the true value.
        share: whether the value is from 0 to 1, and no difference.

    Returns:
        The bounds, with the value between them.
    """
    wider = max(1.0, _standard_error(left_out) / max(float(drawn.std()), 1e-12))
    t = _student(level, max(1.0, units - 1)) * wider
    if share and 0 < value < 1:
        logit, reach = math.log(value / (1 - value)), t * float(drawn.std()) / (value * (1 - value))
        return _logistic(logit - reach), _logistic(logit + reach)
    tail = NormalDist().cdf(-t)
    low, high = np.quantile(drawn, [tail, 1 - tail]) - (drawn.mean() - value)
    return min(float(low), value), max(float(high), value)


def effective_groups(group: Codes) -> float:
    """How many groups of equal size are worth as much as those of clips with these codes: `(sum n_g)^2 / sum n_g^2`.

    It is Kish's effective sample size (Survey Sampling, 1965, section 11.7), from the clips `n_g` of each group.
    """
    sizes = np.bincount(group).astype(np.float64)
    return float(sizes.sum() ** 2 / (sizes**2).sum())


def few(groups: int) -> str | None:
    """What intervals over so few groups cannot promise; None if they are enough."""
    if not 1 < groups < FEW_GROUPS:
        return None
    return (
        f"the intervals are from {groups} groups: with fewer than {FEW_GROUPS}, the true value may lie outside more "
        f"often than in {1 - LEVEL:.0%} of tests, above all if the groups differ in kind or nearly every clip is right"
    )


def _logistic(logit: float) -> float:
    """The share of a logit."""
    return 0.5 * (1 + math.tanh(logit / 2))


def _standard_error(left_out: Floats) -> float:
    """The jackknife's, from the values without each of B blocks (Efron and Tibshirani, 1993, section 11.2)."""
    values, blocks = np.sort(left_out), len(left_out)  # sorted, so that rounding does not depend on the groups' order
    return float(np.sqrt((blocks - 1) / blocks * ((values - values.mean()) ** 2).sum()))


@lru_cache(maxsize=1024)
def _student(level: float, degrees: float) -> float:
    """The t within which Student's distribution has `level` of its mass on both sides of 0; `degrees` from 1 up.

    With `t = sqrt(degrees) tan(a)` its density is in proportion to `cos(a)^(degrees - 1)`, which is summed up by
    trapezoids over a, as finely as it is narrow.
    """
    angle = np.linspace(0, min(np.pi / 2, 12 / np.sqrt(degrees)), 20_001)
    density = np.cos(angle) ** (degrees - 1)
    mass = np.concatenate([[0.0], np.cumsum(density[1:] + density[:-1])])
    return float(np.sqrt(degrees) * np.tan(np.interp(level * mass[-1], mass, angle)))


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
