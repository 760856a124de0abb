"""The distinct sections of sound in a clip table: how they are identified, and how they are read."""

from __future__ import annotations

import hashlib
import math
import os
import traceback
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from numbers import Real
from typing import Any, Literal, TypeVar

import attrs
import numpy as np
from numpy.typing import NDArray

from soundbench import audio
from soundbench.contracts import Clip
from soundbench.data.clips import ClipTable
from soundbench.errors import BrokenPlugin, DataError, SoundError
from soundbench.machine import cores
from soundbench.sources import shard_of
from soundbench.sources.threads import in_threads

__all__ = ["Sounds", "shards_of"]

Item = TypeVar("Item")
Result = TypeVar("Result")

# Part of the keys: change it whenever the way of reading changes.
VERSION = f"soundbench 2, {audio.VERSIONS}"

# Seconds, and Hz, that a dataset's own `read` may return.
LONGEST, FASTEST = 3600, 10_000_000
# The most headers that are read to learn how long all sounds are.
PROBED = 1000


@attrs.frozen(eq=False)
class Sounds:
    """The distinct (path, start, stop) of a table, sorted; and their samples at one sample rate.

    Attributes:
        table: the clips.
        dataset: the dataset of the clips; if it has `read`, it reads the sound itself, in one thread only unless it
            says `threads = True`; if it has `shards`, all sounds of one in a pass.
        rate: the sample rate of the result in Hz.
        trim: threshold for trimming the ends, in dB below the loudest frame, or `off`.
        made: the way in which they are read: versions of libraries, sample rate, trimming, the dataset's `fingerprint`.
        keys: for each sound, a digest of what else its samples depend on: path, size and modification time of a file,
            or path and fingerprint of the shard; start and stop, `(M,)` S16.
        shards: the shard of each sound, `(M,)` int32, those of one beside one another; None if they are not in shards.
        of_rows: the sound of each row of the table, `(N,)` int32.
        rows: the first row of the table of each sound, `(M,)`.
    """

    table: ClipTable
    dataset: Any
    rate: int
    trim: float | Literal["off"]
    made: str
    keys: NDArray[np.bytes_]
    of_rows: NDArray[np.int32]
    rows: NDArray[np.int64]
    shards: NDArray[np.int32] | None = None

    @classmethod
    def of(cls, table: ClipTable, dataset: Any, rate: int, trim: float | Literal["off"] = "off") -> Sounds:
        """The sounds of a table.

        Raises:
            BrokenPlugin: the dataset reads its sound itself, but has no fingerprint; or a clip is in no shard of it.
        """
        codes: dict[str, int] = {}
        paths = np.fromiter((codes.setdefault(str(path), len(codes)) for path in table.paths), np.int32, len(table))
        names = sorted(codes)
        ranks = np.empty(len(names), dtype=np.int32)
        ranks[[codes[name] for name in names]] = np.arange(len(names))
        columns: list[NDArray[Any]] = [
            ranks[paths],
            table.starts,
            np.nan_to_num(table.stops, nan=math.inf, posinf=math.inf),
        ]
        order = np.lexsort(columns[::-1])
        columns = [column[order] for column in columns]
        new = np.ones(len(table), dtype=bool)
        new[1:] = np.any([column[1:] != column[:-1] for column in columns], axis=0)
        of_rows = np.empty(len(table), dtype=np.int32)
        of_rows[order] = np.cumsum(new) - 1
        trimmed = "" if trim == "off" else f", trimmed {float(trim)} dB"
        made = f"{VERSION}, {rate} Hz{trimmed}, {_fingerprint(dataset)}"
        identities, shards = _identities(names, dataset)
        ranks = columns[0][new]
        keys = _keys(identities, ranks, *(column[new] for column in columns[1:]))
        return cls(
            table, dataset, rate, trim, made, keys, of_rows, order[new], None if shards is None else shards[ranks]
        )

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def key(self) -> str:
        """A digest of everything that the samples depend on."""
        digest = hashlib.blake2b(self.made.encode("utf-8", "surrogateescape"), digest_size=12)
        digest.update(self.keys.tobytes())
        return digest.hexdigest()

    @property
    def of_files(self) -> bool:
        """Whether the sound is in files."""
        return not hasattr(self.dataset, "read")

    def path(self, number: int) -> str:
        """The path of a sound."""
        return str(self.table.paths[int(self.rows[number])])

    def expected_bytes(self, numbers: NDArray[np.int64]) -> int:
        """The approximate size of sounds on disk; one whose length cannot be known counts as 0.

        Of many files of which the table does not say the length, the headers of some are read.
        """
        known = np.isfinite(self.table.stops[self.rows[numbers]])
        probed = numbers[~known][:: 1 + int((~known).sum()) // PROBED]
        seconds = sum(map(self._seconds, probed.tolist())) * int((~known).sum()) / max(len(probed), 1)
        rows = self.rows[numbers[known]]
        return round(2 * self.rate * (seconds + float((self.table.stops[rows] - self.table.starts[rows]).sum())))

    def _seconds(self, number: int) -> float:
        """The length of a sound whose stop is open, by the file's header."""
        try:
            seconds = audio.info(self.path(number)).seconds if self.of_files else 0.0
        except SoundError:
            return 0.0
        start = float(self.table.starts[int(self.rows[number])])
        return max(0.0, seconds - start) if math.isfinite(seconds) else 0.0

    def each(self, work: Callable[[int], Result], workers: int | None = None) -> Generator[Result, None, None]:
        """Yield the result of `work` for the index of every sound, as `spread` does."""
        return self.spread(work, range(len(self)), workers)

    def spread(
        self, work: Callable[[Item], Result], items: Iterable[Item], workers: int | None = None
    ) -> Generator[Result, None, None]:
        """Yield the result of `work`, which reads sounds, for each item, in order, computed in threads.

        Args:
            work: called with an item; only in this thread if the dataset reads its sound itself, unless it says
                `threads = True`.
            items: taken as they are needed.
            workers: the number of threads; None for one per core.
        """
        if self.by_threads:
            yield from in_threads(work, items, workers or cores())
        else:
            yield from map(work, items)

    @property
    def by_threads(self) -> bool:
        """Whether several threads may read sounds at once."""
        return self.of_files or getattr(self.dataset, "threads", False) is True

    def load(self, number: int) -> NDArray[np.float32]:
        """The samples of a sound, `(S,)`, at least one: resampled and trimmed.

        Raises:
            SoundError: it cannot be read.
        """
        samples, rate = self.native(number)
        return audio.trim(audio.resample(samples, rate, self.rate), self.rate, self.trim)

    def native(self, number: int, notice: audio.Notice = audio.warn) -> tuple[NDArray[np.float32], int]:
        """The samples of a sound before resampling and trimming, `(S,)`, at least one, all finite; and their rate.

        Args:
            number: the sound.
            notice: called with what is odd about a sound file.

        Raises:
            SoundError: it cannot be read, or cannot be resampled.
        """
        row = int(self.rows[number])
        if not self.of_files:
            return self._ask(row)
        stop = float(self.table.stops[row])
        start, end = float(self.table.starts[row]), None if math.isnan(stop) else stop
        return audio.decode_for(self.path(number), self.rate, start, end, notice)

    def load_many(self, numbers: Iterable[int]) -> Iterator[NDArray[np.float32] | SoundError]:
        """For each of the sounds of one shard, what `load` returns or raises, by one pass through the shard."""
        clips = [self.table.clip(int(self.rows[number])) for number in numbers]
        for sound in self._ask_many(clips):
            if isinstance(sound, SoundError):
                yield sound
            else:
                yield audio.trim(audio.resample(*sound, self.rate), self.rate, self.trim)

    def _ask_many(self, clips: list[Clip]) -> Iterator[tuple[NDArray[np.float32], int] | SoundError]:
        """For each clip of a shard, the samples from the dataset's `read_many`, or why it cannot be read."""
        done, reason = 0, "its dataset's read_many ends before it"
        try:
            for clip, sound in zip(clips, self.dataset.read_many(clips), strict=False):
                done += 1
                yield self._checked(clip, sound)
        except MemoryError:
            raise
        except Exception as error:
            reason = _reason(error, "read_many")
        for clip in clips[done:]:
            yield SoundError(clip.path, reason)

    def _ask(self, row: int) -> tuple[NDArray[np.float32], int]:
        """The samples from the dataset's `read`, checked like those of a file."""
        clip = self.table.clip(row)
        try:
            given = self.dataset.read(clip)
        except (SoundError, MemoryError):
            raise
        except Exception as error:
            raise SoundError(clip.path, _reason(error, "read")) from error
        sound = self._checked(clip, given)
        if isinstance(sound, SoundError):
            raise sound
        return sound

    def _checked(self, clip: Clip, given: Any) -> tuple[NDArray[np.float32], int] | SoundError:
        """The samples and the rate of what a dataset returns for a clip; or what is wrong with them."""
        if isinstance(given, SoundError):
            return given
        try:
            samples, hertz = given
            samples, rate = np.asarray(samples, dtype=np.float32), _whole(hertz)
        except Exception as error:  # no (samples, rate)
            return SoundError(clip.path, _reason(error, "read"))
        reason = ""
        if samples.ndim != 1 or not len(samples) or not np.isfinite(samples).all():
            found = "NaN or infinite samples" if samples.ndim == 1 and len(samples) else f"the shape {samples.shape}"
            reason = f"its dataset returns {found}; expected finite samples (S,), at least one"
        elif rate is None:
            reason = f"its dataset returns the sample rate {hertz!r}; expected 1 to {FASTEST} Hz"
        elif rate * 16 < self.rate and len(samples) > LONGEST * rate:  # resampling would make it too large
            hours = f"it lasts {len(samples) / rate / 3600:,.0f} hours; at such a low rate the limit is one hour"
            reason = f"its dataset returns a sample rate of {rate} Hz, so that {hours}"
        return SoundError(clip.path, reason) if reason or rate is None else (samples, rate)


def _reason(error: Exception, method: str) -> str:
    """Why a dataset's method gives no sound: what it says, or the mistake in its code."""
    text = " ".join(str(error).split())
    if isinstance(error, OSError | DataError):
        return text
    last = traceback.extract_tb(error.__traceback__)[-1]
    reason = f"{type(error).__name__}: {text}".rstrip(": ")
    return f"its dataset's {method} fails: {reason} ({os.path.basename(last.filename)}, line {last.lineno})"


def _whole(rate: Any) -> int | None:
    """A sample rate as an integer; None if it is none that can be."""
    if isinstance(rate, bool) or not isinstance(rate, Real):
        return None
    hertz = float(rate)
    return int(hertz) if 1 <= hertz <= FASTEST and hertz.is_integer() else None


def _fingerprint(dataset: Any) -> str:
    if not hasattr(dataset, "read"):
        return "files"
    try:
        return f"{type(dataset).__qualname__}: {dataset.fingerprint}"  # others may have paths of the same names
    except AttributeError:
        raise BrokenPlugin(
            f"dataset {type(dataset).__name__}: it has read(clip), so it also needs the property fingerprint, which "
            "must change whenever the result of read changes"
        ) from None


def _identities(names: list[str], dataset: Any) -> tuple[Iterable[str], NDArray[np.int32] | None]:
    """What samples depend on for each of the sorted paths; and the shard of each `(P,)`, if they are in shards.

    Raises:
        BrokenPlugin: a path is in no shard.
    """
    if not hasattr(dataset, "shards"):
        return map(str if hasattr(dataset, "read") else _identity, names), None
    shards, fingerprints = shards_of(names, dataset), list(dataset.shards().values())
    return (f"{name}\0{fingerprints[own]}" for name, own in zip(names, shards.tolist(), strict=True)), shards


def shards_of(paths: Sequence[str], dataset: Any) -> NDArray[np.int32]:
    """The shard that each path is in, `(P,)`, as its place in `dataset.shards()`.

    Raises:
        BrokenPlugin: a path is in no shard.
    """
    codes = {name: code for code, name in enumerate(dataset.shards())}
    owners = [shard_of(path, codes) for path in paths]
    if None in owners:
        raise BrokenPlugin(
            f"dataset {type(dataset).__name__}: {paths[owners.index(None)]} begins with none of the "
            f"{len(codes):,} names that shards() gives, and a slash"
        )
    return np.array([codes[str(owner)] for owner in owners], np.int32)


def _keys(
    identities: Iterable[str], ranks: NDArray[np.int32], starts: NDArray[np.float64], stops: NDArray[np.float64]
) -> NDArray[np.bytes_]:
    """The key of each sound, `(M,)`: of the identity with its rank, and of its times; sorted by rank."""
    times = np.stack([starts, stops], axis=1).astype("<f8").tobytes()
    remaining, last, identity, keys = iter(identities), -1, b"", []
    for number, rank in enumerate(ranks.tolist()):
        if rank != last:
            last, identity = rank, next(remaining).encode("utf-8", "surrogateescape")
        keys.append(hashlib.blake2b(identity + times[16 * number : 16 * number + 16], digest_size=16).digest())
    return np.frombuffer(b"".join(keys), "S16")


def _identity(path: str) -> str:
    """The path, size and modification time of a file."""
    absolute = os.path.abspath(path)
    try:
        found = os.stat(path)
    except OSError:
        return f"{absolute}\0missing"
    return f"{absolute}\0{found.st_size}\0{found.st_mtime_ns}"
