"""Pipes of raw samples and of WAV files, blocks that wait, and the last samples of a stream."""

from __future__ import annotations

import io
import os
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile

from soundbench.audio import capture
from soundbench.audio.capture import Block, BlockQueue, Pipe, Ring
from soundbench.audio.codings import FORMATS, Coding, find_format, read_wav_header
from soundbench.errors import CallError, SoundError


def all_of(pipe: Pipe) -> np.ndarray:
    found: list[np.ndarray] = []
    while (blocks := pipe.take(1.0)) is not None:
        found += [block.samples for block in blocks]
    pipe.close()
    return np.concatenate([np.empty((0, pipe.channels), np.float32), *found])


def piped(data: bytes, size: int, **options: object) -> Pipe:
    """A pipe that bytes are written to, so many at a time."""
    read, write = os.pipe()

    def bring() -> None:
        for at in range(0, len(data), size):
            os.write(write, data[at : at + size])
        os.close(write)

    threading.Thread(target=bring, daemon=True).start()
    return Pipe(read, **options)  # type: ignore[arg-type]


@pytest.fixture
def samples() -> np.ndarray:
    return np.random.default_rng(0).uniform(-1, 1, (3001, 2)).astype(np.float32)


@pytest.mark.parametrize("size", [1, 7, 4096, 1 << 20])
def test_raw_samples_in_pieces_of_any_size(samples: np.ndarray, size: int) -> None:
    found = all_of(piped(samples.astype("<f4").tobytes(), size, form="f32le", rate=8000, channels=2))
    np.testing.assert_array_equal(found, samples)
    whole = np.arange(-3000, 3000, dtype="<i2")
    found = all_of(piped(whole.tobytes() + b"\1", size, form="s16le", rate=8000))
    np.testing.assert_array_equal(found[:, 0], whole / np.float32(32768))


@pytest.mark.parametrize("coding", ["PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE"])
@pytest.mark.parametrize("container", ["WAV", "WAVEX", "RF64"])
def test_a_wav_file_of_any_coding_is_what_soundfile_reads(samples: np.ndarray, coding: str, container: str) -> None:
    file = io.BytesIO()
    soundfile.write(file, samples, 11025, format=container, subtype=coding)
    file.seek(0)
    pipe = piped(file.getvalue(), 1000)
    assert (pipe.rate, pipe.channels) == (11025, 2)
    np.testing.assert_allclose(all_of(pipe), soundfile.read(file, dtype="float32")[0], atol=1e-7)


# By the names of arecord and of FFmpeg: those of soundfile that are the same bytes.
CODINGS = {
    ("U8", "u8"): ("PCM_U8", "LITTLE"),
    ("S8", "s8"): ("PCM_S8", "BIG"),
    ("S16_LE", "s16le"): ("PCM_16", "LITTLE"),
    ("S16_BE", "s16be"): ("PCM_16", "BIG"),
    ("S24_3LE", "s24le"): ("PCM_24", "LITTLE"),
    ("S24_3BE", "s24be"): ("PCM_24", "BIG"),
    ("S32_LE", "s32le"): ("PCM_32", "LITTLE"),
    ("S32_BE", "s32be"): ("PCM_32", "BIG"),
    ("FLOAT_LE", "f32le"): ("FLOAT", "LITTLE"),
    ("FLOAT_BE", "f32be"): ("FLOAT", "BIG"),
    ("FLOAT64_LE", "f64le"): ("DOUBLE", "LITTLE"),
    ("FLOAT64_BE", "f64be"): ("DOUBLE", "BIG"),
    ("MU_LAW", "mulaw"): ("ULAW", "LITTLE"),
    ("A_LAW", "alaw"): ("ALAW", "LITTLE"),
}


