"""A folder of samples, back to back in one file that is mapped into memory, and the tables that find them in it.

    audio.i16    every sound's samples, 16 bits, little-endian, sound after sound
    index.npz    offsets (M + 1,) int64 samples; scales (M,) float32; failed (E,) int32 sounds that could not be read,
                 and reasons, why: JSON in bytes
    meta.toml    what it holds and the digest of index.npz; written last, so that without it there is no such folder

A sample is its 16 bits times its sound's scale. Tables are read and the file is mapped by each process when it first
asks, so a store travels to another process as its path and one number a row.
"""

from __future__ import annotations

import hashlib
import io
import json
import mmap
import os
import tomllib
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import tomli_w
from numpy.typing import NDArray

__all__ = ["AUDIO", "Index", "Quantized", "Store", "finish", "quantize", "read_meta"]

AUDIO, INDEX, META = "audio.i16", "index.npz", "meta.toml"
FORMAT = 1
# The step of 16-bit files.
PCM = np.float32(1 / 32768)

Quantized = tuple[NDArray[np.int16], float]


def quantize(samples: NDArray[np.float32]) -> Quantized:
    """16-bit samples `(S,)` and the scale that makes them what they were.

    What came from a 16-bit file keeps its bits. Anything else uses all 16 for its own peak, so that the error is half a
    step of 90 dB below it, however quiet the sound; and beyond full scale nothing is clipped.
    """
    with np.errstate(over="ignore"):
        steps = samples / PCM
    whole = np.rint(steps)
    if np.array_equal(whole, steps) and whole.min(initial=0) >= -32768 and whole.max(initial=0) <= 32767:
        return whole.astype("<i2"), float(PCM)
    scale = np.float32(np.abs(samples).max() / 32767)
    return np.rint(samples / scale).clip(-32767, 32767).astype("<i2"), float(scale)


@attrs.frozen(eq=False)
class Index:
    """What each of M sounds is in a folder.

    Attributes:
        offsets: where each begins, in samples, and where the last one ends, `(M + 1,)`.
        scales: what its 16-bit samples are multiplied by, `(M,)`.
        errors: why some could not be read, by their number; they have no samples.
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
        """What `index.npz` holds."""
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
    """Finish a folder whose samples are written: the index, then `meta.toml`; each synced."""
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
    """What `meta.toml` says, once it is sure that the folder is whole.

    Raises:
        ValueError: what is wrong with it.
    """
    try:
        meta = tomllib.loads((folder / META).read_text(encoding="utf-8"))
        promised = {name: meta[name] for name in ("format", "sounds", "bytes", "index", "digest")}
    except (OSError, ValueError, KeyError) as error:
        raise ValueError(f"{META} cannot be read ({error.__class__.__name__})") from None
    if promised["format"] != FORMAT:
        raise ValueError(f"its format is {promised['format']}, not {FORMAT}")
    try:
        size, data = (folder / AUDIO).stat().st_size, (folder / INDEX).read_bytes()
    except OSError as error:
        raise ValueError(f"{Path(str(error.filename)).name}: {error.strerror}") from None
    if size != promised["bytes"]:
        raise ValueError(f"{AUDIO} has {size} bytes instead of {promised['bytes']}")
    if _digest(data) != promised["index"]:
        raise ValueError(f"{INDEX} is not what was written")
    return meta


def _digest(data: bytes) -> str:
    return hashlib.blake2b(data, digest_size=16).hexdigest()


class Store:
    """The samples of each row of a clip table, from a folder; rows of the same stretch of the same file share them.

    Args:
        path: the folder.
        sounds: which of its sounds each row of the table is, `(N,)` int32.
    """

    # Samples between the windows that training draws from: any will do.
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
        """Index and samples, read together: the folder may be made anew between two looks at it."""
        index = Index.read(self.path)
        with open(self.path / AUDIO, "rb") as file:
            # An array over the map, not `np.memmap`, whose every slice costs two microseconds more.
            data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if index.offsets[-1] else b""
        return index, np.frombuffer(data, dtype="<i2")

    @cached_property
    def lengths(self) -> NDArray[np.int64]:
        """Samples of each row, `(N,)`; 0 where it cannot be read."""
        return np.diff(self._opened[0].offsets)[self.sounds]

    @property
    def scales(self) -> NDArray[np.float32]:
        """What the samples of each row are multiplied by, `(N,)`."""
        return self._opened[0].scales[self.sounds]

    @cached_property
    def errors(self) -> dict[int, str]:
        """Why rows could not be read, by row."""
        reasons = self._opened[0].errors
        rows = np.flatnonzero(np.isin(self.sounds, list(reasons))) if reasons else ()
        return {int(row): reasons[int(self.sounds[row])] for row in rows}

    @property
    def size_bytes(self) -> int:
        """What the folder takes on disk."""
        return sum(file.stat().st_size for file in self.path.iterdir())

    @property
    def digest(self) -> str:
        """A digest of all samples: the same sound gives the same one, wherever it lies."""
        return str(read_meta(self.path)["digest"])

    def read(self, row: int, start: int = 0, count: int | None = None) -> NDArray[np.int16]:
        """Samples `(count,)` of a row, from `start` on (to its end if None): a view of the map."""
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
        """The samples of many rows at once, zeros behind them.

        Args:
            rows: of the table, `(n,)`.
            starts: where to begin in each, in samples, `(n,)`.
            counts: how many samples of each, `(n,)`, up to `size`.
            size: samples of a row of what is returned.

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
