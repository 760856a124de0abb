"""Open a source of sound, find out what it holds, and have it decoded by libsndfile or PyAV.

Paths are files, never addresses: they are opened here, and only regular files are.
"""

from __future__ import annotations

import io
import math
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias, TypeVar

import attrs

from soundbench import files
from soundbench.audio import containers, pyav, sndfile
from soundbench.audio.splices import Content, Part, Piece, Spliced
from soundbench.errors import CallError, SoundError

__all__ = ["STRETCH", "Opened", "SoundInfo", "Source", "name_of", "open_source"]

Source: TypeAlias = str | Path | bytes | BinaryIO
Result = TypeVar("Result")

# In decoding in blocks, samples over all channels to decode at a time.
STRETCH = 1 << 20


@attrs.frozen
class SoundInfo:
    """The header of a sound file.

    Attributes:
        rate: sample rate in Hz.
        channels: number of channels.
        seconds: stated length; an estimate for MP3 without a length header, 0 if not stated.
        format: container and coding, such as `WAV PCM_16`.
    """

    rate: int
    channels: int
    seconds: float
    format: str


@attrs.define
class Opened:
    """An open source.

    Attributes:
        name: its name in errors.
        file: the file, for reading it here.
        target: the input of libsndfile: the path if there is one, which it reads without going through Python.
        size: size in bytes.
        kind: format, as named by `containers.sniff`.
        content: what a look through the file has found; None before one.
    """

    name: str
    file: BinaryIO
    target: Any
    size: int = 0
    kind: str = ""
    content: Content | None = None

    def error(self, reason: str) -> SoundError:
        """An error that names the sound."""
        return SoundError(self.name, reason)

    def look(self) -> None:
        """Look through the file; damage is an error."""
        if self.kind in containers.PYAV_KINDS:
            pyav.require(self.name, self.kind)
        self.content = self.read(lambda file: containers.look(file, self.size, self.kind))
        if self.content.damage:
            raise self.error(self.content.damage)

    def refuse_fewer(self, count: int) -> None:
        """Raise an error if fewer samples were decoded than the frames hold."""
        if self.content and count < self.content.least:
            raise self.error(f"corrupt: {count} of {self.content.least} samples can be decoded; copy it again")

    def must_look(self) -> bool:
        """Whether to look through the file even if only a section of it is decoded."""
        return self.read(lambda file: containers.must_look(file, self.size, self.kind))

    def read(self, work: Callable[[BinaryIO], Result]) -> Result:
        """The result of reading the file; afterwards it is rewound for the decoders."""
        try:
            result = work(self.file)
            self.file.seek(0)
        except OSError as error:
            raise self.error(f"cannot be read: {error.strerror or error}") from None
        return result

    def pieces(self, start: float, stop: float | None, most: int) -> Iterator[Piece]:
        """Decode a section, with errors of the file system as `SoundError`."""
        links = self.content.links if self.content else ()
        if len(links) > 1:
            return self._joined(links, start, stop)
        return self._decoded(links[0] if links else (), start, stop, most)

    def _joined(self, links: tuple[tuple[Part, ...], ...], start: float, stop: float | None) -> Iterator[Piece]:
        """Decode sounds that follow one another in a file."""
        rate = done = 0
        for number, link in enumerate(links, start=1):
            for piece in self._decoded(link, 0.0, None, STRETCH):
                if piece.rate != (rate or piece.rate):
                    parts = f"part 1 of {len(links)} has {rate} Hz, part {number} has {piece.rate} Hz"
                    raise self.error(f"{parts}; convert them to one sample rate")
                rate = piece.rate
                end = math.inf if stop is None else round(stop * rate)
                kept = piece.samples[max(round(start * rate) - done, 0) : int(min(end - done, len(piece.samples)))]
                done += len(piece.samples)
                if len(kept):
                    yield piece._replace(samples=kept)
                if done >= end:
                    return

    def _decoded(self, link: tuple[Part, ...], start: float, stop: float | None, most: int) -> Iterator[Piece]:
        kind, coding, file = self._source(link)
        if kind in containers.PYAV_KINDS or coding:
            return pyav.pieces(self.name, file, kind, start, stop, coding)
        return sndfile.pieces(self.name, file if link or not kind else self.target, kind, start, stop, most)

    def _source(self, link: tuple[Part, ...]) -> tuple[str, str, BinaryIO]:
        """Format, coding and file of one link."""
        coding = self.content.coding if self.content else ""
        self.file.seek(0)
        if not link:
            return self.kind, coding, self.file
        file = Spliced.opened(self.file, link)
        kind = containers.sniff(file) if self.kind.startswith("Ogg") else self.kind
        file.seek(0)
        return kind, coding, file

    def info(self) -> SoundInfo:
        """The header; of sounds that follow one another, with the length of all."""
        found = []
        for link in (self.content.links if self.content else ()) or ((),):
            kind, coding, file = self._source(link)
            if kind in containers.PYAV_KINDS or coding:
                found.append(SoundInfo(*pyav.info(self.name, file, kind, coding)))
            else:
                target = file if link or not kind else self.target
                found.append(SoundInfo(*sndfile.info(self.name, target, kind)))
        seconds = sum(one.seconds for one in found)
        if self.content and any(isinstance(link[-1], int) for link in self.content.links):
            seconds = self.content.least / found[0].rate
        return attrs.evolve(found[0], seconds=seconds)


def name_of(source: Source) -> str:
    """The name of a source in errors."""
    if isinstance(source, (str, os.PathLike)):
        return os.fspath(source)
    if isinstance(source, (bytes, bytearray, memoryview)):
        return "<bytes>"
    name = getattr(source, "name", None)
    return name if isinstance(name, str) else "<file>"


@contextmanager
def open_source(source: Source) -> Iterator[Opened]:
    """The source as a seekable file with its size and format; an error if it is not a file or empty."""
    name = name_of(source)
    if isinstance(source, (str, os.PathLike)):
        try:
            file = files.open_regular(source)  # closed below, where errors are others'
        except FileNotFoundError:
            raise SoundError(name, "no such file") from None
        except IsADirectoryError:
            raise SoundError(name, "is a folder; a sound file is needed") from None
        except (OSError, ValueError) as error:
            raise SoundError(name, f"cannot be opened: {getattr(error, 'strerror', None) or error}") from None
        with file:
            path = os.path.join(os.curdir, source) if name == "-" else source  # "-" is standard input to libsndfile
            yield _sniffed(name, file, os.fsencode(path) if os.name == "posix" else os.fspath(path))
    else:
        given = _seekable(name, source)
        yield _sniffed(name, given, given)


def _seekable(name: str, source: Any) -> BinaryIO:
    if isinstance(source, (bytes, bytearray, memoryview)):
        return io.BytesIO(source)
    if not hasattr(source, "read"):
        raise CallError(f"sound must be a path, bytes or a file object, not {type(source).__name__}")
    if isinstance(source.read(0), str):
        raise CallError(f"{name}: the file is open as text; open it with mode 'rb'")
    if getattr(source, "seekable", lambda: False)():
        file: BinaryIO = source
        return file
    return io.BytesIO(source.read())


def _sniffed(name: str, file: BinaryIO, target: Any) -> Opened:
    sound = Opened(name, file, target)
    sound.size = sound.read(lambda file: file.seek(0, os.SEEK_END))
    sound.kind = sound.read(containers.sniff)
    if not sound.size:
        raise sound.error("is empty (0 bytes); a sound file is needed")
    return sound
