"""A folder of decoded samples: one memory-mapped file, and the tables that find each sound in it.

    audio.i16    the samples of all sounds, 16 bits, little-endian, one sound after the other
    index.npz    offsets (M + 1,) int64 samples; scales (M,) float32; failed (E,) int32: the sounds that could not be
                 read; reasons: why, as JSON in bytes
    meta.toml    a description and the digest of index.npz; written last: without it the folder is incomplete

A sample is its 16-bit value times the scale of its sound. Each process reads the tables and maps the file on first use,
so a store is passed to another process as its path and one number per row.
"""

from __future__ import annotations

import hashlib
import io
import json
import mmap
import os
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import tomli_w
from numpy.typing import NDArray

from soundbench import limits
from soundbench.files import open_regular, read_bytes
from soundbench.recipe import toml

__all__ = ["AUDIO", "Index", "Store", "finish", "read_meta"]

AUDIO, INDEX, META = "audio.i16", "index.npz", "meta.toml"
FORMAT = 1


@attrs.frozen(eq=False)
class Index:
    """The table of the M sounds in a folder.

    Attributes:
        offsets: start of each sound in samples, and end of the last one, `(M + 1,)`.
        scales: factor of the 16-bit samples of each sound, `(M,)`.
        errors: why sounds could not be read, by their index; they have no samples.
    """

    offsets: NDArray[np.int64]
    scales: NDArray[np.float32]
    errors: Mapping[int, str]

    @classmethod
    def read(cls, folder: Path) -> Index:
        """The index of a folder."""
        with np.load(folder / INDEX, allow_pickle=False) as file:
            errors = dict(zip(file["failed"].tolist(), json.loads(file["reasons"].tobytes()), strict=True))
            return cls(file["offsets"], file["scales"], errors)

    def to_bytes(self) -> bytes:
        """The content of `index.npz`."""
        reasons = json.dumps(list(self.errors.values())).encode()
        file = io.BytesIO()
        np.savez(
            file,
            offsets=self.offsets,
            scales=self.scales,
            failed=np.array(list(self.errors), dtype=np.int32),
            reasons=np.frombuffer(reasons, dtype=np.uint8),
        )
        return file.getvalue()


def finish(folder: Path, index: Index, meta: Mapping[str, Any]) -> None:
    """Complete a folder after its samples: write the index, then `meta.toml`, each synced."""
    data = index.to_bytes()
    written = {
        "format": FORMAT,
        **meta,
        "sounds": len(index.scales),
        "unreadable": len(index.errors),
        "bytes": 2 * int(index.offsets[-1]),
        "index": _digest(data),
    }
    for name, content in ((INDEX, data), (META, tomli_w.dumps(written).encode())):
        with open(folder / name, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())


def read_meta(folder: Path) -> dict[str, Any]:
    """The content of `meta.toml`, after checking that the folder is complete.

    Raises:
        ValueError: the folder is damaged.
    """
    try:
        meta = toml.parse(read_bytes(folder / META, limits.TEXT))
        promised = {name: meta[name] for name in ("format", "sounds", "bytes", "index", "digest")}
    except OSError as error:
        raise ValueError(f"{META}: {error.strerror}") from None
    except (ValueError, KeyError) as error:
        raise ValueError(f"{META} cannot be read ({error})") from None
    if promised["format"] != FORMAT:
        raise ValueError(f"its format is {promised['format']}, not {FORMAT}")
    try:
        size, data = (folder / AUDIO).stat().st_size, read_bytes(folder / INDEX, limits.TABLE)
    except OSError as error:
        raise ValueError(f"{Path(str(error.filename)).name}: {error.strerror}") from None
    if size != promised["bytes"]:
        raise ValueError(f"{AUDIO} has {size} bytes instead of {promised['bytes']}")
    if _digest(data) != promised["index"]:
        raise ValueError(f"{INDEX} has a wrong checksum")
    return meta


def _digest(data: bytes) -> str:
    return hashlib.blake2b(data, digest_size=16).hexdigest()


class Store:
    """The samples of each row of a clip table, from a folder; rows of the same section of a file share them.

    Args:
        path: the folder.
        sounds: the sound of each row of the table, `(N,)` int32.
    """

    # Samples between the windows that training draws from: it can use any.
    hop = 1

    def __init__(self, path: Path, sounds: NDArray[np.int32]) -> None:
        self.path, self.sounds = path, sounds

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path, "sounds": self.sounds}

    def __len__(self) -> int:
        return len(self.sounds)

    def each_sound(self) -> Store:
        """The same folder with a row for each of its sounds."""
        return Store(self.path, np.arange(len(self._opened[0].scales), dtype=np.int32))

    @cached_property
    def _opened(self) -> tuple[Index, NDArray[np.int16]]:
        """Index and samples, read together, because the folder may be made again at any time."""
        index = Index.read(self.path)
        with open_regular(self.path / AUDIO) as file:
            # An array over the map: each slice of `np.memmap` would take two microseconds more.
            data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if index.offsets[-1] else b""
        return index, np.frombuffer(data, dtype="<i2")

    @cached_property
    def lengths(self) -> NDArray[np.int64]:
        """The length of each row in samples, `(N,)`; 0 if it cannot be read."""
        return np.diff(self._opened[0].offsets)[self.sounds]

    @property
    def scales(self) -> NDArray[np.float32]:
        """The factor of the samples of each row, `(N,)`."""
        return self._opened[0].scales[self.sounds]

    @cached_property
    def errors(self) -> dict[int, str]:
        """Why rows could not be read, by row."""
        reasons = self._opened[0].errors
        rows = np.flatnonzero(np.isin(self.sounds, list(reasons))) if reasons else ()
        return {int(row): reasons[int(self.sounds[row])] for row in rows}

    @property
    def size_bytes(self) -> int:
        """The size of the folder on disk."""
        return sum(file.stat().st_size for file in self.path.iterdir())

    @property
    def digest(self) -> str:
        """A digest of all samples, which does not depend on where the files are."""
        return str(read_meta(self.path)["digest"])

    def read(self, row: int, start: int = 0, count: int | None = None) -> NDArray[np.int16]:
        """Samples `(count,)` of a row from `start` on, to its end if `count` is None; a view of the memory map."""
        index, audio = self._opened
        sound = self.sounds[row]
        begin, end = int(index.offsets[sound]), int(index.offsets[sound + 1])
        stop = end if count is None else begin + start + count
        if start < 0 or not begin + start <= stop <= end:
            raise IndexError(f"row {row} has {end - begin} samples, not {start} to {stop - begin}")
        return audio[begin + start : stop]

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
        index, audio = self._opened
        rows, starts, counts = np.asarray(rows), np.asarray(starts), np.asarray(counts)
        sounds = self.sounds[rows]
        begins = index.offsets[sounds] + starts
        ends = begins + counts
        if ((starts < 0) | (counts < 0) | (counts > size) | (ends > index.offsets[sounds + 1])).any():
            raise IndexError("samples outside of their row")
        samples = np.empty((len(rows), size), dtype=np.int16)
        for row, begin, end in zip(samples, begins.tolist(), ends.tolist(), strict=True):
            count = end - begin
            row[:count] = audio[begin:end]
            row[count:] = 0
        return samples, index.scales[sounds]
