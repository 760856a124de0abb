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
# Bytes, or a stretch of a file from its first byte to the one after its last.
Part: TypeAlias = bytes | tuple[int, int]


@attrs.frozen
class Content:
    """What a look through a sound file finds.

    Attributes:
        damage: why the file cannot be used; "" if it can.
        links: what the decoder reads, one sound after the other, each a file put together from parts; () for the file
            as it is.
        coding: the name of a coding that libsndfile does not read; "" otherwise.
        more: bytes that each link is said to be longer than it is, so that a decoder which estimates the number of
            samples by the number of bytes, and stops there, finds the end instead.
    """

    damage: str = ""
    links: tuple[tuple[Part, ...], ...] = ()
    coding: str = ""
    more: int = 0


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
        parts: bytes and stretches, in order.
        more: bytes that the file is said to be longer. Zeros are read there by who seeks there, as for a tag at the
            end, but nothing by who reads on.
    """

    def __init__(self, file: BinaryIO, parts: Sequence[Part], more: int = 0) -> None:
        self._file, self._parts, self._more, self._at, self._sought = file, parts, more, 0, 0
        self._sizes = [len(part) if isinstance(part, bytes) else part[1] - part[0] for part in parts]

    @classmethod
    def opened(cls, file: BinaryIO, parts: Sequence[Part], more: int = 0) -> BinaryIO:
        """The spliced file, buffered: decoders read a few bytes at a time."""
        return io.BufferedReader(cls(file, parts, more), READ)

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
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: sum(self._sizes) + self._more}[whence]
        self._at = self._sought = max(base + offset, 0)
        return self._at

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer as far as there are bytes."""
        view, done, first = memoryview(buffer).cast("B"), 0, 0
        for part, size in zip(self._parts, self._sizes, strict=True):
            inside = self._at - first
            if 0 <= inside < size and done < len(view):
                count = min(size - inside, len(view) - done)
                found = self._read(part, inside, count)
                view[done : done + len(found)] = found
                done += len(found)
                self._at += len(found)
                if len(found) < count:  # the file has become shorter
                    break
            first += size
        if self._at == self._sought and first < self._at < first + self._more:
            done = min(first + self._more - self._at, len(view))
            view[:done] = bytes(done)
            self._at += done
        return done

    def _read(self, part: Part, inside: int, count: int) -> bytes:
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
