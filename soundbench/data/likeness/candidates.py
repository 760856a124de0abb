"""Pairs of sounds that may be of one recording: those whose fingerprints share triples of peaks at one lag.

A peak and two that follow it have a key of 32 bits: a bin, and the distances of the others in bins and frames. Sounds
that share keys are found by sorting, and those of one recording share several at the same lag (Wang 2003, section 2.2
and 2.3, with triples instead of pairs: one key in a hundred million is then alike by chance).

Work and memory are bounded: each entry is compared with the few that follow it among those of its key, so that sounds
that share a key by the thousand, such as tones, cost no more than others; of more than `MOST` keys a share is taken,
the same of each sound; and a pair is a candidate only if it is among the `BEST` of one of its sounds.
"""

from __future__ import annotations

from collections.abc import Iterator

import attrs
import numpy as np
from numpy.typing import NDArray

from soundbench.data.likeness.fingerprint import Fingerprints

__all__ = ["Candidates", "candidates"]

# A peak is combined with the first of those that follow it so closely, in frames and bins.
TARGETS, LATEST, FARTHEST = 4, 31, 63
# Of how many peaks that follow these are sought.
AHEAD = 24
# Keys that two sounds must share at one lag, give or take a frame.
SHARED = 2
# Entries of a key that an entry is compared with, candidates of a sound.
NEXT, BEST = 8, 8
# Keys that are compared at most, 12 bytes each and as much again for sorting; and peaks to make keys of together.
MOST, TOGETHER = 24_000_000, 1 << 20


@attrs.frozen(eq=False)
class Candidates:
    """C pairs of sounds.

    Attributes:
        pairs: two sounds, the smaller number first, `(C, 2)`; in ascending order.
        lags: how many frames later the second one begins in the first one, `(C,)`; negative if it begins before.
    """

    pairs: NDArray[np.int64]
    lags: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.lags)


def candidates(prints: Fingerprints) -> Candidates:
    """The pairs of sounds whose fingerprints are alike; a sound without peaks is in none."""
    keys, sounds, frames = _sorted(prints)
    found = _Shared.none()
    for step in range(1, NEXT + 1):
        same = np.flatnonzero(keys[step:] == keys[:-step])
        lags = frames[same].astype(np.int64) - frames[same + step]
        shared = _Shared(sounds[same].astype(np.int64), sounds[same + step].astype(np.int64), lags, np.ones_like(lags))
        found = found.with_more(shared)
    return _best(found.alike())


