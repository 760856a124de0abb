"""A pool: the folder of all sound that is decoded in one way (rate, trimming, versions of libraries), in shards.

    about.toml           the way; its time is that of the last use
    shard-00000.*        see `shard.py`; further shards are counted up
    piece-....lock       held by the process that reads a piece of a table's sounds; removed with the last of them

Tables that share sounds share them here, and a table that grows finds those that it had. A sound that two shards hold
is taken from the first.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import attrs
import numpy as np
import tomli_w
from numpy.typing import NDArray

from soundbench import files, limits
from soundbench.data.shards import shard
from soundbench.data.shards.shard import RECORD, Contents, Records, Writer
from soundbench.recipe import toml

__all__ = ["ABOUT", "FORMAT", "PREFIX", "Placed", "Pool", "made_by", "name_of"]

PREFIX = "sound-"
ABOUT = "about.toml"
# Part of the name of a pool: change it whenever its files do.
FORMAT = 2


@attrs.frozen(eq=False)
class Placed:
    """Where the M sounds of a table lie in a pool.

    Attributes:
        shards: the files of samples that hold any of them.
        shard: which of them holds each sound, `(M,)` int32; -1 if none does.
        offsets: where it begins there, in samples, `(M,)`.
        lengths: its length in samples, `(M,)`; 0 if it is missing.
        scales: the factor of its samples, `(M,)`.
        digest: of all samples; it does not depend on where they lie.
    """

    shards: tuple[Path, ...]
    shard: NDArray[np.int32]
    offsets: NDArray[np.int64]
    lengths: NDArray[np.int64]
    scales: NDArray[np.float32]
    digest: str

    @property
    def missing(self) -> NDArray[np.int64]:
        """The numbers of the sounds that are not there."""
        return np.flatnonzero(self.shard < 0)


class Pool:
    """The shards of a folder, which need not exist.

    Args:
        folder: the folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._seen: dict[Path, int] = {}

    def create(self, about: dict[str, object]) -> None:
        """Make the folder, if it is not there.

        Raises:
            OSError: it cannot be made.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        if not (self.folder / ABOUT).exists():
            # Others may do the same, also on machines where they have the same number.
            beside = self.folder / f".{ABOUT}.{secrets.token_hex(8)}"
            beside.write_bytes(tomli_w.dumps({"format": FORMAT, **about}).encode("utf-8", "replace"))
            os.replace(beside, self.folder / ABOUT)

    def used(self) -> None:
        """Note that the pool is in use now."""
        with contextlib.suppress(OSError):
            os.utime(self.folder / ABOUT)

    def shards(self) -> list[Path]:
        """The files of samples that have a journal, in order."""
        return [path.with_suffix(".i16") for path in sorted(self.folder.glob("shard-*.journal"))]

    def contents(self) -> list[Contents]:
        """What each shard holds.

        Raises:
            OSError: a journal cannot be read.
        """
        found = [shard.read(samples) for samples in self.shards()]
        self._seen = {one.samples: one.written for one in found}
        return found

    def place(self, keys: NDArray[np.bytes_], contents: list[Contents]) -> Placed:
        """Where sounds lie.

        Args:
            keys: of the sounds, `(M,)`.
            contents: what each shard holds.
        """
        empty = np.empty(0, RECORD)
        records = np.concatenate([empty, *(one.records for one in contents)])
        owners = np.repeat(np.arange(len(contents), dtype=np.int32), [len(one.records) for one in contents])
        rows = _find(records["key"], keys)
        found = rows >= 0
        rows = rows[found]
        used, ranks = np.unique(owners[rows], return_inverse=True)
        own, which = np.zeros(len(keys), RECORD), np.full(len(keys), -1, np.int32)
        own[found], which[found] = records[rows], ranks
        digest = hashlib.blake2b(own["digest"].tobytes(), digest_size=shard.DIGEST).hexdigest()
        offsets, lengths, scales = (np.ascontiguousarray(own[name]) for name in ("offset", "length", "scale"))
        shards = tuple(contents[number].samples for number in used)
        return Placed(shards, which, offsets, lengths, scales, digest)

    def news(self) -> Records:
        """The records that were written, by any process, since this or `contents` was last asked.

        Raises:
            OSError: a journal cannot be read.
        """
        found = [np.empty(0, RECORD)]
        for samples in self.shards():
            journal, seen = samples.with_suffix(".journal"), self._seen.get(samples, 0)
            if journal.stat().st_size >= (seen + 1) * RECORD.itemsize:
                found.append(shard.read_records(journal, seen))
                self._seen[samples] = seen + len(found[-1])
        return np.concatenate(found)

    @contextlib.contextmanager
    def piece(self, name: str, wait: bool) -> Iterator[bool]:
        """Hold the lock of a piece of work in the body; yields False if another process holds it and `wait` is False.

        The lock file is removed once the piece is done. A process that waited then holds a lock that others do not see,
        but it finds the piece done, and so do they.

        Raises:
            OSError: the lock file cannot be made.
        """
        place = self.folder / f"piece-{name}.lock"
        with files.lock(place, wait) as mine:
            yield mine
            if mine:
                with contextlib.suppress(OSError):
                    place.unlink()

    @contextlib.contextmanager
    def writer(self, needed: int) -> Iterator[Writer]:
        """A shard that has room and that no other process appends to: the first of them, or a new one.

        Args:
            needed: bytes that it has room for, unless it is new; and for more than a few.

        Raises:
            OSError: it cannot be written.
        """
        for number in count():
            samples = self.folder / f"shard-{number:05d}.i16"
            size = samples.stat().st_size if samples.exists() else 0
            if size and shard.LARGEST - size < max(needed, shard.LARGEST // 64):
                continue
            with files.lock(samples.with_suffix(".lock"), wait=False) as mine:
                if not mine:
                    continue
                try:
                    writer = Writer(samples)
                except ValueError:  # it stays as it is
                    continue
                with writer:
                    yield writer
                return


def _find(known: NDArray[np.bytes_], keys: NDArray[np.bytes_]) -> NDArray[np.int64]:
    """Where each key is first among those known, `(M,)`; -1 where it is not.

    Both are sorted by their first eight bytes as numbers: a million take a tenth of the time that they would as texts.
    """
    heads, wanted = (np.ascontiguousarray(one).view(np.uint64)[::2].copy() for one in (known, keys))
    order, asked = np.argsort(heads, kind="stable"), np.argsort(wanted)
    at = np.empty(len(keys), np.int64)
    at[asked] = np.searchsorted(heads[order], wanted[asked])
    rows = np.append(order, -1)
    heads, known = np.append(heads, np.uint64(0)), np.append(known, np.zeros(1, "S16"))
    while True:
        alike = (rows[at] >= 0) & (heads[rows[at]] == wanted)
        wrong = alike & (known[rows[at]] != keys)  # keys that differ may begin alike
        if not wrong.any():
            return np.where(alike, rows[at], -1)
        at[wrong] += 1


def name_of(made: str) -> str:
    """The name of the pool for sound that is made in one way."""
    about = f"format {FORMAT}, {made}".encode("utf-8", "surrogateescape")
    return PREFIX + hashlib.blake2b(about, digest_size=12).hexdigest()


def made_by(folder: Path) -> tuple[int, str]:
    """The format of a pool, and how its sound was made; 0 and nothing if it does not say so."""
    try:
        about = toml.parse(files.read_bytes(folder / ABOUT, limits.TEXT))
        return int(about["format"]), str(about["made"])
    except (OSError, ValueError, KeyError, TypeError):
        return 0, ""
