"""Fill a pool with the sounds of a table that it lacks: in threads, beside any number of other processes.

The sounds of a table are cut into pieces, the same ones in every process that has the table; where the dataset has its
sound in shards, a piece is what a shard holds, which a thread reads in one pass. A process reads the pieces whose locks
it gets, into a shard of its own, then waits for those that others hold: what one of them did not finish, since it was
killed, is read here.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator
from itertools import chain

import attrs
import numpy as np
from numpy.typing import NDArray

from soundbench.data.shards.pool import Pool
from soundbench.data.shards.shard import Writer
from soundbench.data.sounds import Sounds
from soundbench.data.windowing.quantizing import Quantized, quantize
from soundbench.errors import SoundError
from soundbench.machine import cores
from soundbench.messages import megabytes
from soundbench.sources.threads import interleaved
from soundbench.terminal import PATIENCE, Throttle

__all__ = ["Filling"]

# Sounds of a piece, at most, and pieces of a table, at least, if it has as many sounds.
PIECE, PIECES = 64, 32

Say = Callable[[str], None]


@attrs.frozen
class _Item:
    """A sound to be read: its number, and its piece if it is the last one of it."""

    number: int
    ends: int | None


class Filling:
    """The sounds that a pool lacks, while they are read into it.

    Args:
        pool: the pool, whose contents were just looked at.
        sounds: the sounds of a table.
        missing: the numbers of those that the pool lacks.
        say: called with progress messages.
        workers: threads; None for one per core.

    Attributes:
        errors: why sounds could not be read, by their number.
        done: the number of sounds that this process has read, or tried to.
        samples: the number of their samples.
    """

    def __init__(self, pool: Pool, sounds: Sounds, missing: NDArray[np.int64], say: Say, workers: int | None) -> None:
        self.pool, self.sounds, self.say, self.workers = pool, sounds, say, workers
        self.wanted = np.zeros(len(sounds), dtype=bool)
        self.wanted[missing] = True
        self.total = self.left = len(missing)
        self.edges = _edges(sounds)
        self.order = np.argsort(sounds.keys, kind="stable")
        self.errors: dict[int, str] = {}
        self.done = self.samples = 0
        self._throttle, self._table = Throttle(), sounds.key
        self._held: dict[int, contextlib.ExitStack] = {}
        self._writing = contextlib.ExitStack()
        self._writer: Writer | None = None

    @property
    def expected_bytes(self) -> int:
        """The size of all that was missing, as far as what was read of it tells."""
        return 2 * self.samples * self.total // max(self.done, 1)

    def run(self) -> None:
        """Read them all, or wait for the processes that do.

        Raises:
            OSError: the pool cannot be written; what is committed stays.
        """
        began = time.monotonic()
        pieces = np.unique(np.searchsorted(self.edges, np.flatnonzero(self.wanted), "right") - 1).tolist()
        try:
            held_elsewhere = self._unfinished(self._read(pieces))
            if held_elsewhere:
                self.say(f"sound: waiting for another process, which reads it into {self.pool.folder}")
            for piece in held_elsewhere:
                self._read([piece], wait=True)
        finally:
            for stack in self._held.values():
                stack.close()
            self._writing.close()
        if self.samples:
            seconds, took = self.samples / self.sounds.rate, time.monotonic() - began
            self.say(f"sound: {seconds:,.0f} s of sound read in {took:.0f} s, {megabytes(2 * self.samples)}")

    def _read(self, pieces: Iterable[int], wait: bool = False) -> list[int]:
        """Read pieces; returns those that other processes hold. Never waits for one while it holds another."""
        elsewhere: list[int] = []
        read: list[int] = []
        claimed = self._claimed(pieces, wait, elsewhere)
        if self.sounds.shards is None:
            stream = self.sounds.spread(self._load, chain.from_iterable(claimed), self.workers)
        else:
            threads = (self.workers or cores()) if self.sounds.by_threads else 1
            stream = interleaved(self._load_shard, claimed, threads)
        with contextlib.closing(stream):
            for item, sound in stream:
                self._keep(item.number, sound)
                if item.ends is not None:
                    read.append(item.ends)
                if self._writer is None or not self._writer.behind:
                    self._release(read)
        if self._writer:
            self._writer.commit()
        self._release(read)
        return elsewhere

    def _unfinished(self, pieces: list[int]) -> list[int]:
        """Those of the pieces of which sounds are missing still."""
        if pieces:
            self._look_again()
        return [piece for piece in pieces if self.wanted[self.edges[piece] : self.edges[piece + 1]].any()]

    def _release(self, read: list[int]) -> None:
        """Give back the locks of pieces that are committed."""
        for piece in read:
            self._held.pop(piece).close()
        read.clear()

    def _claimed(self, pieces: Iterable[int], wait: bool, elsewhere: list[int]) -> Iterator[list[_Item]]:
        """Of each piece whose lock can be had, the sounds that are still missing; in the dataset's order."""
        for piece in pieces:
            stack = contextlib.ExitStack()
            if not stack.enter_context(self.pool.piece(f"{self._table}-{piece}", wait)):
                elsewhere.append(piece)
                continue
            self._held[piece] = stack
            self._look_again()
            first = self.edges[piece]
            numbers = first + np.flatnonzero(self.wanted[first : self.edges[piece + 1]])
            if not len(numbers):
                self._held.pop(piece).close()
                continue
            numbers = numbers[np.argsort(self.sounds.rows[numbers])]
            yield [_Item(number, piece if number == numbers[-1] else None) for number in numbers.tolist()]

    def _look_again(self) -> None:
        """Strike out what other processes have read."""
        found = self.pool.news()["key"]
        keys = self.sounds.keys
        at = np.searchsorted(keys, found, sorter=self.order)
        at = self.order[at[at < len(keys)]]
        known = at[np.isin(keys[at], found)]
        self.wanted[known] = False
        self.left = int(self.wanted.sum())

    def _load(self, item: _Item) -> tuple[_Item, Quantized | SoundError]:
        try:
            return item, quantize(self.sounds.load(item.number))
        except SoundError as error:
            return item, error

    def _load_shard(self, items: list[_Item]) -> Iterator[tuple[_Item, Quantized | SoundError]]:
        sounds = self.sounds.load_many(item.number for item in items)
        for item, sound in zip(items, sounds, strict=True):
            yield item, sound if isinstance(sound, SoundError) else quantize(sound)

    def _keep(self, number: int, sound: Quantized | SoundError) -> None:
        """Write a sound, or note why it cannot be read."""
        self.wanted[number], self.left, self.done = False, self.left - 1, self.done + 1
        if isinstance(sound, SoundError):
            self.errors[number] = sound.reason
        else:
            samples, scale = sound
            self.samples += len(samples)
            if self._writer is None or not self._writer.has_room(samples):
                self._change_shard(2 * len(samples))
            assert self._writer is not None
            self._writer.add(self.sounds.keys[number], samples, scale)
        if self._throttle.due(PATIENCE):
            self.say(f"sound: {self.total - self.left:,} of {self.total:,} read")

    def _change_shard(self, needed: int) -> None:
        """Take another shard to write, with room for so many bytes."""
        if self._writer:
            self._writer.commit()
        self._writing.close()
        self._writer = self._writing.enter_context(self.pool.writer(needed))


def _edges(sounds: Sounds) -> NDArray[np.int64]:
    """The number of the first sound of each piece, and of all sounds, `(P + 1,)`."""
    if sounds.shards is not None:
        firsts = np.flatnonzero(np.diff(sounds.shards, prepend=-1))
    else:
        firsts = np.arange(0, len(sounds), max(1, min(PIECE, len(sounds) // PIECES)))
    return np.append(firsts, len(sounds))
