"""The pairs of sounds of a dataset that are of one recording: fingerprints, candidates, and each looked at."""

from __future__ import annotations

from collections import OrderedDict
from threading import Lock

import attrs
import numpy as np
from numpy.typing import NDArray

from soundbench.data.likeness.candidates import candidates
from soundbench.data.likeness.coherence import Likeness, Samples, compare
from soundbench.data.likeness.fingerprint import HOP, NONE, Fingerprints, at_rate
from soundbench.data.sounds import Sounds
from soundbench.errors import SoundError

__all__ = ["NearDuplicates", "near_duplicates", "once"]

# Samples of sounds that are kept for the next pairs: 64 MB.
KEPT = 16_000_000


@attrs.frozen(eq=False)
class NearDuplicates:
    """P pairs of sounds of one recording, whose samples differ.

    Attributes:
        pairs: two numbers of `Sounds`, the smaller first, `(P, 2)`; in ascending order.
        likenesses: how alike the two of each pair are.
    """

    pairs: NDArray[np.int64]
    likenesses: tuple[Likeness, ...]

    def __len__(self) -> int:
        return len(self.likenesses)


def near_duplicates(sounds: Sounds, prints: Fingerprints) -> NearDuplicates:
    """The near duplicates among sounds.

    Each candidate is read again, those of a pair one after the other, and compared; sounds that many pairs share are
    kept. So memory grows by the fingerprints alone, and time by what is alike.

    Args:
        sounds: the sounds.
        prints: their fingerprints, in their order; none for a sound that has the same samples as another one, or cannot
            be read.
    """
    found = candidates(prints)
    reader = _Reader(sounds)

    def look(place: int) -> Likeness | None:
        one, other = (reader.read(number) for number in found.pairs[place].tolist())
        return compare(one, other, int(found.lags[place]) * HOP)

    looked = enumerate(sounds.spread(look, range(len(found))))
    alike = [(place, likeness) for place, likeness in looked if likeness is not None]
    return NearDuplicates(found.pairs[[place for place, _ in alike]], tuple(likeness for _, likeness in alike))


def once(prints: Fingerprints, digests: NDArray[np.uint64]) -> Fingerprints:
    """The fingerprints of sounds, each distinct one once: the later ones with the same digest, `(M, 2)`, have none."""
    firsts = np.zeros(len(prints), dtype=bool)
    firsts[np.unique(digests, axis=0, return_index=True)[1]] = True
    if firsts.all():
        return prints
    found = Fingerprints()
    for number in range(len(prints)):
        found.add(prints[number] if firsts[number] else NONE)
    return found


class _Reader:
    """Reads sounds at 8 kHz, and keeps the last ones."""

    def __init__(self, sounds: Sounds) -> None:
        self.sounds = sounds
        self.kept: OrderedDict[int, Samples] = OrderedDict()
        self.size, self.lock = 0, Lock()

    def read(self, number: int) -> Samples:
        """The samples of a sound, `(S,)`; none if it can no longer be read."""
        with self.lock:
            if number in self.kept:
                self.kept.move_to_end(number)
                return self.kept[number]
        try:
            samples = at_rate(*self.sounds.native(number, lambda _: None))
        except SoundError:
            samples = np.empty(0, np.float32)
        with self.lock:
            if number not in self.kept:
                self.kept[number] = samples
                self.size += len(samples)
            while self.size > KEPT and self.kept:
                self.size -= len(self.kept.popitem(last=False)[1])
        return samples
