"""Look through sound that is a row of frames or pages: MPEG audio and Ogg.

libsndfile estimates the length of an MP3 that states none and stops there, and of a chained Ogg file it reads the first
link. So the frames are counted here, and the links are found.
"""

from __future__ import annotations

import functools
import itertools
import os
import re
import struct
import zlib
from collections.abc import Mapping
from typing import BinaryIO

import attrs

from soundbench.audio.splices import Content, Data, Part, at, whole

__all__ = ["TAIL", "id3_end", "last_ogg_page", "look_into_mpeg", "look_into_ogg", "misstates", "mpeg_frame", "tag_end"]

# Bytes after the last MPEG frame that are accepted without being a known tag.
TAIL = 4096

# Tags -----------------------------------------------------------------------------------------------------------------


def id3_end(data: Data, begin: int) -> int:
    """Where an ID3v2 tag ends; `begin` if there is none."""
    head = data[begin : begin + 10]
    if head[:3] != b"ID3" or len(head) < 10:
        return begin
    length = 0
    for byte in head[6:10]:  # seven bits per byte
        length = length << 7 | byte & 127
    return begin + 10 + length + 10 * (head[5] >> 4 & 1)


def tag_end(data: Data, begin: int) -> int:
    """Where a tag that begins here ends: ID3v1, ID3v2, APEv2 or Lyrics3; `begin` if there is none."""
    head = data[begin : begin + 32]
    if head[:3] == b"ID3":
        return id3_end(data, begin)
    if head[:4] == b"TAG+":
        return begin + 227
    if head[:3] == b"TAG":
        return begin + 128
    if head[:8] == b"APETAGEX" and len(head) == 32:
        size, _, flags = struct.unpack("<III", head[12:24])
        return begin + 32 + (int(size) if flags & 1 << 29 else 0)  # bit 29: this is the header, not the footer
    if head[:11] == b"LYRICSBEGIN":
        end = max(data.find(mark, begin) for mark in (b"LYRICS200", b"LYRICSEND"))
        return end + 9 if end > 0 else begin
    return begin


# MPEG -----------------------------------------------------------------------------------------------------------------

