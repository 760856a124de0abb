"""Sound that is not kept on disk: a few shards of the dataset are decoded in memory, and read again when others were.

Lengths and digests of all sounds are taken by one pass through the shards, and kept in the cache folder, in a file for
each shard:

    lengths-.../....journal           the records of its sounds, as in the journal of a pool, without their samples
    lengths-.../piece-lengths.lock    held by the process that takes them, for which others wait
"""

from __future__ import annotations

import contextlib
import hashlib
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from threading import Lock
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from soundbench import files
from soundbench.data.samples import Store
from soundbench.data.shards import shard
from soundbench.data.shards.pool import Placed, name_of
from soundbench.data.shards.shard import RECORD, Records
from soundbench.data.sounds import Sounds
from soundbench.data.windowing.quantizing import quantize
from soundbench.errors import DataError, SoundError
from soundbench.machine import cores
from soundbench.sources.threads import in_threads, interleaved

__all__ = ["PREFIX", "Unkept", "unkept"]

PREFIX = "lengths-"

Say = Callable[[str], None]


class Unkept(Store):
    """A store whose samples are read from the dataset's shards, of which `most` are in memory at a time."""

    def __init__(
        self, path: Path, placed: Placed, reasons: Mapping[int, str], sounds: NDArray[np.int32], decoded: _Decoded
    ) -> None:
        super().__init__(path, placed, reasons, sounds)
        self._decoded = decoded

    def each_sound(self) -> Unkept:
        """The same samples with a row for each sound."""
        every = np.arange(len(self._placed.lengths), dtype=np.int32)
        return Unkept(self.path, self._placed, self._reasons, every, self._decoded)

    @property
    def _shards(self) -> _Decoded:  # type: ignore[override]
        return self._decoded

    def gather(
        self, rows: NDArray[np.integer], starts: NDArray[np.integer], counts: NDArray[np.integer], size: int
    ) -> tuple[NDArray[np.int16], NDArray[np.float32]]:
        """As of a store; the shards that rows beside one another need are decoded at once, in threads."""
        needed = self._placed.shard[self.sounds[np.asarray(rows)]].tolist()
        if not needed:
            return super().gather(rows, starts, counts, size)
        parts, first = [], 0
        while first < len(needed):
            wanted: dict[int, None] = {}
            last = first
            while last < len(needed) and (needed[last] in wanted or len(wanted) < self._decoded.most):
                wanted[needed[last]] = None
                last += 1
            self._decoded.hold(list(wanted))
            parts.append(super().gather(rows[first:last], starts[first:last], counts[first:last], size))
            first = last
        samples, scales = zip(*parts, strict=True)
        return np.concatenate(samples), np.concatenate(scales)


class _Decoded:
    """The samples of each shard, `(S,)` int16, by its number: the last ones that were asked for are in memory."""

    def __init__(
        self, sounds: Sounds, placed: Placed, digests: NDArray[np.bytes_], most: int, workers: int | None
    ) -> None:
        self.most = most
        self._sounds, self._placed, self._digests = sounds, placed, digests
        self._threads = (workers or cores()) if sounds.by_threads else 1
        self._held: OrderedDict[int, NDArray[np.int16]] = OrderedDict()
        self._lock = Lock()

    def __getitem__(self, number: int) -> NDArray[np.int16]:
        """The samples of a shard.

        Raises:
            DataError: it cannot be read any more, or has changed.
        """
        return self.hold([int(number)])[0]

    def hold(self, numbers: list[int]) -> list[NDArray[np.int16]]:
        """Decode those of the shards, `most` at most, that are not in memory; others make room for them before."""
        with self._lock:
            for number in numbers:
                if number in self._held:
                    self._held.move_to_end(number)
            missing = [number for number in numbers if number not in self._held]
            while self._held and len(self._held) + len(missing) > self.most:
                self._held.popitem(last=False)
            for number, samples in zip(missing, in_threads(self._read, missing, self._threads), strict=True):
                self._held[number] = samples
            return [self._held[number] for number in numbers]

    def _read(self, number: int) -> NDArray[np.int16]:
        placed, sounds = self._placed, self._sounds
        numbers = np.flatnonzero(placed.shard == number)
        samples = np.empty(int(placed.lengths[numbers].sum()), np.int16)
        numbers = numbers[np.argsort(sounds.rows[numbers])]
        for one, sound in zip(numbers.tolist(), sounds.load_many(numbers.tolist()), strict=True):
            if isinstance(sound, SoundError):
                raise DataError(f"{sound}; it could be read before")
            bits, scale = quantize(sound)
            if shard.digest_of(bits, scale).rstrip(b"\0") != self._digests[one]:
                raise DataError(f"{sounds.path(one)}: its sound has changed since its length was taken; start again")
            begin = int(placed.offsets[one])
            samples[begin : begin + len(bits)] = bits
        return samples


