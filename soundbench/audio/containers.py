"""Detect the format of a sound file, and look through it without decoding it: is it complete, what must be decoded how.

The decoders read a truncated or partly overwritten file as a shorter sound without an error (WAV, AIFF, Ogg), or print
warnings on standard error (MP3).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from typing import BinaryIO

import attrs
import numpy as np

from soundbench.audio import chunks, frames
from soundbench.audio.frames import look_into_mpeg, look_into_ogg, mpeg_frame, tag_end
from soundbench.audio.splices import Content, Data, Spliced, at, whole

__all__ = ["PYAV_KINDS", "look", "must_look", "sniff"]

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
# The formats whose decoder may not end, or fails, if their chunks are not looked at first.
_CHUNKED = frozenset({"AIFF", "W64", "CAF"})
# The header of a first FLAC block: not the last block, or the last; its length.
_STREAMINFO = (b"\0\0\0\x22", b"\x80\0\0\x22")
# In bytes: the usual size of what precedes the frames; files below this size are not searched, which would take longer
# than 2% of their decoding; and how much is searched at a time.
_METADATA, _SMALL, _STRETCH = 1 << 14, 1 << 18, 1 << 20
# The formats whose decoder takes a tag after the last frame for a damaged frame.
_TAGGED = frozenset({"FLAC", "AAC", "AC-3", "AMR", "WavPack", "Monkey's Audio"})


# How tags begin.
_TAG_LETTERS = (b"I", b"T", b"A", b"L")


def sniff(file: BinaryIO) -> str:
    """The format of a sound file by its first bytes; "" if unknown."""
    head = at(file, 0, 64)
    start = _start(file) if head[:1] in _TAG_LETTERS else 0
    head = at(file, start, 64) if start else head
    for offset, magic, kind in MAGIC:
        if head[offset : offset + len(magic)] == magic:
            return {b"Speex   ": "Ogg Speex", b"\x7fFLAC": "Ogg FLAC"}.get(_ogg_codec(head), kind)
    # ADTS and MPEG audio start alike; ADTS has layer 0.
    if len(head) >= 2 and head[0] == 0xFF and head[1] & 0xF6 == 0xF0:
        return "AAC"
    return "MP3" if start or mpeg_frame(head, 0) else ""


def look(file: BinaryIO, size: int, kind: str) -> Content:
    """Look through a file: what is wrong with it, and what its decoder is given.

    Args:
        file: the file, open for reading in binary.
        size: its size in bytes.
        kind: its format, as named by `sniff`.
    """
    if kind == "MP3":
        return look_into_mpeg(file, size)
    begin = _start(file) if at(file, 0, 1) in _TAG_LETTERS else 0
    end = _before_tags(file, begin, size) if kind in _TAGGED else size
    inner = _LOOKS.get(kind)
    if (begin, end) == (0, size):
        return inner(file, size) if inner else Content()
    content = inner(Spliced.opened(file, [(begin, end)]), end - begin) if inner else Content()
    return attrs.evolve(content, links=content.links or (((0, end - begin),),)).moved(begin)


def must_look(file: BinaryIO, size: int, kind: str) -> bool:
    """Whether a file must be looked through even if only a section of it is decoded."""
    if kind == "WAV":
        return chunks.misstates(file)
    return kind in _CHUNKED or (kind == "MP3" and frames.misstates(file, size))


def _ogg_codec(head: bytes) -> bytes:
    """The first bytes of the first packet, where the codecs that PyAV reads have their names."""
    packet = head[28:36] if head[:4] == b"OggS" else b""
    return packet[:5] if packet[:5] == b"\x7fFLAC" else packet


def _start(file: BinaryIO) -> int:
    """The start of the sound, after tags."""
    start = 0
    while (end := tag_end(at(file, start, 32), 0)) > 0:
        start += end
    return start


def _before_tags(file: BinaryIO, begin: int, end: int) -> int:
    """The end of the sound, before the tags ID3v1, APEv2 and Lyrics3."""
    while end > begin:
        tail = at(file, max(end - 5200, begin), min(5200, end - begin))
        length = _tag_before(tail)
        if not length:
            break
        end -= length
    return max(end, begin)


def _tag_before(tail: bytes) -> int:
    """The length of the tag at the end; 0 if there is none."""
    if tail[-128:-125] == b"TAG":
        return 128
    if tail[-227:-223] == b"TAG+":
        return 227
    if tail[-32:-24] == b"APETAGEX":
        return int.from_bytes(tail[-20:-16], "little") + 32 * (tail[-9] >> 7)  # bit 31: it has a header, too
    if tail[-9:] == b"LYRICS200" and tail[-15:-9].isdigit():
        return int(tail[-15:-9]) + 15
    if tail[-9:] == b"LYRICSEND" and b"LYRICSBEGIN" in tail:
        return len(tail) - tail.rfind(b"LYRICSBEGIN")
    return 0


def _flac(file: BinaryIO, size: int) -> Content:
    """Find files joined end to end; of small files, where they are larger than the stated frames can be."""
    head = at(file, 0, 42)
    block, frame = int.from_bytes(head[8:10], "big"), int.from_bytes(head[15:18], "big")
    samples = int.from_bytes(head[21:26], "big") & (1 << 36) - 1
    if size < _SMALL and frame and samples and block and size <= frame * -(-samples // block) + _METADATA:
        return Content()
    data = whole(file, size)
    places = (place for place in _places(data, b"fLaC") if place > 0 and data[place + 4 : place + 8] in _STREAMINFO)
    begins = [0, *places]
    if len(begins) == 1:
        return Content()
    ends = [_before_tags(file, begin, end) for begin, end in itertools.pairwise([*begins, size])]
    return Content(links=tuple(((begin, end),) for begin, end in zip(begins, ends, strict=True)))


def _places(data: Data, word: bytes) -> list[int]:
    """Where a word of four bytes is in the data; several times as fast as `bytes.find`.

    It has its first two bytes, or the two in its middle, at an even place.
    """
    found: list[int] = []
    for first in range(0, len(data), _STRETCH):
        pairs = np.frombuffer(data, np.uint16, min(_STRETCH, len(data) - first) // 2, first)
        for shift in (0, 1):
            same = pairs == np.frombuffer(word, np.uint16, 1, shift)
            at = int(same.argmax()) if len(same) else 0
            while at < len(same) and same[at]:
                place = 2 * at + first - shift
                if data[max(place, 0) : place + 4] == word:
                    found.append(place)
                at += 1 + int(same[at + 1 :].argmax()) if at + 1 < len(same) else 1
    return sorted(found)


_LOOKS: Mapping[str, Callable[[BinaryIO, int], Content]] = {
    **chunks.LOOKS,
    "FLAC": _flac,
    "Ogg": look_into_ogg,
    "Ogg Speex": look_into_ogg,
    "Ogg FLAC": look_into_ogg,
}
