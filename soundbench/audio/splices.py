"""What a look through a sound file finds, and files put together from stretches of others, which decoders are given.

A decoder that would lose sound of a file as it is (a second data chunk, a length that is not stated) is given a file
with another header before the same sound.
"""

from __future__ import annotations

import contextlib
import io
import mmap
import os
from collections.abc import Sequence
from typing import Any, BinaryIO, NamedTuple, TypeAlias

import attrs
import numpy as np
from numpy.typing import NDArray

__all__ = ["Content", "Data", "Part", "Piece", "Spliced", "at", "whole"]

# The largest file that is read at once, in bytes.
LARGE = 1 << 24
# Bytes to read at a time from a spliced file.
READ = 1 << 16

Data: TypeAlias = bytes | mmap.mmap
# Bytes; a stretch of a file from its first byte to the one after its last; or a number of bytes that a file is only
# said to be longer, so that a decoder which estimates the number of samples by that of bytes finds the end instead.
Part: TypeAlias = bytes | tuple[int, int] | int


@attrs.frozen
class Content:
    """What a look through a sound file finds.

    Attributes:
        damage: why the file cannot be used; "" if it can.
        links: what the decoder reads, one sound after the other, each a file put together from parts; () for the file
            as it is.
        coding: the name of a coding that libsndfile does not read; "" otherwise.
        least: the least number of samples that the frames of the file hold; 0 if they are not counted.
    """

    damage: str = ""
    links: tuple[tuple[Part, ...], ...] = ()
    coding: str = ""
    least: int = 0

    def moved(self, by: int) -> Content:
        """The same of a file with so many bytes more at its start."""
        links = [
            tuple((part[0] + by, part[1] + by) if isinstance(part, tuple) else part for part in link)
            for link in self.links
        ]
        return attrs.evolve(self, links=tuple(links))


class Piece(NamedTuple):
    """Decoded samples `(S, C)` float32, at least one, and what their coding is.

    Attributes:
        samples: the samples of all channels.
        rate: their sample rate in Hz.
        lossy: whether the codec loses some of the sound, so that a peak far above full scale is damage.
        floats: whether there may be values between zero and the steps of integers.
    """

    samples: NDArray[np.float32]
    rate: int
    lossy: bool
    floats: bool


class Spliced(io.RawIOBase):
    """A file put together from parts, to be read only.

    Args:
        file: the file that the stretches are of; it is moved by every read.
        parts: the parts, in order; a number only as the last one. Zeros are read there by who seeks there, as for a tag
            at the end, but nothing by who reads on.
    """

    def __init__(self, file: BinaryIO, parts: Sequence[Part]) -> None:
        self._file, self._at, self._sought = file, 0, 0
        self._parts = [part for part in parts if not isinstance(part, int)]
        self._sizes = [len(part) if isinstance(part, bytes) else part[1] - part[0] for part in self._parts]
        self._there = sum(self._sizes)
        self._said = self._there + sum(part for part in parts if isinstance(part, int))

    @classmethod
    def opened(cls, file: BinaryIO, parts: Sequence[Part]) -> BinaryIO:
        """The spliced file, buffered: decoders read a few bytes at a time."""
        return io.BufferedReader(cls(file, parts), READ)

    def readable(self) -> bool:
        """It is read."""
        return True

    def seekable(self) -> bool:
        """It can seek."""
        return True

    def tell(self) -> int:
        """The position."""
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move the position."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._said}[whence]
        self._at = self._sought = max(base + offset, 0)
        return self._at

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer as far as there are bytes."""
        view, done, first = memoryview(buffer).cast("B"), 0, 0
        if self._at == self._sought > self._there:
            done = max(min(self._said - self._at, len(view)), 0)
            view[:done] = bytes(done)
            self._at += done
            return done
        for part, size in zip(self._parts, self._sizes, strict=True):
            inside = self._at - first
            if 0 <= inside < size and done < len(view):
                found = self._read(part, inside, min(size - inside, len(view) - done))
                view[done : done + len(found)] = found
                done += len(found)
                self._at += len(found)
            first += size
        return done

    def _read(self, part: bytes | tuple[int, int], inside: int, count: int) -> bytes:
        if isinstance(part, bytes):
            return part[inside : inside + count]
        return at(self._file, part[0] + inside, count)


def at(file: BinaryIO, offset: int, count: int) -> bytes:
    """Bytes of a file, fewer at its end."""
    file.seek(offset)
    return file.read(count)


def whole(file: BinaryIO, size: int) -> Data:
    """The content of a file; a large one is memory-mapped, so that hours of sound need no memory."""
    if size > LARGE:
        with contextlib.suppress(OSError, ValueError):
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    return at(file, 0, size)
