"""Pairs of sounds that may be of one recording: those whose fingerprints share triples of peaks at one lag.

A peak and two that follow it have a key of 32 bits: a bin, and the distances of the others in bins and frames. Sounds
that share keys are found by sorting, and those of one recording share several at the same lag (Wang 2003, section 2.2
and 2.3, with triples instead of pairs: one key in a hundred million is then alike by chance).

Work and memory are bounded: each entry is compared with the few that follow it among those of its key, so that sounds
that share a key by the thousand, such as tones, cost no more than others; of more than `MOST` keys a share is taken,
the same of each sound; and each sound has at most `BEST` candidates that follow it and as many before it.
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
SHARED = 3
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
    found: list[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]] = []
    for step in range(1, NEXT + 1):
        same = np.flatnonzero(keys[step:] == keys[:-step])
        found.append((sounds[same], sounds[same + step], frames[same].astype(np.int64) - frames[same + step]))
    firsts, seconds, lags = (np.concatenate(column) for column in zip(*found, strict=True))
    return _best(*_alike(firsts.astype(np.int64), seconds.astype(np.int64), lags))


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


def _alike(
    firsts: NDArray[np.int64], seconds: NDArray[np.int64], lags: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Of shared keys, the pairs that share enough at one lag: firsts, seconds, the lag of the most, and how many."""
    order = np.lexsort((lags, seconds, firsts))
    columns = [column[order] for column in (firsts, seconds, lags)]
    new = np.ones(len(order), dtype=bool)
    new[1:] = np.any([column[1:] != column[:-1] for column in columns], axis=0)
    starts = np.flatnonzero(new)
    counts = np.diff(np.append(starts, len(order)))
    firsts, seconds, lags = (column[starts] for column in columns)
    beside = (firsts[1:] == firsts[:-1]) & (seconds[1:] == seconds[:-1]) & (lags[1:] == lags[:-1] + 1)
    together = counts.copy()
    together[:-1] += counts[1:] * beside
    together[1:] += counts[:-1] * beside
    enough = np.flatnonzero(together >= SHARED)
    # The lag with the most keys of each pair comes first among its lags.
    order = enough[np.lexsort((lags[enough], -counts[enough], -together[enough], seconds[enough], firsts[enough]))]
    first = np.ones(len(order), dtype=bool)
    first[1:] = (firsts[order][1:] != firsts[order][:-1]) | (seconds[order][1:] != seconds[order][:-1])
    chosen = order[first]
    return firsts[chosen], seconds[chosen], lags[chosen], together[chosen]


def _best(
    firsts: NDArray[np.int64], seconds: NDArray[np.int64], lags: NDArray[np.int64], counts: NDArray[np.int64]
) -> Candidates:
    """The pairs that are among the best of one of their sounds."""
    kept = (_rank(firsts, seconds, counts) < BEST) | (_rank(seconds, firsts, counts) < BEST)
    return Candidates(np.stack([firsts[kept], seconds[kept]], axis=1), lags[kept])


def _rank(sounds: NDArray[np.int64], others: NDArray[np.int64], counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """The place of each pair among those of its sound, the one with the most shared keys first."""
    order = np.lexsort((others, -counts, sounds))
    ordered = sounds[order]
    rank = np.empty(len(order), dtype=np.int64)
    rank[order] = np.arange(len(order)) - np.searchsorted(ordered, ordered)
    return rank
