"""All sound of a file is read: its length is that of an independent reader, or of the frames that it holds."""

from __future__ import annotations

import contextlib
import io
import random
import struct
import sys
import warnings
import wave
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
from helpers.sound_files import PYAV, RATE, SOUNDFILE, by_pyav, decoded_by_pyav, files, mpeg_frames, noise, written

from soundbench import audio
from soundbench.errors import CancellationWarning, SoundError, SoundWarning

LEFT, OTHER = noise(2 * RATE), noise(RATE + 500, seed=2)
PCM = np.round(32767 * LEFT).astype("<i2")
VALUES = PCM / np.float32(32768)
ID3V1 = b"TAG" + bytes(125)
ID3V2 = b"ID3\x04\0\0\0\0\x01\0" + bytes(128)


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def length(data: bytes | Path) -> int:
    """The number of samples, which is the same as a whole, in blocks, and by stretches."""
    samples, rate = audio.decode(data)
    assert sum(map(len, audio.blocks(data, rate))) == len(samples)
    end = len(samples) / rate
    for start, stop in ((0.1 * end, 0.2 * end), (0.7 * end, 0.9 * end)):
        part, _ = audio.decode(data, start, stop)
        np.testing.assert_allclose(part, samples[round(start * rate) : round(stop * rate)], atol=1e-6)
    return len(samples)


def refused(data: bytes) -> str:
    with pytest.raises(SoundError) as caught:
        audio.decode(data)
    with pytest.raises(SoundError) as again:
        list(audio.blocks(data, RATE))
    assert str(caught.value) == str(again.value)
    return str(caught.value).removeprefix("<bytes>: ")


# The standing guard ---------------------------------------------------------------------------------------------------


def by_others(data: bytes, name: str) -> dict[str, float]:
    """The length in seconds by each independent reader that reads the file."""
    found = {}
    if name.endswith(".wav"):
        with contextlib.suppress(wave.Error, EOFError), wave.open(io.BytesIO(data)) as file:
            found["wave"] = file.getnframes() / file.getframerate()
    with contextlib.suppress(soundfile.LibsndfileError):
        about = soundfile.info(io.BytesIO(data))
        found["soundfile"] = about.frames / about.samplerate
    with contextlib.suppress(ImportError):
        import av

        with contextlib.suppress(av.error.FFmpegError):
            samples, rate = decoded_by_pyav(data)
            found["PyAV"] = samples / rate
    return found


@pytest.mark.parametrize("name", [*SOUNDFILE, *PYAV])
def test_a_file_of_every_format_is_as_long_as_others_read_it(name: str) -> None:
    for seconds in (0.7, 3.0):
        if name not in files(seconds):
            pytest.skip("soundbench[av] is not installed")
        data = files(seconds)[name]
        compare(data, data, name)


def compare(source: bytes | Path, data: bytes, name: str) -> None:
    samples, rate = audio.decode(source)
    others = by_others(data, name)
    assert others
    for reader, found in others.items():
        # FFmpeg leaves the end of a Vorbis stream of a single page as long as its last block.
        more = 2048 if reader == "PyAV" and b"vorbis" in data[:64] else 1
        assert 0 <= round(found * rate) - len(samples) < more, f"{name}: {reader}"


def sounds(data: Path) -> list[Path]:
    return sorted(path for path in data.rglob("*") if path.suffix in audio.SUFFIXES and path.is_file())


def test_real_sounds_are_as_long_as_others_read_them(data: Path) -> None:
    for path in random.Random(0).sample(sounds(data), 60):
        compare(path, path.read_bytes(), str(path))


@pytest.mark.slow
def test_all_real_sounds_are_as_long_as_others_read_them(data: Path) -> None:
    for path in sounds(data):
        compare(path, path.read_bytes(), str(path))


# MPEG -----------------------------------------------------------------------------------------------------------------


