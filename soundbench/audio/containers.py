"""Detect the format of a sound file, and check without decoding that the file is complete.

The decoders read a truncated or partly overwritten file as a shorter sound without an error (WAV, AIFF, Ogg), or print
warnings on standard error (MP3). So the structure of these formats is checked here.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import struct
import zlib
from collections.abc import Callable, Mapping
from typing import BinaryIO

import attrs

__all__ = ["PYAV_KINDS", "damage", "last_ogg_page", "sniff"]

# Bytes that may be missing before a file counts as truncated: many headers include themselves in the size.
SLACK = 256
# Bytes after the last MPEG frame that are accepted without being a known tag.
TAIL = 4096
# The largest file that is read at once, in bytes.
LARGE = 1 << 24
Data = bytes | mmap.mmap
MAGIC: tuple[tuple[int, bytes, str], ...] = (
    (0, b"fLaC", "FLAC"),
    (0, b"OggS", "Ogg"),
    (8, b"WAVE", "WAV"),
    (8, b"AIFF", "AIFF"),
    (8, b"AIFC", "AIFF"),
    (0, b"riff\x2e\x91\xcf\x11", "W64"),
    (0, b"caff", "CAF"),
    (0, b".snd", "AU"),
    (4, b"ftyp", "M4A/MP4"),
    (0, b"\x1a\x45\xdf\xa3", "WebM/Matroska"),
    (0, b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", "WMA"),
    (0, b"ADIF", "AAC"),
    (0, b"\x0b\x77", "AC-3"),
    (0, b"#!AMR", "AMR"),
    (0, b"MAC ", "Monkey's Audio"),
    (0, b"wvpk", "WavPack"),
)
PYAV_KINDS = frozenset(
    {"M4A/MP4", "WebM/Matroska", "WMA", "AAC", "AC-3", "AMR", "Monkey's Audio", "WavPack", "Ogg Speex", "Ogg FLAC"}
)


def sniff(file: BinaryIO) -> str:
    """The format of a sound file by its first bytes; "" if unknown."""
    start = _after_id3(file)
    head = _at(file, start, 64)
    for offset, magic, kind in MAGIC:
        if head[offset : offset + len(magic)] == magic:
            return {b"Speex   ": "Ogg Speex", b"\x7fFLAC": "Ogg FLAC"}.get(_ogg_codec(head), kind)
    # ADTS and MPEG audio start alike; ADTS has layer 0.
    if len(head) >= 2 and head[0] == 0xFF and head[1] & 0xF6 == 0xF0:
        return "AAC"
    return "MP3" if start or _mpeg_frame(head, 0) else ""


def damage(file: BinaryIO, size: int, kind: str) -> str:
    """What is missing or damaged in a file; "" if it is complete.

    Args:
        file: the file, open for reading in binary.
        size: its size in bytes.
        kind: its format, as named by `sniff`.
    """
    check = _CHECKS.get(kind)
    return check(file, size) if check else ""


def _at(file: BinaryIO, offset: int, count: int) -> bytes:
    file.seek(offset)
    return file.read(count)


def _whole(file: BinaryIO, size: int) -> Data:
    """The content of a file; a large one is memory-mapped, so that hours of sound need no memory."""
    if size > LARGE:
        with contextlib.suppress(OSError, ValueError):
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    return _at(file, 0, size)


def _after_id3(file: BinaryIO) -> int:
    """The start of the sound: after an ID3v2 tag, if there is one."""
    return _id3_end(_at(file, 0, 10), 0)


def _id3_end(data: Data, at: int) -> int:
    if data[at : at + 3] != b"ID3" or len(data) < at + 10:
        return at
    length = 0
    for byte in data[at + 6 : at + 10]:  # seven bits per byte
        length = length << 7 | byte & 127
    return at + 10 + length


def _cut_off(promised: int, there: int) -> str:
    if promised - there <= SLACK:
        return ""
    return f"truncated: the header states {promised} bytes of sound, the file has {there}; copy it again"


# Chunks: WAV, AIFF, W64, CAF ------------------------------------------------------------------------------------------


@attrs.frozen
class _Chunks:
    """The layout of a chunk format.

    Attributes:
        first: where the first chunk begins.
        form: of a chunk's header, as `struct` has it: name and size.
        sound: the name of the chunk that holds the sound.
        inclusive: whether the size counts the header.
        align: what chunks are padded to.
    """

    first: int
    form: str
    sound: bytes
    inclusive: bool = False
    align: int = 1


_CHUNKS: Mapping[str, _Chunks] = {
    "WAV": _Chunks(12, "<4sI", b"data", align=2),
    "AIFF": _Chunks(12, ">4sI", b"SSND", align=2),
    "W64": _Chunks(40, "<16sQ", b"data\xf3\xac\xd3\x11\x8c\xd1\x00\xc0\x4f\x8e\xdb\x8a", inclusive=True, align=8),
    "CAF": _Chunks(8, ">4sQ", b"data"),
}


def _chunks(layout: _Chunks) -> Callable[[BinaryIO, int], str]:
    """A check that a file of chunks has as much sound as the header of the chunk states."""

    def check(file: BinaryIO, size: int) -> str:
        form = layout.form
        if _at(file, 0, 4) == b"RIFX":
            form = form.replace("<", ">")
        header = struct.calcsize(form)
        at, long_size = layout.first, 0
        while at + header <= size:
            name, length = struct.unpack(form, _at(file, at, header))
            if name == b"ds64":  # RF64: the sizes that need 64 bits
                long_size = struct.unpack("<Q", _at(file, at + header + 8, 8).ljust(8, b"\0"))[0]
            length -= header if layout.inclusive else 0
            if name == layout.sound:
                promised = long_size or length
                return "" if _unknown(promised) else _cut_off(promised, size - at - header)
            at += header + length + -length % layout.align
        return ""

    return check


def _unknown(length: int) -> bool:
    """Whether a size is a placeholder of programs that cannot go back to fill it in."""
    return length <= 0 or 0x7FFFF000 <= length <= 0x80000000 or 0xFFFFFF00 <= length <= 0xFFFFFFFF or length >= 1 << 62


def _au(file: BinaryIO, size: int) -> str:
    offset, length = struct.unpack(">II", _at(file, 4, 8).ljust(8, b"\0"))
    return "" if _unknown(length) else _cut_off(length, size - offset)


# Ogg ------------------------------------------------------------------------------------------------------------------

LARGEST_PAGE = 27 + 255 + 255 * 255
# Ogg's checksum has the opposite bit order of zlib's: with bits reversed before and after, zlib computes it.
_TURNED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


def _ogg_codec(head: bytes) -> bytes:
    """The first bytes of the first packet, where the codecs that PyAV reads have their names."""
    packet = head[28:36] if head[:4] == b"OggS" else b""
    return packet[:5] if packet[:5] == b"\x7fFLAC" else packet


def last_ogg_page(file: BinaryIO) -> int:
    """The first sample of the last page of an Ogg file; 0 if unknown."""
    size = file.seek(0, os.SEEK_END)
    tail = _at(file, max(size - 2 * LARGEST_PAGE, 0), 2 * LARGEST_PAGE)
    ends = [-1, -1]  # of the last pages: the number of samples up to there, -1 for a page on which no packet ends
    at = tail.find(b"OggS\0")
    while 0 <= at <= len(tail) - 14:
        ends.append(*struct.unpack("<q", tail[at + 6 : at + 14]))
        at = tail.find(b"OggS\0", at + 1)
    return max(ends[-2], 0)


def _ogg(file: BinaryIO, size: int) -> str:
    """Check that every page is complete and has the stated checksum. A stream without a last page is accepted."""
    data = _whole(file, size)
    at = 0
    while at < size:
        if data[at : at + 4] != b"OggS":
            tag = data.find(b"OggS", at) < 0 and size - at <= TAIL
            return "" if tag else f"corrupt: no Ogg page at byte {at}; copy it again"
        head = at + 27
        body = head + data[head - 1] if head <= size else size + 1
        end = body + sum(data[head:body])
        if max(body, end) > size:
            return f"truncated: the Ogg page at byte {at} is cut off; copy it again"
        page = data[at : at + 22] + bytes(4) + data[at + 26 : end]
        turned = zlib.crc32(page.translate(_TURNED), 0xFFFFFFFF) ^ 0xFFFFFFFF
        if turned.to_bytes(4, "big").translate(_TURNED) != data[at + 22 : at + 26]:
            return f"corrupt: the Ogg page at byte {at} has a wrong checksum; copy it again"
        at = end
    return ""


# MPEG -----------------------------------------------------------------------------------------------------------------

_BITRATES: Mapping[tuple[bool, int], tuple[int, ...]] = {  # (MPEG-1, layer): kbit/s
    (True, 1): tuple(range(32, 449, 32)),
    (True, 2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (True, 3): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (False, 1): (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (False, 2): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (False, 3): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_TAGS = (b"TAG", b"APETAGEX", b"LYRICSBEGIN")


def _mpeg_frame(data: Data, at: int) -> int:
    """The length in bytes of the frame with its header at this place; 0 if there is none."""
    head = data[at : at + 4]
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE0 != 0xE0:
        return 0
    version, layer = head[1] >> 3 & 3, 4 - (head[1] >> 1 & 3)
    bitrate, rate = head[2] >> 4, head[2] >> 2 & 3
    if version == 1 or layer == 4 or bitrate in (0, 15) or rate == 3:
        return 0
    hertz = (44100, 48000, 32000)[rate] >> {3: 0, 2: 1, 0: 2}[version]
    bits = 1000 * _BITRATES[version == 3, layer][bitrate - 1]
    padding = head[2] >> 1 & 1
    if layer == 1:
        return (12 * bits // hertz + padding) * 4
    return (72 if layer == 3 and version != 3 else 144) * bits // hertz + padding


def _mpeg_promise(data: Data, at: int) -> int:
    """The number of frames stated by the header in the first frame, itself not counted; 0 if there is none."""
    frame = data[at : at + 64]
    tag = max(frame.find(b"Xing"), frame.find(b"Info"))
    flags, frames = struct.unpack(">II", frame[tag + 4 : tag + 12]) if 0 <= tag <= 52 else (0, 0)
    return frames if flags & 1 else 0


def _mpeg(file: BinaryIO, size: int) -> str:
    """Check every frame, and their number if it is stated. A truncated file that states none is accepted."""
    data = _whole(file, size)
    at = first = _after_id3(file)
    frames = 0
    while at < size:
        length = _mpeg_frame(data, at)
        if length:
            frames += at + length <= size
            at += length
        elif data[at : at + 3] == b"ID3" and _id3_end(data, at) > at:
            at = _id3_end(data, at)
        else:
            lost = _mpeg_lost(data, at)
            if lost and frames:
                return lost
            break
    promised = _mpeg_promise(data, first)
    if promised and frames - 1 < promised - 1:  # some count the header itself
        return f"truncated: the header states {promised} MPEG frames, the file has {max(frames - 1, 0)}; copy it again"
    return ""


def _mpeg_lost(data: Data, at: int) -> str:
    """The error if no frame starts where one should; "" if only tags follow."""
    again = data.find(b"\xff", at)
    while again >= 0:
        length = _mpeg_frame(data, again)
        if length and _mpeg_frame(data, again + length):
            return f"corrupt: {again - at} bytes from byte {at} on are not MPEG audio; copy it again"
        again = data.find(b"\xff", again + 1)
    left = len(data) - at
    if left > TAIL and not data[at : at + 16].startswith(_TAGS):
        return f"corrupt: the last {left} bytes are not MPEG audio; copy it again"
    return ""


_CHECKS: Mapping[str, Callable[[BinaryIO, int], str]] = {
    **{kind: _chunks(layout) for kind, layout in _CHUNKS.items()},
    "AU": _au,
    "Ogg": _ogg,
    "MP3": _mpeg,
}
