"""Precomputed features: blocks of windows on disk, and the tables that find each window in them.

    block-00012.f32   the features of up to 64 windows of the scoring grid: float32, little-endian, `(T, F)` after
                      `(T, F)`; then the number of frames of each window, int32; then the CRC-32 of all that
    features.toml     the settings that the folder's name is a digest of, for information

The folder is in the cache folder, next to the stores of decoded sound. A block is written atomically by the process
that holds its lock: a kill leaves some blocks complete and the others missing. Files are not kept open, so features are
passed to another process as a path and a few numbers per window.
"""

from __future__ import annotations

import contextlib
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path

import attrs
import numpy as np
from numpy.typing import NDArray

from soundbench import files
from soundbench.errors import RunError

__all__ = ["BLOCK", "Blocks", "Features"]

# Windows in a block: a kill loses at most the work on one block.
BLOCK = 64
# Bytes to read at a time.
_CHUNK = 1 << 22


@attrs.frozen
class Blocks:
    """The files with the features of windows.

    Attributes:
        folder: the folder of the files.
        windows: the number of windows.
        bands: F.
    """

    folder: Path
    windows: int
    bands: int

    def __len__(self) -> int:
        return -(-self.windows // BLOCK)

    def path(self, number: int) -> Path:
        """The file of a block."""
        return self.folder / f"block-{number:05d}.f32"

    def span(self, number: int) -> range:
        """The windows of a block."""
        return range(number * BLOCK, min((number + 1) * BLOCK, self.windows))

    def write(self, number: int, rows: Iterable[NDArray[np.float32]]) -> None:
        """Write a block atomically: the features of each of its windows, `(T, F)`."""
        counts, check = [], 0
        with files.atomic(self.path(number)) as beside, open(beside, "wb") as file:
            for row in rows:
                counts.append(len(row))
                data = np.ascontiguousarray(row, dtype="<f4")
                check = zlib.crc32(data.data, check)
                file.write(data.data)
            frames = np.array(counts, dtype="<i4").tobytes()
            file.write(frames + zlib.crc32(frames, check).to_bytes(4, "little"))

    def frames(self, number: int) -> NDArray[np.int32]:
        """The number of frames of each window in a block.

        Raises:
            FileNotFoundError: the block does not exist.
            ValueError: the block is damaged.
        """
        count = len(self.span(number))
        with files.open_regular(self.path(number)) as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - 4 * count - 4))
            frames = np.frombuffer(file.read(4 * count), dtype="<i4")
        wanted = 4 * (self.bands * int(frames.sum(dtype=np.int64)) + count + 1)
        if len(frames) < count or (frames < 1).any() or size != wanted:
            raise ValueError("its size is wrong")
        return frames

    def wrong(self, number: int) -> str | None:
        """Read a whole block and say what is wrong with it: None if nothing, empty if it does not exist."""
        try:
            self.frames(number)
            with files.open_regular(self.path(number)) as file:
                rest, check = file.seek(0, 2) - 4, 0
                file.seek(0)
                while rest:
                    data = file.read(min(rest, _CHUNK))
                    check, rest = zlib.crc32(data, check), rest - len(data)
                found = int.from_bytes(file.read(4), "little")
        except FileNotFoundError:
            return ""
        except ValueError as error:
            return str(error)
        return None if found == check else "its checksum is wrong"

    @contextlib.contextmanager
    def locked(self, number: int, wait: bool) -> Iterator[bool]:
        """Hold the lock of a block in the body; yields False if another process holds it and `wait` is False.

        The lock file is removed once the block is made. A process that waited then holds a lock that others do not see,
        but it finds the block complete, and so do they.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        place = self.path(number).with_suffix(".lock")
        with files.lock(place, wait) as mine:
            yield mine
            if mine:
                with contextlib.suppress(OSError):
                    place.unlink()


class Features:
    """The features of the windows of each row of a clip table; used in place of a store of samples.

    Args:
        blocks: the blocks, all complete.
        sounds: the sound of each row of the table, `(N,)` int32.
        lengths: length of each row in samples, `(N,)`; 0 if it cannot be read.
        firsts: the first window of each sound, `(M,)`.
        window: length of a window in samples.
        hop: samples between the starts of two windows; the last one ends at the end of the sound.

    Raises:
        RunError: a block is missing or damaged.
    """

    def __init__(
        self,
        blocks: Blocks,
        sounds: NDArray[np.int32],
        lengths: NDArray[np.int64],
        firsts: NDArray[np.int64],
        window: int,
        hop: int,
    ) -> None:
        self.blocks, self.lengths, self.window, self.hop = blocks, lengths, window, hop
        self._sounds, self._firsts = sounds, firsts
        frames: list[NDArray[np.int32]] = []
        for number in range(len(blocks)):
            with files.explain_os_errors(blocks.path(number)):
                try:
                    frames.append(blocks.frames(number))
                except ValueError as error:
                    raise RunError(f"{blocks.path(number)}: damaged: {error}") from None
        self.frames = np.concatenate(frames)
        before = np.cumsum(self.frames, dtype=np.int64) - self.frames
        self._offsets = before - np.repeat(before[::BLOCK], BLOCK)[: len(before)]

    @property
    def size_bytes(self) -> int:
        """The size of the features on disk."""
        return 4 * self.blocks.bands * int(self.frames.sum(dtype=np.int64))

    def gather(
        self, rows: NDArray[np.integer], starts: NDArray[np.integer]
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """The features of many windows at once, padded with zeros.

        Args:
            rows: rows of the table, `(n,)`.
            starts: start of each window in samples, `(n,)`; on the grid.

        Returns:
            Features `(n, T, F)` and the number of frames of each window, `(n,)`.
        """
        steps = -(-starts // self.hop)
        if (starts != np.minimum(steps * self.hop, np.maximum(self.lengths[rows] - self.window, 0))).any():
            raise IndexError("windows that are not on the grid")
        windows = self._firsts[self._sounds[rows]] + steps
        frames = self.frames[windows].astype(np.int64)
        features = np.zeros((len(rows), frames.max(), self.blocks.bands), dtype="<f4")
        for row, window, count in zip(features, windows.tolist(), frames.tolist(), strict=True):
            self._read(window, row[:count])
        return features, frames

    def _read(self, window: int, into: NDArray[np.float32]) -> None:
        path = self.blocks.path(window // BLOCK)
        with files.explain_os_errors(path), files.open_regular(path) as file:
            file.seek(4 * self.blocks.bands * int(self._offsets[window]))
            if file.readinto(into.data) != into.nbytes:
                raise RunError(f"{path}: damaged: shorter than at the start of the run")