def mp3(rate: int = 44100, mode: str = "VARIABLE", channels: int = 1) -> bytes:
    sound = np.concatenate([0.9 * noise(4 * rate), 0.001 * noise(6 * rate)])
    shaped = np.stack([sound] * channels, axis=1)
    return written(shaped, "MP3", "MPEG_LAYER_III", rate, bitrate_mode=mode, compression_level=0.5)


@pytest.mark.parametrize("mode", ["CONSTANT", "VARIABLE"])
@pytest.mark.parametrize("rate", [16000, 44100])
def test_an_mp3_that_states_no_length_is_read_to_its_last_frame(mode: str, rate: int) -> None:
    frames = mpeg_frames(mp3(rate, mode))[1:]
    size = 1152 if rate == 44100 else 576
    assert length(b"".join(frames)) == len(frames) * size
    assert length(b"".join(frames[7:])) == (len(frames) - 7) * size  # cut out of a longer one
    assert length((ID3V2 + b"".join(frames) + ID3V1) * 3) == 3 * len(frames) * size


def test_mp3s_joined_end_to_end_are_read_to_the_end(capfd: pytest.CaptureFixture[str]) -> None:
    """Their own lengths are stated, without the delays of encoder and decoder; between them the delays stay."""
    whole = mp3()
    single = length(whole)
    for tag in (b"", ID3V1):
        assert 3 * single <= length((whole + tag) * 3) < 3 * single + 2 * 3500
    assert length(whole + mp3(channels=2)) == 2 * single
    assert "changes from 44100 to 16000 Hz at byte" in refused(whole + mp3(16000))
    assert capfd.readouterr().err == ""