def _sorted(
    prints: Fingerprints,
) -> tuple[NDArray[np.uint32], NDArray[np.int32], NDArray[np.int32]]:
    """All keys in ascending order, those of one key by sound, each once a sound: keys, sounds and frames."""
    share = min(1.0, MOST / max(1, len(prints.bins) * TARGETS * (TARGETS - 1) // 2))
    parts = list(_keys(prints, share))
    if not parts:
        return np.empty(0, np.uint32), np.empty(0, np.int32), np.empty(0, np.int32)
    keys, sounds, frames = (np.concatenate(column) for column in zip(*parts, strict=True))
    order = np.argsort(keys.astype(np.uint64) << 32 | sounds.astype(np.uint64), kind="stable")
    keys, sounds, frames = keys[order], sounds[order], frames[order]
    new = np.ones(len(keys), dtype=bool)
    new[1:] = (keys[1:] != keys[:-1]) | (sounds[1:] != sounds[:-1])
    return keys[new], sounds[new], frames[new]


def _keys(
    prints: Fingerprints, share: float
) -> Iterator[tuple[NDArray[np.uint32], NDArray[np.int32], NDArray[np.int32]]]:
    """A share of the keys of all sounds, in blocks of sounds: keys, sounds, and frames of the first peak."""
    offsets, limit = prints.offsets, np.uint32(min(round(share * 2**32), 2**32 - 1))
    begin = 0
    while begin < len(prints):
        end = max(begin + 1, int(np.searchsorted(offsets, offsets[begin] + TOGETHER, side="right")) - 1)
        part = slice(int(offsets[begin]), int(offsets[end]))
        sounds = np.repeat(np.arange(begin, end, dtype=np.int32), np.diff(offsets[begin : end + 1]))
        for keys, places in _triples(prints.frames[part], prints.bins[part].astype(np.int32), sounds):
            mixed = keys * np.uint32(2654435761)  # Knuth's multiplier spreads the share over all keys
            mixed ^= mixed >> np.uint32(15)
            kept = mixed * np.uint32(2246822519) <= limit
            yield keys[kept], sounds[places[kept]], prints.frames[part][places[kept]]
        begin = end


def _triples(
    frames: NDArray[np.int32], bins: NDArray[np.int32], sounds: NDArray[np.int32]
) -> Iterator[tuple[NDArray[np.uint32], NDArray[np.int64]]]:
    """For each two of the `TARGETS`, the keys and the places of their first peaks."""
    count = len(frames)
    later = np.zeros((TARGETS, count), dtype=np.int32)
    higher = np.zeros((TARGETS, count), dtype=np.int32)
    have = np.zeros(count, dtype=np.int32)
    for step in range(1, min(AHEAD, count - 1) + 1):
        apart, rise = frames[step:] - frames[:-step], bins[step:] - bins[:-step]
        near = (sounds[step:] == sounds[:-step]) & (apart > 0) & (apart <= LATEST) & (np.abs(rise) <= FARTHEST)
        places = np.flatnonzero(near & (have[:-step] < TARGETS))
        later[have[places], places], higher[have[places], places] = apart[places], rise[places] + FARTHEST
        have[places] += 1
    for second in range(1, TARGETS):
        places = np.flatnonzero(have > second)
        for first in range(second):
            key = bins[places].astype(np.uint32)
            for target in (first, second):
                key = key << np.uint32(12) | (higher[target, places] << 5 | later[target, places]).astype(np.uint32)
            yield key, places


@attrs.frozen(eq=False)
class _Shared:
    """How many keys two sounds share at a lag: columns `(n,)`, in the order of the sounds and the lag, each once."""

    firsts: NDArray[np.int64]
    seconds: NDArray[np.int64]
    lags: NDArray[np.int64]
    counts: NDArray[np.int64]

    @classmethod
    def none(cls) -> _Shared:
        return cls(*(np.empty(0, np.int64) for _ in range(4)))

    def with_more(self, more: _Shared) -> _Shared:
        """These and others, which may be in any order, added up."""
        pairs = zip(attrs.astuple(self, recurse=False), attrs.astuple(more, recurse=False), strict=True)
        columns = [np.concatenate(pair) for pair in pairs]
        order = np.lexsort(columns[2::-1])
        columns = [column[order] for column in columns]
        new = np.ones(len(order), dtype=bool)
        new[1:] = np.any([column[1:] != column[:-1] for column in columns[:3]], axis=0)
        starts = np.flatnonzero(new)
        counts = np.add.reduceat(columns[3], starts) if len(starts) else columns[3]
        firsts, seconds, lags = (column[starts] for column in columns[:3])
        return _Shared(firsts, seconds, lags, counts)

    def alike(self) -> _Shared:
        """Each pair that shares enough keys at one lag, give or take a frame, at the lag of the most of them."""
        pairs = np.stack([self.firsts, self.seconds], axis=1)
        beside = (pairs[1:] == pairs[:-1]).all(axis=1) & (self.lags[1:] == self.lags[:-1] + 1)
        together = self.counts.copy()
        together[:-1] += self.counts[1:] * beside
        together[1:] += self.counts[:-1] * beside
        enough = np.flatnonzero(together >= SHARED)
        keys = (self.lags, -self.counts, -together, self.seconds, self.firsts)
        order = enough[np.lexsort([key[enough] for key in keys])]
        first = np.ones(len(order), dtype=bool)
        first[1:] = (pairs[order][1:] != pairs[order][:-1]).any(axis=1)
        chosen = order[first]
        return _Shared(self.firsts[chosen], self.seconds[chosen], self.lags[chosen], together[chosen])


def _best(found: _Shared) -> Candidates:
    """The pairs that are among the best of one of their sounds."""
    of_first, of_second = (
        _rank(one, other, found.counts) < BEST
        for one, other in ((found.firsts, found.seconds), (found.seconds, found.firsts))
    )
    kept = of_first | of_second
    return Candidates(np.stack([found.firsts[kept], found.seconds[kept]], axis=1), found.lags[kept])


def _rank(sounds: NDArray[np.int64], others: NDArray[np.int64], counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """The place of each pair among those of its sound, the one with the most shared keys first."""
    order = np.lexsort((others, -counts, sounds))
    ordered = sounds[order]
    rank = np.empty(len(order), dtype=np.int64)
    rank[order] = np.arange(len(order)) - np.searchsorted(ordered, ordered)
    return rank