@pytest.mark.parametrize("names", CODINGS, ids=lambda names: names[1])
def test_raw_samples_of_every_coding_are_what_soundfile_reads(samples: np.ndarray, names: tuple[str, str]) -> None:
    coding, order = CODINGS[names]
    file = io.BytesIO()
    form = "AIFF" if coding == "PCM_S8" else "RAW"
    raw = {} if form == "AIFF" else {"endian": order}
    soundfile.write(file, 0.9 * samples, 8000, format=form, subtype=coding, **raw)
    data = file.getvalue()
    data = data[data.index(b"SSND") + 16 :] if form == "AIFF" else data
    file.seek(0)
    more = {"samplerate": 8000, "channels": 2, "format": "RAW", "subtype": coding, **raw} if form == "RAW" else {}
    wanted = soundfile.read(file, dtype="float32", **more)[0]
    for name in (*names, names[0].lower()):
        found = all_of(piped(data, 999, form=name, rate=8000, channels=2))
        np.testing.assert_allclose(found, wanted, atol=1e-7)


def test_integers_in_more_bytes_than_they_need_and_without_a_sign() -> None:
    """Of S24_LE the fourth byte, and of S20_3LE the upper half of the third, may be anything."""
    values = np.array([-(1 << 19), -1, 0, 1, (1 << 19) - 1])
    for name, bits, size in (("S20_3", 20, 3), ("S18_3", 18, 3), ("S20_", 20, 4), ("S24_", 24, 4), ("S32_", 32, 4)):
        scaled = values * (1 << bits) // (1 << 20)
        for order, suffix in (("little", "LE"), ("big", "BE")):
            for junk in (0, 0xFF):
                words = [int(value) & (1 << bits) - 1 | (junk << bits & (1 << 8 * size) - 1) for value in scaled]
                data = b"".join(word.to_bytes(size, order) for word in words)
                wanted = (scaled / (1 << (bits - 1))).astype(np.float32)
                np.testing.assert_array_equal(find_format(name + suffix).decode(data), wanted)
                middle = [word ^ 1 << (bits - 1) for word in words]
                data = b"".join(word.to_bytes(size, order) for word in middle)
                np.testing.assert_array_equal(find_format("U" + name[1:] + suffix).decode(data), wanted)


def test_every_name_of_arecord_and_ffmpeg_is_known() -> None:
    integers = [f"{letter}{bits}" for letter in "SU" for bits in ("16_", "18_3", "20_3", "20_", "24_3", "24_", "32_")]
    arecord = ["S8", "U8", "MU_LAW", "A_LAW", "FLOAT_LE", "FLOAT_BE", "FLOAT64_LE", "FLOAT64_BE"]
    arecord += [name + order for name in integers for order in ("LE", "BE")]
    ffmpeg = [f"{letter}{bits}{order}" for letter in "su" for bits in (16, 24, 32) for order in ("le", "be")]
    ffmpeg += ["s8", "u8", "f32le", "f32be", "f64le", "f64be", "mulaw", "alaw"]
    assert set(FORMATS) == {*arecord, *ffmpeg}
    with pytest.raises(
        CallError, match=r"^--format: no raw samples are called 's16l'; did you mean \"s16le\"\? known: S8, "
    ):
        Pipe(0, "s16l", 8000)


@pytest.mark.parametrize(("size", "bits"), [(2, 12), (3, 20), (4, 24)])
def test_the_bytes_of_a_sample_in_a_wav_file_decide(size: int, bits: int) -> None:
    low = 8 * size - bits
    whole = np.arange(-200, 200) << (8 * size - 10) >> low << low
    body = b"".join(int(value).to_bytes(size, "little", signed=True) for value in whole)
    head = struct.pack("<IHHIIHH", 16, 1, 1, 8000, 8000 * size, size, bits)
    data = b"RIFF\0\0\0\0WAVEfmt " + head + b"data" + struct.pack("<I", len(body)) + body
    np.testing.assert_allclose(all_of(piped(data, 100))[:, 0], whole / (1 << (8 * size - 1)), atol=1e-7)


