"""Look through sound in chunks: WAV, AIFF, W64, CAF; and AU, a header and samples.

libsndfile reads a truncated file of these formats as a shorter sound without an error. Of a file whose length is not
stated it may read nothing, and of one with two data chunks neither. So their structure is checked here, and where it is
needed, the file is given to libsndfile with another header.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Mapping
from typing import BinaryIO, NamedTuple

import attrs

from soundbench.audio.frames import look_into_mpeg
from soundbench.audio.splices import Content, Part, Spliced, at
from soundbench.limits import CHUNKS

__all__ = ["LOOKS", "misstates"]

# Bytes that may be missing before a file counts as truncated: many headers include themselves in the size.
SLACK = 256


@attrs.frozen
class _Layout:
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


class _Chunk(NamedTuple):
    """A chunk: its name, where its body begins, and the length that its header states."""

    name: bytes
    begin: int
    length: int


_WAV = _Layout(12, "<4sI", b"data", align=2)
_AIFF = _Layout(12, ">4sI", b"SSND", align=2)
_W64 = _Layout(40, "<16sQ", b"data\xf3\xac\xd3\x11\x8c\xd1\x00\xc0\x4f\x8e\xdb\x8a", inclusive=True, align=8)
_CAF = _Layout(8, ">4sQ", b"data")


class _Damaged(Exception):
    """The structure of a file is not that of its format; the argument says how."""


def _walk(file: BinaryIO, size: int, layout: _Layout, order: str = "") -> Iterator[_Chunk]:
    """The chunks of a file, one after the other; of files joined end to end, those of all."""
    form = order + layout.form[1:] if order else layout.form
    header = struct.calcsize(form)
    place, sound = layout.first, False
    for _ in range(CHUNKS):
        if place + header > size:
            return
        name, length = struct.unpack(form, at(file, place, header))
        if sound and not _is_name(name[:4]):  # not chunks
            return
        if name in (b"RIFF", b"RIFX") and layout is _WAV:
            place += layout.first
            continue
        if layout.inclusive and length < header and (name != layout.sound or length):
            raise _Damaged(f"the chunk at byte {place} states a length of {length} bytes")
        length -= min(header, length) if layout.inclusive else 0
        yield _Chunk(name, place + header, length)
        sound = sound or name == layout.sound
        place += header + length + -length % layout.align
    if not sound:
        raise _Damaged(f"it has more than {CHUNKS:,} chunks")


def _is_name(name: bytes) -> bool:
    return all(32 <= letter < 127 for letter in name)


def _ends(file: BinaryIO, size: int, layout: _Layout, place: int, order: str = "") -> bool:
    """Whether only whole chunks follow, so that a size of 0 before them is meant."""
    later = attrs.evolve(layout, first=place + -place % layout.align, sound=b"")
    for chunk in _walk(file, size, later, order):
        if not _is_name(chunk.name[:4]) or chunk.begin + chunk.length > size:
            return False
        place = chunk.begin + chunk.length
    return size - place <= 1


def _unknown(length: int) -> bool:
    """Whether a size is a placeholder of programs that cannot go back to fill it in."""
    return length <= 0 or 0x7FFFF000 <= length <= 0x80000000 or 0xFFFFFF00 <= length <= 0xFFFFFFFF or length >= 1 << 62


def _cut_off(promised: int, there: int) -> str:
    if promised - there <= SLACK:
        return ""
    return f"truncated: the header states {promised} bytes of sound, the file has {there}; copy it again"


def _patched(size: int, changes: Mapping[int, bytes]) -> Content:
    """The file with other bytes at some places."""
    parts: list[Part] = []
    place = 0
    for offset, new in sorted(changes.items()):
        parts += [(place, offset), new]
        place = offset + len(new)
    return Content(links=((*parts, (place, size)),))


# WAV ------------------------------------------------------------------------------------------------------------------

# The format tags that libsndfile reads, and names of others.
_READ = frozenset({1, 2, 3, 6, 7, 0x11, 0x31, 0x38, 0x40, 0xFFFE})
_NAMES = {
    0x10: "OKI ADPCM",
    0x14: "G.723 ADPCM",
    0x17: "Dialogic ADPCM",
    0x20: "Yamaha ADPCM",
    0x22: "TrueSpeech",
    0x32: "GSM of MSN",
    0x42: "G.723.1",
    0x45: "G.726",
    0x50: "MPEG audio",  # these two are decoded like a file of their own
    0x55: "MP3",
    0x61: "DK4 ADPCM",
    0x62: "DK3 ADPCM",
    0x64: "G.726",
    0x65: "G.722",
    0x69: "Xbox ADPCM",
    0x83: "G.729",
    0xFF: "AAC",
    0x111: "G.723.1",
    0x160: "WMA 1",
    0x161: "WMA 2",
    0x162: "WMA Pro",
    0x163: "WMA Lossless",
    0x200: "Creative ADPCM",
    0x270: "ATRAC3",
    0x28F: "G.722",
    0x2000: "AC-3",
    0x2001: "DTS",
    0x706D: "AAC",
    0xA109: "Speex",
    0xF1AC: "FLAC",
}


_MPEG = ("MPEG audio", "MP3")


@attrs.define
class _Wav:
    """What is known of a WAV file so far: its byte order, its fmt chunk, its size of 64 bits, its sound."""

    order: str
    form: bytes = b""
    long: int = -1
    stretches: list[tuple[int, int]] = attrs.field(factory=list)
    rebuild: bool = False
    damage: str = ""


_FINE = Content()
_FORM = struct.Struct("<HHIIHH")
# Of a format tag, the bits of the usual codings.
_PLAIN = {1: (8, 16, 24, 32), 3: (32, 64)}


def misstates(file: BinaryIO) -> bool:
    """Whether the header of a WAV file may show that its decoder must be given another one."""
    head = at(file, 0, 36)
    if len(head) < 36 or head[:4] not in (b"RIFF", b"RF64") or head[12:16] != b"fmt ":
        return True
    tag, channels, _, _, align, bits = struct.unpack_from("<HHIIHH", head, 20)
    return tag not in _READ or (tag == 1 and 8 * align != bits * channels)


def _is_plain(head: bytes, size: int) -> bool:
    """Whether a file is samples in a common coding, up to its end, after a short header: most are, and quickly seen."""
    place = 12 if head[:4] == b"RIFF" else len(head)
    fits = False
    while place + 8 <= len(head):
        name, length = head[place : place + 4], int.from_bytes(head[place + 4 : place + 8], "little")
        place += 8
        if name == b"data":
            return fits and length > 0 and place + length == size
        if name == b"fmt " and place + 16 <= len(head):
            tag, channels, rate, _, align, bits = _FORM.unpack_from(head, place)
            fits = rate > 0 and 0 < 8 * align == bits * channels and bits in _PLAIN.get(tag, ())
        place += length + length % 2
    return False


def _wav(file: BinaryIO, size: int) -> Content:
    if _is_plain(at(file, 0, 128), size):
        return _FINE
    name = at(file, 0, 4)
    wav = _Wav(">" if name == b"RIFX" else "<", rebuild=name == b"BW64")
    for chunk in _walk(file, size, _WAV, wav.order):
        if chunk.name == b"ds64":  # RF64: the sizes that need 64 bits
            wav.long = struct.unpack("<Q", at(file, chunk.begin + 8, 8).ljust(8, b"\0"))[0]
        elif chunk.name == b"fmt ":
            form = at(file, chunk.begin, min(chunk.length, 1024))
            if wav.stretches and form != wav.form:
                raise _Damaged("its parts have different codings")
            wav.form = form
        elif chunk.name == b"data":
            wav.damage = wav.damage or _wav_sound(file, size, wav, chunk)
    if not wav.stretches and not wav.damage:
        raise _Damaged("it has no data chunk")
    coding = _wav_coding(wav)
    if coding in _MPEG and not wav.damage:
        (begin, end), *_ = wav.stretches
        inner = look_into_mpeg(Spliced.opened(file, [(begin, end)]), end - begin)
        return attrs.evolve(inner, links=inner.links or (((0, end - begin),),)).moved(begin)
    if wav.damage or coding or not (wav.rebuild or len(wav.stretches) > 1):
        return Content(wav.damage, coding=coding)
    return Content(links=((_wav_header(wav), *wav.stretches),))


def _wav_sound(file: BinaryIO, size: int, wav: _Wav, chunk: _Chunk) -> str:
    """Add the sound of a data chunk; returns what is wrong with it."""
    length = wav.long if wav.long >= 0 and chunk.length == 0xFFFFFFFF else chunk.length
    end = min(chunk.begin + length, size)
    if length == 0 and _ends(file, size, _WAV, chunk.begin, wav.order):
        wav.stretches.append((chunk.begin, chunk.begin))
        return ""
    if _unknown(length):
        wav.rebuild = wav.rebuild or length == 0 or wav.long >= 0
        end = size
    elif damage := _cut_off(length, size - chunk.begin):
        return damage
    wav.stretches.append((chunk.begin, end))
    return ""


def _wav_coding(wav: _Wav) -> str:
    """The name of the coding, if libsndfile does not read it."""
    if len(wav.form) < 16:
        raise _Damaged("it has no fmt chunk before its sound")
    tag, channels, rate, _, align, bits = struct.unpack_from(wav.order + "HHIIHH", wav.form)
    if not channels or not rate:
        raise _Damaged(f"its header states {channels} channels at {rate} Hz")
    if tag == 0xFFFE and len(wav.form) >= 26:
        (tag,) = struct.unpack_from(wav.order + "H", wav.form, 24)
    width = align // channels
    if tag == 1 and 8 * width != bits and width in (1, 2, 3, 4):  # the bytes of a sample decide
        wav.rebuild, bits = True, 8 * width
        wav.form = wav.form[:14] + struct.pack(wav.order + "H", bits) + wav.form[16:]
    if (tag == 1 and width > 4) or (tag == 3 and width not in (4, 8)):
        return f"{'PCM' if tag == 1 else 'float'} of {bits} bits"
    return "" if tag in _READ else _NAMES.get(tag, f"0x{tag:04X}")


def _wav_header(wav: _Wav) -> bytes:
    """A header for all sound of a file."""
    length = sum(end - begin for begin, end in wav.stretches)
    form = b"fmt " + struct.pack(wav.order + "I", len(wav.form)) + wav.form + bytes(len(wav.form) % 2)
    if length + len(form) < 0xFFFFF000:
        name = b"RIFX" if wav.order == ">" else b"RIFF"
        sizes = [struct.pack(wav.order + "I", number) for number in (12 + len(form) + length, length)]
        return name + sizes[0] + b"WAVE" + form + b"data" + sizes[1]
    long = b"ds64" + struct.pack("<IQQQI", 28, length + len(form) + 48, length, 0, 0)
    return b"RF64\xff\xff\xff\xffWAVE" + long + form + b"data\xff\xff\xff\xff"


# AIFF, W64, CAF, AU ---------------------------------------------------------------------------------------------------


def _aiff(file: BinaryIO, size: int) -> Content:
    changes: dict[int, bytes] = {}
    common, damage, begin = None, "", 0
    for chunk in _walk(file, size, _AIFF):
        if chunk.name == b"COMM":
            common = chunk
        elif chunk.name == b"SSND" and not begin:
            begin = chunk.begin
            streamed = chunk.length <= 8 and not _ends(file, size, _AIFF, begin + chunk.length)
            if streamed or (chunk.length > 8 and _unknown(chunk.length)):
                changes[begin - 4] = struct.pack(">I", min(size - begin, 0xFFFFFFFF))
            else:
                damage = _cut_off(chunk.length, size - begin)
    if common is None:
        raise _Damaged("it has no COMM chunk")
    form = at(file, common.begin, 22)
    channels, _, bits = struct.unpack(">HIH", form[:8].ljust(8, b"\0"))
    if not channels or (not bits and form[18:22] in (b"", b"NONE", b"sowt")):
        raise _Damaged(f"its header states {channels} channels of {bits} bits")
    if changes and not damage:
        offset = int.from_bytes(at(file, begin, 4), "big")
        frames = (size - begin - 8 - offset) // (channels * max((bits + 7) // 8, 1))
        changes[common.begin + 2] = struct.pack(">I", min(max(frames, 0), 0xFFFFFFFF))
        return _patched(size, changes)
    coded = at(file, 8, 4) == b"AIFC" and form[18:22] not in _AIFC_READ
    return Content(damage, coding=form[18:22].decode("ascii", "replace").strip() if coded else "")


def _w64(file: BinaryIO, size: int) -> Content:
    for chunk in _walk(file, size, _W64):
        if chunk.name == _W64.sound:
            there = size - chunk.begin
            if there and _unknown(chunk.length):
                return _patched(size, {chunk.begin - 8: struct.pack("<Q", 24 + there)})
            # libsndfile takes what follows, if it is no chunk, for sound
            links = (((0, chunk.begin + chunk.length),),) if chunk.length < there else ()
            return Content(_cut_off(chunk.length, there), links=links)
    raise _Damaged("it has no data chunk")


def _caf(file: BinaryIO, size: int) -> Content:
    coding = ""
    for chunk in _walk(file, size, _CAF):
        if chunk.name == b"desc":
            name = at(file, chunk.begin + 8, 4)
            coding = "" if name in _CAF_READ else name.decode("ascii", "replace").strip()
        elif chunk.name == b"data":
            there = size - chunk.begin
            if not coding and chunk.length >= 1 << 62:
                return _patched(size, {chunk.begin - 8: struct.pack(">Q", there)})
            return Content("" if _unknown(chunk.length) else _cut_off(chunk.length, there), coding=coding)
    raise _Damaged("it has no data chunk")


_AIFC_READ = frozenset(
    {b"NONE", b"sowt", b"twos", b"raw ", b"in24", b"in32", b"42ni", b"23ni", b"fl32", b"FL32", b"fl64", b"FL64"}
    | {b"alaw", b"ALAW", b"ulaw", b"ULAW", b"GSM ", b"ima4", b"DWVW"}
)
_CAF_READ = frozenset({b"lpcm", b"alac", b"ulaw", b"alaw"})
_AU_READ = frozenset({1, 2, 3, 4, 5, 6, 7, 23, 25, 26, 27})


def _au(file: BinaryIO, size: int) -> Content:
    offset, length, coding = struct.unpack(">III", at(file, 4, 12).ljust(12, b"\0"))
    if length == 0 and size > offset:
        return _patched(size, {8: b"\xff\xff\xff\xff"})
    damage = "" if _unknown(length) else _cut_off(length, size - offset)
    return Content(damage, coding="" if coding in _AU_READ or damage else f"AU coding {coding}")


def _explained(look: Callable[[BinaryIO, int], Content], kind: str) -> Callable[[BinaryIO, int], Content]:
    """The look, with a structure that is not that of its format as damage."""

    def explained(file: BinaryIO, size: int) -> Content:
        try:
            return look(file, size)
        except _Damaged as wrong:
            return Content(f"damaged {kind} file: {wrong}; copy or convert it again")

    return explained


LOOKS: Mapping[str, Callable[[BinaryIO, int], Content]] = {
    kind: _explained(look, kind)
    for kind, look in {"WAV": _wav, "AIFF": _aiff, "W64": _w64, "CAF": _caf, "AU": _au}.items()
}
