"""What a sound file says of itself: its kind, and whether all of it is there."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
import soundfile

from soundbench.audio import containers, frames


def sound(form: str, coding: str, seconds: float = 4.0, **options: object) -> bytes:
    samples = 0.1 * np.random.default_rng(1).standard_normal(round(16000 * seconds))
    file = io.BytesIO()
    soundfile.write(file, samples, 16000, format=form, subtype=coding, **options)
    return file.getvalue()


def damage(data: bytes) -> str:
    file = io.BytesIO(data)
    return containers.look(file, len(data), containers.sniff(file)).damage


def pages(data: bytes) -> list[int]:
    """Where the pages of an Ogg file begin."""
    found, at = [], data.find(b"OggS\0")
    while at >= 0:
        found.append(at)
        at = data.find(b"OggS\0", at + 1)
    return found


FORMS = {
    ("WAV", "PCM_16"): "WAV",
    ("RF64", "PCM_16"): "WAV",
    ("W64", "PCM_16"): "W64",
    ("AIFF", "PCM_16"): "AIFF",
    ("AU", "PCM_16"): "AU",
    ("CAF", "PCM_16"): "CAF",
    ("FLAC", "PCM_16"): "FLAC",
    ("OGG", "VORBIS"): "Ogg",
    ("OGG", "OPUS"): "Ogg",
    ("MP3", "MPEG_LAYER_III"): "MP3",
}


@pytest.mark.parametrize(("form", "coding"), FORMS)
def test_a_whole_file_is_known_and_sound(form, coding):
    data = sound(form, coding)
    assert containers.sniff(io.BytesIO(data)) == FORMS[form, coding]
    assert damage(data) == ""


@pytest.mark.parametrize("head", [b"", b"\xff", b"RIFF", b"hello, world", bytes(64), b"\xff\xff\xff\xff", b"OggS"])
def test_what_begins_like_nothing_or_is_too_short_does_no_harm(head):
    assert damage(head) in ("", "truncated: the Ogg page at byte 0 is cut off; copy it again")


def test_kinds_by_their_first_bytes():
    kinds = {
        b"\0\0\0\x18ftypmp42": "M4A/MP4",
        b"\xff\xf1\x50\x80": "AAC",
        b"\xff\xfb\x90\x64": "MP3",
        b"ID3\x03\0\0\0\0\0\x02??\xff\xfb\x90\x64": "MP3",
        b"ID3\x03\0\0\0\0\0\x02??\xff\xf1\x50\x80": "AAC",
        b"ID3\x03\0\0\0\0\0\x02??fLaC": "FLAC",
        b"\xff\xfb\xf0\x64": "",  # no such bit rate
    }
    for head, kind in kinds.items():
        assert containers.sniff(io.BytesIO(head + bytes(64))) == kind


@pytest.mark.parametrize("form", ["WAV", "AIFF", "AU", "CAF", "W64", "RF64"])
def test_a_header_may_be_off_by_its_own_length(form):
    data = sound(form, "PCM_16")
    assert damage(data[:-200]) == ""
    assert damage(data[:-400]).startswith("truncated: the header states ")


def test_a_wav_of_the_other_byte_order():
    data = sound("WAV", "PCM_16", endian="BIG")
    assert data[:4] == b"RIFX"
    assert damage(data) == ""
    assert damage(data[: len(data) // 2]).startswith("truncated: the header states 128000 bytes of sound, ")


@pytest.mark.parametrize("coding", ["VORBIS", "OPUS"])
def test_an_ogg_stream_may_end_after_any_page(coding):
    data = sound("OGG", coding)
    assert damage(data[: pages(data)[-1]]) == ""
    assert damage(data + b"TAG" + bytes(125)) == ""


def test_what_is_wrong_in_an_ogg_file():
    data = sound("OGG", "VORBIS")
    last = pages(data)[-1]
    assert damage(data[:last] + b"oops" + data[last:]) == f"corrupt: no Ogg page at byte {last}; copy it again"
    assert damage(data[:last] + bytes(9999)) == f"corrupt: no Ogg page at byte {last}; copy it again"
    for cut in (last + 10, last + 27, last + 30, len(data) - 1):
        assert damage(data[:cut]) == f"truncated: the Ogg page at byte {last} is cut off; copy it again"
    for at in (last + 6, last + 22, last + 27 + data[last + 26], len(data) - 1):
        broken = data[:at] + bytes([data[at] ^ 4]) + data[at + 1 :]
        assert damage(broken) == f"corrupt: the Ogg page at byte {last} has a wrong checksum; copy it again"


def test_the_last_page_of_an_ogg_file():
    data = sound("OGG", "VORBIS", 20.0)
    before = pages(data)[-2]
    wanted = struct.unpack("<q", data[before + 6 : before + 14])[0]
    assert 0 < frames.last_ogg_page(io.BytesIO(data)) == wanted < 320000
    assert frames.last_ogg_page(io.BytesIO(b"")) == 0


@pytest.mark.parametrize(
    ("head", "length"),
    [
        ("ff fb 90 64", 417),  # MPEG-1 layer III, 128 kbit/s, 44.1 kHz
        ("ff fb 92 64", 418),  # with padding
        ("ff fd 84 04", 384),  # MPEG-1 layer II, 128 kbit/s, 48 kHz
        ("ff ff 84 04", 256),  # MPEG-1 layer I, 256 kbit/s, 48 kHz
        ("ff f3 88 c4", 288),  # MPEG-2 layer III, 64 kbit/s, 16 kHz
        ("ff e3 48 c4", 288),  # MPEG-2.5 layer III, 32 kbit/s, 8 kHz
    ],
)
def test_the_length_of_an_mpeg_frame(head, length):
    frame = bytes.fromhex(head).ljust(length, b"\0")
    assert damage(frame * 20) == ""
    lost = f"corrupt: {length} bytes from byte {5 * length} on are not MPEG audio; copy it again"
    assert damage(frame * 5 + bytes(length) + frame * 5) == lost


def test_an_mp3_that_was_cut_without_a_promise_is_let_pass():
    data = sound("MP3", "MPEG_LAYER_III", bitrate_mode="CONSTANT", compression_level=0.5)
    bare = data[data.index(data[:2], 4) :]
    assert damage(bare) == damage(bare[: len(bare) // 2]) == ""
    assert damage(data[: len(data) // 2]).startswith("truncated: the header states 114 MPEG frames, ")