@pytest.mark.parametrize("coding", ["PCM_16", "PCM_24", "FLOAT", "ALAW", "ULAW"])
def test_a_big_endian_wav_file_and_laws_are_read(samples: np.ndarray, coding: str) -> None:
    for options in ({"format": "WAV", "endian": "BIG"}, {"format": "WAV"}, {"format": "WAVEX"}):
        file = io.BytesIO()
        soundfile.write(file, 0.9 * samples, 11025, subtype=coding, **options)
        file.seek(0)
        wanted = soundfile.read(file, dtype="float32")[0]
        np.testing.assert_allclose(all_of(piped(file.getvalue(), 1000)), wanted, atol=1e-7)


@pytest.mark.parametrize("stated", [1000, 0, (1 << 64) - 1])
def test_what_follows_the_samples_of_an_rf64_is_no_sound_where_their_size_is_stated(stated: int) -> None:
    sizes = b"ds64" + struct.pack("<IQQQI", 28, 0, stated, 0, 0)
    body = bytes(1000) + (b"LIST\4\0\0\0abcd" if stated == 1000 else b"")
    data = b"RF64" + wav(0xFFFFFFFF, body)[4:12] + sizes + wav(0xFFFFFFFF, body)[12:]
    assert len(all_of(piped(data, 100))) == 500


def wav(size: int, body: bytes, before: bytes = b"") -> bytes:
    head = b"fmt " + struct.pack("<IHHIIHH", 16, 1, 1, 8000, 16000, 2, 16)
    return b"RIFF\xff\xff\xff\xffWAVE" + head + before + b"data" + struct.pack("<I", size) + body


@pytest.mark.parametrize("size", [0, 0xFFFFFFFF, 0x7FFFFFFF, 0x80000000])
def test_a_wav_file_of_unknown_length_lasts_until_the_pipe_closes(size: int) -> None:
    body = np.arange(500, dtype="<i2").tobytes()
    found = all_of(piped(wav(size, body, b"LIST\3\0\0\0abc\0"), 100))
    np.testing.assert_array_equal(found[:, 0], np.arange(500) / np.float32(32768))


def test_what_follows_the_samples_is_no_sound() -> None:
    assert len(all_of(piped(wav(100, bytes(100) + b"LIST\4\0\0\0abcd"), 10))) == 50


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "is empty"),
        (b"OggS" + bytes(100), "is not a WAV file; raw samples need --format, such as s16le, and --rate"),
        (b"RIFF\0\0\0\0WAVEfmt \4\0\0\0\1\0\1\0", "is a damaged WAV file: its fmt chunk is cut off"),
        (
            b"RIFF\0\0\0\0WAVEfmt " + struct.pack("<IHHIIHH", 16, 0x11, 1, 8000, 4000, 256, 4),
            "is a WAV file of coding 17 with 4 bits; PCM and float are read from a pipe",
        ),
        (b"RIFF\0\0\0\0WAVEJUNK\xff\0\0\0", "is a WAV file without samples"),
    ],
)
def test_what_is_no_wav_file_is_refused(data: bytes, message: str) -> None:
    with pytest.raises(SoundError) as caught:
        read_wav_header(io.BytesIO(data).read)
    assert str(caught.value) == f"standard input: {message}"


def test_numbers_that_are_none_are_refused_after_what_came_before() -> None:
    good = np.ones(10, "<f4").tobytes()
    pipe = Pipe(_written(good), "f32le", 8000)
    assert len(all_of(pipe)) == 10
    with pytest.raises(SoundError, match="standard input: contains NaN or infinity; does --format"):
        all_of(Pipe(_written(b"\xff" * 40), "f32le", 8000))


def _written(data: bytes) -> int:
    read, write = os.pipe()
    os.write(write, data)
    os.close(write)
    return read


