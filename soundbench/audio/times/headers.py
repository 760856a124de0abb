"""When a recording began, as its header states it: GUANO, AudioMoth's comment, Broadcast WAV, Frontier Labs' FLAC.

Sources of the formats:

- GUANO 1.0 (guano-md.org): a chunk `guan` of lines `Key: value`; `Timestamp` is the start of the recording.
- AudioMoth (`setHeaderComment` of AudioMoth-Firmware-Basic; metamoth has its versions): the comment `ICMT` of the list
  `INFO`, `Recorded at 16:34:56 10/04/2020 (UTC+2) by AudioMoth ...`. Firmware 1.0 writes no zone and means UTC.
- EBU Tech 3285, the chunk `bext`: `OriginationDate`, `OriginationTime`, both without a zone and with any separators,
  and `TimeReference`, the first sample counted from midnight.
- Frontier Labs' recorders: `RecordingStart=2019-04-22T20:00:00+1000` among the comments of a FLAC file.

FLAC files hold the chunks of the WAV file that they were made from (`flac --keep-foreign-metadata`) in application
blocks, and its comment among theirs (ffmpeg). Only headers are read, a limited part of each; what is malformed states
no time.
"""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Iterator
from datetime import datetime, time, timedelta, timezone
from pathlib import Path
from typing import BinaryIO

from soundbench.files import open_regular
from soundbench.limits import CHUNK, CHUNKS

__all__ = ["header_time", "plausible"]

# A recorder whose clock was not set counts from here.
UNSET = datetime(1970, 1, 1).date()
# Seconds between a `bext`'s time, which is in whole seconds, and its count of samples, if both are of one clock.
CLOSE = 1.0
RIFF = {b"RIFF", b"RF64", b"BW64"}

_ISO = re.compile(r"(\d{4}-\d\d-\d\d)[T ](\d\d:\d\d(?::\d\d(?:[.,]\d+)?)?) ?(Z|[+-]\d\d(?::?\d\d)?)?")
_AUDIOMOTH = re.compile(
    r"Recorded at (\d\d:\d\d:\d\d(?:\.\d{1,6})?) (\d\d)/(\d\d)/(\d{4})"
    r"(?: \(UTC(?:([+-])(\d{1,2})(?::(\d\d))?)?\))? (?:by AudioMoth|during deployment)"
)
_DATE, _TIME = re.compile(rb"(\d{4})\D(\d\d)\D(\d\d)"), re.compile(rb"(\d\d)\D(\d\d)\D(\d\d)")
_BLANK = " \t\r\n\v\f\0\ufeff"


def header_time(path: str | Path) -> datetime | None:
    """When a recording began, by its header; with the zone that the header states, else without one.

    Reads WAV (also RF64, BW64 and W64) and FLAC. None if the header states no time, or an impossible one, and for
    what cannot be read.
    """
    try:
        with open_regular(Path(path)) as file:
            size = os.fstat(file.fileno()).st_size
            head = file.read(40)
            if head[:4] == b"fLaC":
                return _stated(_flac(file, size))
            if (head[:4] in RIFF and head[8:12] == b"WAVE") or (head[:4] == b"riff" and head[24:28] == b"wave"):
                return _stated(_wav(file, size, head))
    except (OSError, ValueError):  # the latter for paths with a zero byte
        pass
    return None


def plausible(moment: datetime) -> datetime | None:
    """The time itself; None for one at which nothing was recorded, such as that of a clock that was never set."""
    return moment if 1900 <= moment.year < 2100 and moment.date() != UNSET else None


def _stated(chunks: Iterator[tuple[bytes, bytes]]) -> datetime | None:
    """The time in the chunk that says most: GUANO has fractions and a zone, the comment a zone, `bext` no zone."""
    found: dict[bytes, bytes] = {}
    for name, body in chunks:
        found.setdefault(name, body)
    if b"guan" in found and (moment := _guano(_text(found[b"guan"]))):
        return moment
    if b"ICMT" in found and (moment := _audiomoth(_text(found[b"ICMT"]))):
        return moment
    if b"start" in found and (moment := _iso(_text(found[b"start"]))):
        return moment
    return _bext(found[b"bext"], found.get(b"fmt ", b"")) if b"bext" in found else None


# Fields ---------------------------------------------------------------------------------------------------------------


def _text(data: bytes) -> str:
    return data.decode("utf-8", errors="replace")


def _iso(text: str) -> datetime | None:
    """A date with a time, as GUANO allows them."""
    parts = _ISO.fullmatch(text.strip(_BLANK))
    if not parts:
        return None
    try:
        return plausible(datetime.fromisoformat(f"{parts[1]}T{parts[2]}{parts[3] or ''}"))
    except ValueError:
        return None


def _guano(text: str) -> datetime | None:
    for line in text.split("\n"):
        key, _, value = line.partition(":")
        if key.strip(_BLANK) == "Timestamp":
            return _iso(value)
    return None