def unkept(
    sounds: Sounds, root: Path, most: int, unreadable: Mapping[int, str], say: Say, workers: int | None
) -> tuple[Unkept, Mapping[int, str]]:
    """The store of sounds that are not kept; and why some cannot be read, by their number.

    Args:
        sounds: the sounds, in shards.
        root: the cache folder.
        most: shards that are in memory at a time.
        unreadable: why other processes could not read sounds, by their number.
        say: called with progress messages.
        workers: threads; None for one per core.

    Raises:
        RunError: the lengths cannot be written.
    """
    assert sounds.shards is not None
    folder = root / (PREFIX + name_of(sounds.made).rpartition("-")[2])
    records, errors = _Lengths(sounds, folder, say, workers).taken(unreadable)
    readable = records["length"] > 0
    lengths = np.where(readable, records["length"], 0)
    before = np.cumsum(lengths) - lengths
    firsts = np.flatnonzero(np.diff(sounds.shards, prepend=-1))
    offsets = before - np.repeat(before[firsts], np.diff(np.append(firsts, len(sounds))))
    digest = hashlib.blake2b(records["digest"].tobytes(), digest_size=shard.DIGEST).hexdigest()
    which = np.where(readable, sounds.shards, -1).astype(np.int32)
    placed = Placed((), which, offsets, lengths, np.ascontiguousarray(records["scale"]), digest)
    decoded = _Decoded(sounds, placed, np.ascontiguousarray(records["digest"]), most, workers)
    return Unkept(folder, placed, errors, sounds.of_rows, decoded), errors


@attrs.frozen(eq=False)
class _Lengths:
    """The records of sounds, kept by shard."""

    sounds: Sounds
    folder: Path
    say: Say
    workers: int | None

    def taken(self, unreadable: Mapping[int, str]) -> tuple[Records, Mapping[int, str]]:
        """The record of each sound `(M,)`, with a length of 0 for those that cannot be read; and why these cannot."""
        records = self._kept(unreadable)
        if not self._wanted(records, unreadable).any():
            return records, dict(sorted(unreadable.items()))
        self.folder.mkdir(parents=True, exist_ok=True)
        with contextlib.ExitStack() as stack:
            place = self.folder / "piece-lengths.lock"
            if not stack.enter_context(files.lock(place, wait=False)):
                self.say("sound: waiting for another process, which reads clips for their lengths")
                stack.enter_context(files.lock(place))
                records = self._kept(unreadable)
            errors = dict(unreadable) | self._take(records, self._wanted(records, unreadable))
        return records, dict(sorted(errors.items()))

    def _take(self, records: Records, wanted: NDArray[np.bool_]) -> dict[int, str]:
        """Read the sounds that are wanted, and keep their records; why some cannot be read."""
        if wanted.any():
            self.say(f"sound: reading {int(wanted.sum()):,} clips for their lengths alone (audio.store = false)")
        errors: dict[int, str] = {}
        threads = (self.workers or cores()) if self.sounds.by_threads else 1
        missing = [(numbers, numbers[wanted[numbers]]) for numbers in self._pieces() if wanted[numbers].any()]
        for numbers, found, reasons in interleaved(self._read, missing, threads):
            for number, record in found.items():
                records[number] = record
            errors |= reasons
            whole = records[numbers]
            files.write_bytes(self._place(numbers), whole[whole["length"] > 0].tobytes())
        return errors

    def _kept(self, unreadable: Mapping[int, str]) -> Records:
        """What is kept of all sounds: their records, zeros for those that are not there, or that others cannot read."""
        records = np.zeros(len(self.sounds), RECORD)
        for numbers in self._pieces():
            records[numbers] = self._known(numbers)
        records[list(unreadable)] = np.zeros(1, RECORD)
        return records

    def _wanted(self, records: Records, unreadable: Mapping[int, str]) -> NDArray[np.bool_]:
        """The sounds that must be read, `(M,)`."""
        wanted: NDArray[np.bool_] = records["length"] == 0
        wanted[list(unreadable)] = False
        return wanted

    def _pieces(self) -> list[NDArray[np.int64]]:
        """The sounds of each shard."""
        assert self.sounds.shards is not None
        return np.split(np.arange(len(self.sounds)), np.flatnonzero(np.diff(self.sounds.shards)) + 1)

    def _read(
        self, piece: tuple[NDArray[np.int64], NDArray[np.int64]]
    ) -> Iterator[tuple[NDArray[np.int64], dict[int, Any], dict[int, str]]]:
        """All sounds of a shard, the records of those that were missing, and why some of these cannot be read."""
        numbers, missing = piece
        missing = missing[np.argsort(self.sounds.rows[missing])]
        found, reasons = dict[int, Any](), dict[int, str]()
        for number, sound in zip(missing.tolist(), self.sounds.load_many(missing.tolist()), strict=True):
            if isinstance(sound, SoundError):
                reasons[number] = sound.reason
            else:
                found[number] = shard.record_of(self.sounds.keys[number], 0, *quantize(sound))
        yield numbers, found, reasons

    def _known(self, numbers: NDArray[np.int64]) -> Records:
        """What is kept of the sounds of a shard: their records, zeros for those that are not there."""
        kept = shard.read_records(self._place(numbers))
        kept = kept[shard.are_whole(kept)]
        keys = self.sounds.keys[numbers]
        places = {key: place for place, key in enumerate(keys.tolist())}
        records = np.zeros(len(numbers), RECORD)
        for record in kept:
            if (place := places.get(record["key"])) is not None:
                records[place] = record
        return records

    def _place(self, numbers: NDArray[np.int64]) -> Path:
        """The file of a shard, whose name changes with its sounds."""
        return (
            self.folder / f"{hashlib.blake2b(self.sounds.keys[numbers].tobytes(), digest_size=12).hexdigest()}.journal"
        )
