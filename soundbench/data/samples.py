"""The samples of a clip table, from the shards of a pool, mapped into memory.

A sample is its 16-bit value times the scale of its sound. Each process maps the shards on first use, so a store is
passed to another process as one number a row and a few a sound.
"""

from __future__ import annotations

import mmap
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from soundbench.data.shards.pool import Placed
from soundbench.files import open_regular

__all__ = ["Store"]


class Store:
    """The samples of each row of a clip table; rows of the same section of a file share them.

    Args:
        path: the folder of the shards.
        placed: where the M sounds lie.
        reasons: why sounds could not be read, by their number; they have no samples.
        sounds: the sound of each row of the table, `(N,)` int32.
    """

    # Samples between the windows that training draws from: it can use any.
    hop = 1

    def __init__(self, path: Path, placed: Placed, reasons: Mapping[int, str], sounds: NDArray[np.int32]) -> None:
        self.path, self.sounds = path, sounds
        self._placed, self._reasons = placed, reasons

    def __getstate__(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("path", "sounds", "_placed", "_reasons")}

    def __len__(self) -> int:
        return len(self.sounds)

    def each_sound(self) -> Store:
        """The same samples with a row for each sound."""
        return Store(self.path, self._placed, self._reasons, np.arange(len(self._placed.lengths), dtype=np.int32))

    @cached_property
    def _shards(self) -> list[NDArray[np.int16]]:
        """The samples of each shard."""
        return [_mapped(path) for path in self._placed.shards]

    @cached_property
    def lengths(self) -> NDArray[np.int64]:
        """The length of each row in samples, `(N,)`; 0 if it cannot be read."""
        return self._placed.lengths[self.sounds]

    @property
    def scales(self) -> NDArray[np.float32]:
        """The factor of the samples of each row, `(N,)`."""
        return self._placed.scales[self.sounds]

    @cached_property
    def errors(self) -> dict[int, str]:
        """Why rows could not be read, by row."""
        reasons = self._reasons
        rows = np.flatnonzero(np.isin(self.sounds, list(reasons))) if reasons else ()
        return {int(row): reasons[int(self.sounds[row])] for row in rows}

    @property
    def size_bytes(self) -> int:
        """The size of the samples of all sounds."""
        return 2 * int(self._placed.lengths.sum())

    @property
    def digest(self) -> str:
        """A digest of all samples, which does not depend on where the files are."""
        return self._placed.digest

    def read(self, row: int, start: int = 0, count: int | None = None) -> NDArray[np.int16]:
        """Samples `(count,)` of a row from `start` on, to its end if `count` is None; a view of the memory map."""
        sound, length = self.sounds[row], int(self.lengths[row])
        stop = length if count is None else start + count
        if start < 0 or not start <= stop <= length:
            raise IndexError(f"row {row} has {length} samples, not {start} to {stop}")
        if not length:
            return np.empty(0, np.int16)
        begin = int(self._placed.offsets[sound])
        samples: NDArray[np.int16] = self._shards[self._placed.shard[sound]][begin + start : begin + stop]
        return samples

    def gather(
        self, rows: NDArray[np.integer], starts: NDArray[np.integer], counts: NDArray[np.integer], size: int
    ) -> tuple[NDArray[np.int16], NDArray[np.float32]]:
        """The samples of many rows at once, padded with zeros.

        Args:
            rows: rows of the table, `(n,)`.
            starts: start within each row in samples, `(n,)`.
            counts: number of samples of each row, `(n,)`, at most `size`.
            size: length of a returned row in samples.

        Returns:
            Samples `(n, size)` int16 and scales `(n,)` float32.
        """
        placed, shards = self._placed, self._shards
        rows, starts, counts = np.asarray(rows), np.asarray(starts), np.asarray(counts)
        sounds = self.sounds[rows]
        if ((starts < 0) | (counts < 0) | (counts > size) | (starts + counts > placed.lengths[sounds])).any():
            raise IndexError("samples outside of their row")
        samples = np.empty((len(rows), size), dtype=np.int16)
        places = (placed.shard[sounds].tolist(), (placed.offsets[sounds] + starts).tolist(), counts.tolist())
        for row, shard, begin, count in zip(samples, *places, strict=True):
            row[:count] = shards[shard][begin : begin + count]
            row[count:] = 0
        return samples, placed.scales[sounds]


def _mapped(path: Path) -> NDArray[np.int16]:
    """The samples of a shard."""
    with open_regular(path) as file:
        # An array over the map: each slice of `np.memmap` would take two microseconds more.
        data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        return np.frombuffer(data, dtype="<i2", count=len(data) // 2)