def test_a_header_that_states_too_few_frames_or_too_many() -> None:
    whole = mp3()
    place = max(whole.find(b"Xing", 0, 60), whole.find(b"Info", 0, 60)) + 8
    (right,) = struct.unpack(">I", whole[place : place + 4])
    for stated in (1, right // 2, right - 1):
        assert 0 <= length(whole[:place] + struct.pack(">I", stated) + whole[place + 4 :]) - length(whole) < 1152
    more = whole[:place] + struct.pack(">I", right + 100) + whole[place + 4 :]
    assert (
        refused(more) == f"truncated: the header states {right + 100} MPEG frames, the file has {right}; copy it again"
    )


def test_a_vbri_header_is_no_sound_and_its_promise_is_held() -> None:
    frames = [frame for frame in mpeg_frames(mp3())[1:] if len(frame) > 60]

    def with_header(stated: int) -> bytes:
        header = b"VBRI" + struct.pack(">HHHII", 1, 0, 0, 0, stated)
        return frames[0][:4] + bytes(32) + header.ljust(len(frames[0]) - 36, b"\0") + b"".join(frames)

    for stated in (len(frames), 3):
        assert length(with_header(stated)) == len(frames) * 1152
    assert refused(with_header(8500)).startswith("truncated: the header states 8500 MPEG frames, the file has ")


def test_mpeg_layer_2_of_changing_bit_rates_is_read_to_the_end() -> None:
    low, high = (by_pyav(LEFT, "mp2", "mp2", "stereo", 48000, rate) for rate in (64000, 384000))
    assert length(high + low) == length(high) + length(low) == decoded_by_pyav(high + low)[0]


# Ogg, FLAC ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("coding", ["VORBIS", "OPUS"])
def test_every_link_of_a_chained_ogg_is_read(coding: str) -> None:
    links = [written(sound, "OGG", coding) for sound in (LEFT, OTHER, np.stack([OTHER, OTHER], axis=1))]
    for chain in (links, [links[0]] * 2, links[::-1]):
        joined = b"".join(chain)
        np.testing.assert_array_equal(audio.decode(joined)[0], np.concatenate([audio.decode(one)[0] for one in chain]))
        assert length(joined) == sum(len(audio.decode(one)[0]) for one in chain)
        assert audio.decode(joined, 2.1, 2.9)[0].shape == (round(0.8 * RATE),)
    other = links[0] + written(OTHER, "OGG", coding, 48000)
    assert refused(other) == "part 1 of 2 has 16000 Hz, part 2 has 48000 Hz; convert them to one sample rate"
    assert refused((links[0] + links[1])[:-50]).startswith("truncated: the Ogg page at byte ")


def test_every_link_of_a_chained_ogg_flac_is_read() -> None:
    first, second = (by_pyav(sound, "flac", "ogg", "mono") for sound in (LEFT, OTHER))
    assert length(first + second) == len(LEFT) + len(OTHER)
    assert length(written(OTHER, "OGG", "VORBIS") + first) == len(LEFT) + len(OTHER)


APE = b"APETAGEX" + struct.pack("<IIII", 2000, 72, 1, 5 << 29) + bytes(8) + bytes(40)
APE += b"APETAGEX" + struct.pack("<IIII", 2000, 72, 1, 1 << 31) + bytes(8)
TAGS = {
    "ID3v1": ID3V1,
    "APEv2": APE,
    "APEv2, ID3v1": APE + ID3V1,
    "Lyrics3": b"LYRICSBEGININD0000200000021LYRICS200" + ID3V1,
    "Lyrics3, version 1": b"LYRICSBEGINla la laLYRICSEND" + ID3V1,
}


@pytest.mark.parametrize("tag", TAGS)
def test_a_tag_after_the_last_frame_is_no_sound(tag: str, capfd: pytest.CaptureFixture[str]) -> None:
    for name in ("a.flac", "16.wav", "a.w64", "a.aiff", "a.ogg", "vbr.mp3", "a.aac", "a.ac3", "a.wv", "a.mp2", "a.m4a"):
        if name not in files():
            continue
        whole, _ = audio.decode(files()[name])
        np.testing.assert_array_equal(audio.decode(files()[name] + TAGS[tag])[0], whole)
    assert capfd.readouterr().err == ""


def test_tags_before_the_sound_are_no_sound() -> None:
    for name in ("a.flac", "16.wav", "a.aiff", "a.ogg", "cbr.mp3", "a.aac"):
        if name in files():
            assert length(2 * ID3V2 + files()[name]) == len(audio.decode(files()[name])[0])


def test_flacs_joined_end_to_end_are_read() -> None:
    first, second = (written(sound, "FLAC", "PCM_16") for sound in (LEFT, OTHER))
    assert length(first + ID3V1 + second) == len(LEFT) + len(OTHER)
    long = np.concatenate([np.zeros(20 * RATE, np.float32), noise(8 * RATE)])
    whole = written(long, "FLAC", "PCM_16")
    assert length(whole * 2) == 2 * len(long)


# WAV ------------------------------------------------------------------------------------------------------------------


def form(tag: int = 1, bits: int = 16, size: int = 2, rate: int = RATE, order: str = "<") -> bytes:
    return b"fmt " + struct.pack(order + "IHHIIHH", 16, tag, 1, rate, rate * size, size, bits)


def chunk(name: bytes, body: bytes, size: int | None = None, order: str = "<") -> bytes:
    return name + struct.pack(order + "I", len(body) if size is None else size) + body


def wav(*chunks: bytes, name: bytes = b"RIFF", size: int | None = None, order: str = "<") -> bytes:
    body = b"WAVE" + b"".join(chunks)
    return name + struct.pack(order + "I", len(body) if size is None else size) + body


def same(data: bytes, wanted: np.ndarray) -> None:
    assert length(data) == len(wanted)
    np.testing.assert_allclose(audio.decode(data)[0], wanted, atol=1e-7)


@pytest.mark.parametrize("whole", [0, 8, 36, 0xFFFFFFFF, None])
@pytest.mark.parametrize("size", [0, 0xFFFFFFFF, 0x7FFFFFFF, 0x80000000, 0x7FFFF000])
def test_a_wav_without_a_length_is_read_to_the_end(size: int, whole: int | None) -> None:
    before = chunk(b"LIST", bytes(300))
    same(wav(form(), before, chunk(b"data", PCM.tobytes(), size), size=whole), VALUES)


def test_a_wav_of_no_samples_holds_none() -> None:
    for after in ((), (chunk(b"LIST", b"abcd" * 10),)):
        assert refused(wav(form(), chunk(b"data", b""), *after)) == "holds no samples"


@pytest.mark.parametrize("name", [b"RF64", b"BW64"])
@pytest.mark.parametrize("size", [0, PCM.nbytes, (1 << 64) - 1])
def test_an_rf64_without_a_length_is_read_to_the_end(name: bytes, size: int) -> None:
    sizes = chunk(b"ds64", struct.pack("<QQQI", (1 << 64) - 1, size, 0, 0))
    same(wav(sizes, form(), chunk(b"data", PCM.tobytes(), 0xFFFFFFFF), name=name, size=0xFFFFFFFF), VALUES)


def test_a_big_endian_wav_without_a_length_is_read_to_the_end() -> None:
    body = chunk(b"data", PCM.byteswap().tobytes(), 0, ">")
    same(wav(form(order=">"), body, name=b"RIFX", size=0, order=">"), VALUES)


def test_all_data_chunks_and_all_wavs_joined_end_to_end_are_read() -> None:
    data, twice = chunk(b"data", PCM.tobytes()), np.concatenate([VALUES, VALUES])
    same(wav(form(), data, chunk(b"LIST", b"abcd"), data), twice)
    same(wav(form(), data) * 2, twice)
    other = "damaged WAV file: its parts have different codings; copy or convert it again"
    assert refused(wav(form(), data) + wav(form(rate=8000), data)) == other


@pytest.mark.parametrize(("bits", "size"), [(12, 2), (20, 3), (20, 4), (24, 4), (32, 4)])
def test_the_bytes_of_a_sample_decide_whatever_its_bits(bits: int, size: int) -> None:
    """The bits are the upper ones of the bytes."""
    low = 8 * size - bits
    whole = np.round(LEFT[:4000].astype(np.float64) * (1 << (8 * size - 1))).astype(np.int64) >> low << low
    data = b"".join(int(value).to_bytes(size, "little", signed=True) for value in whole)
    same(wav(form(bits=bits, size=size), chunk(b"data", data)), (whole / (1 << (8 * size - 1))).astype(np.float32))


@pytest.mark.parametrize(
    ("codec", "coding"),
    [("g722", "G.722"), ("adpcm_yamaha", "Yamaha ADPCM"), ("g726", "G.726"), ("aac", "AAC"), ("flac", "FLAC")],
)
def test_a_wav_in_another_coding_is_read_by_pyav(codec: str, coding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    data = by_pyav(LEFT, codec, "wav", "mono", 8000 if codec == "g726" else RATE)
    assert length(data) == decoded_by_pyav(data)[0]
    monkeypatch.setitem(sys.modules, "av", None)
    remedy = "is decoded by PyAV, which is not installed: pip install 'soundbench[av]'"
    assert refused(data) == f"WAV ({coding}) {remedy}"


@pytest.mark.parametrize("codec", ["libmp3lame", "mp2"])
def test_mpeg_in_a_wav_is_read_without_pyav(codec: str, monkeypatch: pytest.MonkeyPatch) -> None:
    data = by_pyav(LEFT, codec, "wav", "mono", 48000)
    wanted = decoded_by_pyav(data)[0]
    monkeypatch.setitem(sys.modules, "av", None)
    assert length(data) == wanted


def test_what_no_reader_reads_is_named_and_not_called_damaged() -> None:
    pytest.importorskip("av", reason="soundbench[av] is not installed")
    sound = chunk(b"data", bytes(4000))
    assert refused(wav(form(tag=0x4444), sound)) == "WAV file in a coding (0x4444) that cannot be read here"
    assert "a coding (float of 16 bits) that cannot be read here" in refused(wav(form(tag=3), sound))


def test_a_wav_with_a_damaged_header() -> None:
    sound, again = chunk(b"data", PCM.tobytes()), "; copy or convert it again"
    assert refused(wav(sound)) == "damaged WAV file: it has no fmt chunk before its sound" + again
    assert refused(wav(form())) == "damaged WAV file: it has no data chunk" + again
    none = form()[:10] + b"\0\0" + form()[12:]
    assert refused(wav(none, sound)) == f"damaged WAV file: its header states 0 channels at {RATE} Hz" + again


# Other containers -----------------------------------------------------------------------------------------------------


def test_other_files_without_a_length_are_read_to_the_end() -> None:
    caf, au, w64, aiff = (written(PCM, name, "PCM_16") for name in ("CAF", "AU", "W64", "AIFF"))
    place = caf.index(b"data") + 4
    same(caf[:place] + b"\xff" * 8 + caf[place + 8 :], VALUES)
    for size in (b"\xff" * 4, bytes(4)):
        same(au[:8] + size + au[12:], VALUES)
    place = w64.index(b"data\xf3") + 16
    for number in (0, 24, (1 << 63) - 1, (1 << 64) - 1):
        same(w64[:place] + struct.pack("<Q", number) + w64[place + 8 :], VALUES)
    common, place = aiff.index(b"COMM") + 10, aiff.index(b"SSND") + 4
    for size in (bytes(4), b"\xff" * 4):
        same(aiff[:4] + size + aiff[8:common] + bytes(4) + aiff[common + 4 : place] + size + aiff[place + 4 :], VALUES)
    same(aiff[:12] + aiff[place - 4 :] + aiff[common - 10 : common + 16], VALUES)  # COMM last


def test_streams_that_state_no_length_promise_none() -> None:
    """FFmpeg estimates it by the bit rate of the first frames, which are loud here."""
    sound = np.concatenate([noise(RATE), np.zeros(20 * RATE, np.float32)])
    data = by_pyav(sound, "aac", "adts", "mono", bits=64000)
    assert length(data) == decoded_by_pyav(data)[0] >= len(sound)
    assert length(data[:5000]) < 3 * RATE  # a part of a stream is a stream


@pytest.mark.parametrize("channels", range(7, 17))
def test_many_channels_are_mixed_down_by_their_mean(channels: int) -> None:
    each = np.stack([noise(2000, seed) for seed in range(channels)])
    layout = {7: "6.1", 8: "7.1"}.get(channels, f"{channels} channels")
    data = by_pyav(each, "pcm_f32le", "matroska", layout)
    np.testing.assert_allclose(audio.decode(data)[0], each.mean(axis=0), atol=1e-6)


# Odd sound ------------------------------------------------------------------------------------------------------------


def warned(data: bytes) -> list[SoundWarning]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        audio.decode(data)
        list(audio.blocks(data, 8000))
    found = [one.message for one in caught if isinstance(one.message, SoundWarning)]
    assert len(found) == len(caught)
    assert len({str(one) for one in found}) * 2 == len(found)
    return found[: len(found) // 2]


def test_channels_that_cancel_each_other_are_a_warning() -> None:
    for right in (-LEFT, -LEFT + 0.001 * noise(len(LEFT), seed=3), -0.97 * LEFT):
        (one,) = warned(written(np.stack([LEFT, right], axis=1), "WAV", "PCM_16"))
        assert isinstance(one, CancellationWarning)
        wanted = "its channels cancel each other: hardly anything is left when they are mixed to one; use one of them"
        assert (one.path, one.reason) == ("<bytes>", wanted)
    for fine in (LEFT, 0 * LEFT, 0.001 * LEFT, noise(len(LEFT), seed=3), -0.5 * LEFT):
        assert not warned(written(np.stack([0.001 * LEFT if fine is LEFT else LEFT, fine], axis=1), "WAV", "PCM_16"))
    many = np.random.default_rng(0).standard_normal((len(LEFT), 64)) * 0.01
    assert not warned(written(many, "WAV", "FLOAT"))


def test_floats_in_the_range_of_integers_are_a_warning() -> None:
    (one,) = warned(written(32768 * LEFT, "WAV", "FLOAT"))
    assert one.reason.startswith("its peak is ")
    assert one.reason.endswith(", where 1.0 is full scale: are these integers, to be divided by 32768?")
    assert not warned(written(30 * LEFT, "WAV", "FLOAT"))