def test_a_pipe_needs_to_know_what_it_carries() -> None:
    with pytest.raises(CallError, match="raw samples need their rate: --format s16le --rate 16000"):
        Pipe(0, "s16le")
    with pytest.raises(CallError, match="--rate is only for raw samples with --format; a WAV file states its own rate"):
        Pipe(0, None, 8000)
    with pytest.raises(CallError, match="--channels is only for raw samples with --format; a WAV file states its own"):
        Pipe(0, None, None, 2)


def test_a_pipe_is_read_no_further_than_what_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(capture, "LONGEST_WAIT", 1)
    read, write = os.pipe()
    os.set_blocking(write, False)
    pipe = Pipe(read, "s16le", 8000)
    written = 0
    for _ in range(20):
        try:
            written += os.write(write, bytes(1 << 16))
        except BlockingIOError:
            time.sleep(0.01)
    assert written < 20 << 15
    os.close(write)
    assert 2 * len(all_of(pipe)) == written


def test_real_processes_at_both_ends_of_a_pipe(tmp_path: Path) -> None:
    tone = np.sin(np.arange(40000) / 9).astype(np.float32)
    soundfile.write(tmp_path / "a.wav", tone, 8000)
    code = (
        "import numpy as np\nfrom soundbench.audio.capture import Pipe\n"
        "pipe, n, total = Pipe(), 0, 0.0\n"
        "while (blocks := pipe.take(1)) is not None:\n"
        "    for block in blocks: n, total = n + len(block.samples), total + float(np.abs(block.samples).sum())\n"
        "print(pipe.rate, n, round(total, 2))"
    )
    with subprocess.Popen(["cat", tmp_path / "a.wav"], stdout=subprocess.PIPE) as cat:
        done = subprocess.run(
            [sys.executable, "-c", code], stdin=cat.stdout, capture_output=True, text=True, check=True
        )
    rate, count, total = done.stdout.split()
    assert (rate, count) == ("8000", "40000")
    assert float(total) == pytest.approx(np.abs(tone).sum(), abs=1)


def test_what_does_not_wait_is_lost_and_counted() -> None:
    queue = BlockQueue(100)
    ten = np.zeros((10, 1), np.float32)
    for number in range(12):
        queue.offer(ten, float(number), lost=int(number == 3))
    first = queue.take(0)
    assert first is not None
    assert [(len(block.samples), block.lost) for block in first] == [(10, int(n == 3)) for n in range(10)]
    queue.offer(ten, 12.0)
    queue.end()
    assert [(block.at, block.lost) for block in queue.take(0) or []] == [(12.0, 20)]
    assert queue.take(0) is None
    assert BlockQueue(1).take(0.01) == []


def test_codings_know_silence_and_full_scale() -> None:
    assert Coding(8000, 1, find_format("u8")).decode(b"\x80\0\xff").ravel().tolist() == [0, -1, 127 / 128]
    assert Coding(8000, 2, find_format("s24le")).decode(b"\0\0\x40\0\0\x80").tolist() == [[0.5, -1]]
    assert Block(np.zeros((1, 1), np.float32), 0.0).lost == 0


def test_a_ring_keeps_the_last_samples() -> None:
    ring, all_of_it = Ring(7), np.arange(100, dtype=np.float32)
    at = 0
    for size in (3, 4, 1, 20, 0, 6, 7, 2):
        ring.write(all_of_it[at : at + size])
        at += size
        assert ring.total == at
        np.testing.assert_array_equal(ring.span(0, 1000), all_of_it[max(at - 7, 0) : at])
        np.testing.assert_array_equal(ring.span(at - 5, at - 2), all_of_it[max(at - 5, 0) : max(at - 2, 0)])
    ring.skip(3)
    np.testing.assert_array_equal(ring.span(at - 2, at + 1), [at - 2, at - 1, 0])
    ring.skip(10**9)
    np.testing.assert_array_equal(ring.span(0, 10**10), np.zeros(7))