_BITRATES: Mapping[tuple[bool, int], tuple[int, ...]] = {  # (MPEG-1, layer): kbit/s
    (True, 1): tuple(range(32, 449, 32)),
    (True, 2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (True, 3): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (False, 1): (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (False, 2): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (False, 3): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
# What may be the first three bytes of a frame: no reserved version, layer, bit rate or sample rate.
_SYNC = re.compile(rb"\xff[\xe2-\xe7\xf2-\xff][\x10-\xef]", re.DOTALL)
# No frame has more bytes.
_LARGEST = 4096
# No header has more samples taken away at the start and the end: two numbers of twelve bits.
_TRIMMED = 2 * 4096


@functools.cache
def _length(kind: int, rates: int) -> int:
    """The length in bytes of a frame with this second and third byte; 0 if they are none of a frame."""
    version, layer = kind >> 3 & 3, 4 - (kind >> 1 & 3)
    bitrate, rate = rates >> 4, rates >> 2 & 3
    if kind & 0xE0 != 0xE0 or version == 1 or layer == 4 or bitrate in (0, 15) or rate == 3:
        return 0
    hertz = _hertz(kind, rates)
    bits = 1000 * _BITRATES[version == 3, layer][bitrate - 1]
    padding = rates >> 1 & 1
    if layer == 1:
        return (12 * bits // hertz + padding) * 4
    return (72 if layer == 3 and version != 3 else 144) * bits // hertz + padding


def _hertz(kind: int, rates: int) -> int:
    return (44100, 48000, 32000)[rates >> 2 & 3] >> {3: 0, 2: 1, 0: 2}[kind >> 3 & 3]


def _samples(kind: int) -> int:
    """The samples of a frame with this second byte."""
    version, layer = kind >> 3 & 3, 4 - (kind >> 1 & 3)
    return 384 if layer == 1 else 576 if layer == 3 and version != 3 else 1152


def mpeg_frame(data: Data, begin: int) -> int:
    """The length in bytes of the frame with its header at this place; 0 if there is none."""
    head = data[begin : begin + 4]
    return _length(head[1], head[2]) if len(head) == 4 and head[0] == 0xFF else 0


@attrs.frozen
class _Run:
    """MPEG frames of one kind, one directly after the other.

    Attributes:
        head: the first four bytes of the first one.
        frames: how many are complete.
        begin: the first byte.
        end: the byte after the last one.
    """

    head: bytes
    frames: int
    begin: int
    end: int

    @property
    def mono(self) -> bool:
        return self.head[3] >= 0xC0


def look_into_mpeg(file: BinaryIO, size: int) -> Content:
    """Check every frame, and their number if it is stated. A truncated file that states none is accepted."""
    data = whole(file, size)
    begin = id3_end(data, 0)
    while tag_end(data, begin) > begin:
        begin = tag_end(data, begin)
    runs, damage = _runs(data, begin if mpeg_frame(data, begin) else _two_frames(data, begin), size)
    if damage or not runs:
        return Content(damage or _nothing(data[begin : begin + 64]))
    links = [_link(data, list(group)) for _, group in itertools.groupby(runs, lambda run: run.mono)]
    damage = next((link.damage for link in links if link.damage), "")
    least = sum(link.least for link in links)
    if damage or (len(links) == 1 and links[0].as_it_is):
        return Content(damage, least=least)
    return Content(links=tuple(link.parts for link in links), least=least)


def _runs(data: Data, begin: int, size: int) -> tuple[list[_Run], str]:
    """The frames, passing over tags between them; and what is wrong."""
    runs: list[_Run] = []
    start = place = begin
    frames, form, damage = 0, 0, ""
    while place + 4 <= size:
        sync, kind, rates, mode = data[place : place + 4]
        length = _length(kind, rates) if sync == 0xFF else 0
        seen = (kind & 0x1E) << 8 | rates & 0x0C | (mode >= 0xC0)
        if length and seen == form:
            if place + length > size:
                break
            frames += 1
            place += length
            continue
        if frames:
            runs.append(_Run(data[start : start + 4], frames, start, place))
        frames, start = 0, place
        if not length:
            after = tag_end(data, place)
            if after == place:
                damage = _lost(data, place) if runs else ""
                break
            known = mpeg_frame(data, after) or tag_end(data, after) > after
            place = start = after if known else _two_frames(data, after)  # the size that a tag states may be wrong
        elif form and (seen ^ form) & ~1:
            damage = _changed(data, place, runs[-1].head)
            break
        else:
            form = seen
    if frames:
        runs.append(_Run(data[start : start + 4], frames, start, place))
    return runs, damage


def _nothing(frame: bytes) -> str:
    """The error if there is no complete frame."""
    promised = _promise(frame)[1]
    if promised:
        return f"truncated: the header states {promised} MPEG frames, the file has 0; copy it again"
    return "damaged MP3 file: no MPEG frame that can be decoded; copy or convert it again"


def _two_frames(data: Data, begin: int) -> int:
    """Where a frame follows on a frame; the end of the data if there are none."""
    for match in _SYNC.finditer(data, begin):
        length = mpeg_frame(data, match.start())
        if length and mpeg_frame(data, match.start() + length):
            return match.start()
    return len(data)


def _lost(data: Data, begin: int) -> str:
    """The error if no frame starts where one should; "" if hardly anything follows."""
    again = _two_frames(data, begin)
    if again < len(data):
        return f"corrupt: {again - begin} bytes from byte {begin} on are not MPEG audio; copy it again"
    left = len(data) - begin
    return f"corrupt: the last {left} bytes are not MPEG audio; copy it again" if left > TAIL else ""


def _changed(data: Data, place: int, first: bytes) -> str:
    before, after = (_hertz(head[1], head[2]) for head in (first, data[place : place + 4]))
    said = f"from {before} to {after} Hz" if before != after else "to another layer"
    return f"changes {said} at byte {place}; convert its parts to one sample rate"


@attrs.frozen
class _Link:
    """MPEG audio with the same channels throughout.

    Attributes:
        parts: what is decoded.
        as_it_is: whether it is one stretch, with a header that states its length.
        least: the least number of samples that its frames hold.
        damage: what is wrong with it.
    """

    parts: tuple[Part, ...] = ()
    as_it_is: bool = False
    least: int = 0
    damage: str = ""


def _link(data: Data, runs: list[_Run]) -> _Link:
    begin = runs[0].begin
    frame = data[begin : begin + mpeg_frame(data, begin)]
    tag, promised = _promise(frame)
    counted = sum(run.frames for run in runs) - bool(tag)
    if promised and counted < promised - 1:  # some count the header itself
        said = f"the header states {promised} MPEG frames, the file has {counted}"
        return _Link(damage=f"truncated: {said}; copy it again")
    least = counted * _samples(runs[0].head[1])
    stretches = [(run.begin, run.end) for run in runs]
    right = len(runs) == 1 and promised in (counted, counted + 1) and tag != b"VBRI"
    after = len(data) - runs[-1].end
    if right and (after == 128 or 200 * after <= len(data)):  # more is no sound, and the decoder would warn of it
        return _Link(tuple(stretches), True, least - _TRIMMED)
    if not tag:
        return _Link((*stretches, counted * _LARGEST), least=least)
    if right:
        return _Link(tuple(stretches), least=least - _TRIMMED)
    stretches[0] = (begin + len(frame), runs[0].end)
    if not promised or tag == b"VBRI":
        return _Link((*stretches, counted * _LARGEST), least=least)
    return _Link(
        (_restated(frame, counted, sum(end - begin for begin, end in stretches)), *stretches), least=least - _TRIMMED
    )


def _promise(frame: bytes) -> tuple[bytes, int]:
    """The name of the header in the first frame, and the number of frames it states; nothing if there is none."""
    if frame[36:40] == b"VBRI":
        return b"VBRI", int.from_bytes(frame[50:54], "big")
    place = max(frame[:56].find(b"Xing"), frame[:56].find(b"Info"))
    if place < 0:
        return b"", 0
    flags, frames = struct.unpack(">II", frame[place + 4 : place + 12].ljust(8, b"\0"))
    return frame[place : place + 4], frames if flags & 1 else 0


def _restated(frame: bytes, frames: int, size: int) -> bytes:
    """The header with another number of frames and of bytes; no samples of the last frame are padding."""
    place = max(frame[:56].find(b"Xing"), frame[:56].find(b"Info")) + 8
    flags = int.from_bytes(frame[place - 4 : place], "big")
    changed = bytearray(frame)
    for flag, value in ((1, frames), (2, len(frame) + size)):
        if flags & flag:
            changed[place : place + 4] = struct.pack(">I", min(value, 0xFFFFFFFF))
            place += 4
    padding = place + 25 * (flags & 4) + (flags >> 1 & 4) + 22
    if len(frame) > padding + 2:
        changed[padding : padding + 2] = bytes([changed[padding] & 0xF0, 0])
    return bytes(changed)


def misstates(file: BinaryIO, size: int) -> bool:
    """Whether the first MPEG frame shows that its decoder must be given another: no sound, or other files follow."""
    begin = 0
    while (end := tag_end(at(file, begin, 32), 0)) > 0:
        begin += end
    frame = at(file, begin, 128)
    tag, _ = _promise(frame)
    if tag in (b"", b"VBRI"):
        return bool(tag)
    place = frame.find(tag) + 4
    flags = int.from_bytes(frame[place : place + 4], "big")
    stated = int.from_bytes(frame[place + 4 + 4 * (flags & 1) : place + 8 + 4 * (flags & 1)], "big")
    return bool(flags & 2) and size - begin - stated > stated // 200


# Ogg ------------------------------------------------------------------------------------------------------------------

LARGEST_PAGE = 27 + 255 + 255 * 255
# Ogg's checksum has the opposite bit order of zlib's: with bits reversed before and after, zlib computes it.
_TURNED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


def last_ogg_page(file: BinaryIO) -> int:
    """The first sample of the last page of an Ogg file; 0 if unknown."""
    size = file.seek(0, os.SEEK_END)
    tail = at(file, max(size - 2 * LARGEST_PAGE, 0), 2 * LARGEST_PAGE)
    ends = [-1, -1]  # of the last pages: the number of samples up to there, -1 for a page on which no packet ends
    place = tail.find(b"OggS\0")
    while 0 <= place <= len(tail) - 14:
        ends.append(*struct.unpack("<q", tail[place + 6 : place + 14]))
        place = tail.find(b"OggS\0", place + 1)
    return max(ends[-2], 0)


def look_into_ogg(file: BinaryIO, size: int) -> Content:
    """Check that every page is complete and has the stated checksum. A stream without a last page is accepted."""
    data = whole(file, size)
    place, begins, beginning = 0, [], False
    while place < size:
        if data[place : place + 4] != b"OggS":
            if data.find(b"OggS", place) < 0 and size - place <= TAIL:
                size = place
                break
            return Content(f"corrupt: no Ogg page at byte {place}; copy it again")
        head = place + 27
        body = head + data[head - 1] if head <= size else size + 1
        end = body + sum(data[head:body])
        if max(body, end) > size:
            return Content(f"truncated: the Ogg page at byte {place} is cut off; copy it again")
        page = data[place : place + 22] + bytes(4) + data[place + 26 : end]
        turned = zlib.crc32(page.translate(_TURNED), 0xFFFFFFFF) ^ 0xFFFFFFFF
        if turned.to_bytes(4, "big").translate(_TURNED) != data[place + 22 : place + 26]:
            return Content(f"corrupt: the Ogg page at byte {place} has a wrong checksum; copy it again")
        first = bool(data[place + 5] & 2)  # of a logical stream; those of one link begin together
        if first and not beginning:
            begins.append(place)
        beginning = first
        place = end
    if len(begins) < 2:
        return Content()
    return Content(links=tuple(((begin, end),) for begin, end in itertools.pairwise([*begins, size])))