def _audiomoth(text: str) -> datetime | None:
    parts = _AUDIOMOTH.match(text)
    if not parts:
        return None
    clock, day, month, year, sign, hours, minutes = parts.groups()
    offset = timedelta(hours=int(hours or 0), minutes=int(minutes or 0)) * (-1 if sign == "-" else 1)
    try:
        local = datetime.fromisoformat(f"{year}-{month}-{day}T{clock}")
        return plausible(local.replace(tzinfo=timezone(offset)))
    except ValueError:
        return None


def _bext(body: bytes, form: bytes) -> datetime | None:
    """`OriginationDate` and `OriginationTime`, made exact by `TimeReference` where that is of the same clock."""
    date, clock = _DATE.fullmatch(body[320:330]), _TIME.fullmatch(body[330:338])
    rate = struct.unpack_from("<I", form, 4)[0] if len(form) >= 8 else 0
    first = struct.unpack_from("<Q", body, 338)[0] / rate if rate and len(body) >= 346 else 0.0
    if not date:
        return None
    try:
        midnight = datetime.fromisoformat(b"-".join(date.groups()).decode())
        counted = midnight + timedelta(seconds=first) if 0 < first < 86400 else None
        stated = datetime.combine(midnight, time.fromisoformat(b":".join(clock.groups()).decode())) if clock else None
    except ValueError:
        return None
    if stated and counted and 0 <= (counted - stated).total_seconds() < CLOSE:
        return plausible(counted)
    begun = stated or counted
    return plausible(begun) if begun else None


# Chunks ---------------------------------------------------------------------------------------------------------------


def _wav(file: BinaryIO, size: int, head: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The chunks of a WAV or W64 file that may state a time, as far as they are read; the list's comment alone.

    Every chunk moves on by its header at least, and there are at most `CHUNKS`.
    """
    wide = head[:4] == b"riff"
    form, at, align = ("<16sQ", 40, 8) if wide else ("<4sI", 12, 2)
    above, long_size = struct.calcsize(form), 0
    for _ in range(CHUNKS):
        if at + above > size:
            return
        file.seek(at)
        name, length = struct.unpack(form, file.read(above).ljust(above, b"\0"))
        name, length = name[:4], length - (above if wide else 0)
        if length < 0:
            return
        if name == b"data":
            length = long_size if long_size and length == 0xFFFFFFFF else length
            if length in {0, 0xFFFFFFFF}:  # a recorder that could not go back to fill it in: all that follows is sound
                return
        elif name == b"ds64":
            long_size = struct.unpack("<8xQ", file.read(16).ljust(16, b"\0"))[0]
        elif name in {b"fmt ", b"guan", b"bext", b"LIST"}:
            body = file.read(min(length, CHUNK))
            yield from _info(body) if name == b"LIST" else ((name, body),)
        at += above + length + -length % align


def _info(body: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The comment in a list of the type `INFO`."""
    at = 4 if body[:4] == b"INFO" else len(body)
    while at + 8 <= len(body):
        name, length = struct.unpack_from("<4sI", body, at)
        if name == b"ICMT":
            yield name, body[at + 8 : at + 8 + length].rstrip(b"\0")
        at += 8 + length + length % 2


def _flac(file: BinaryIO, size: int) -> Iterator[tuple[bytes, bytes]]:
    """The chunks in a FLAC file's application blocks, and the comments that state a time."""
    at, last = 4, False
    for _ in range(CHUNKS):
        if last or at + 4 > size:
            return
        file.seek(at)
        kind, *length = struct.unpack("4B", file.read(4).ljust(4, b"\0"))
        last, count = bool(kind & 128), int.from_bytes(bytes(length), "big")
        if kind & 127 == 2:
            body = file.read(min(count, CHUNK))
            if body[:4] in {b"guan", b"GUAN"}:
                yield b"guan", body[4:]
            elif body[:4] == b"riff" and body[4:8] == b"LIST":
                yield from _info(body[12:])
            elif body[:4] == b"riff" and body[4:8] in {b"guan", b"bext", b"fmt "}:
                yield body[4:8], body[12:]
        elif kind & 127 == 4:
            yield from _comments(file.read(min(count, CHUNK)))
        at += 4 + count


def _comments(body: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The comments `KEY=value` of a FLAC file that state a time; a key is written in any case."""
    at = 8 + int.from_bytes(body[:4], "little")
    while at + 4 <= len(body):
        length = int.from_bytes(body[at : at + 4], "little")
        key, _, value = body[at + 4 : at + 4 + length].partition(b"=")
        kind = {b"recordingstart": b"start", b"timestamp": b"start", b"guano": b"guan"}.get(key.lower())
        if kind:
            yield kind, value
        elif key.lower() in {b"comment", b"description"} and value.startswith(b"Recorded at "):
            yield b"ICMT", value
        at += 4 + length
