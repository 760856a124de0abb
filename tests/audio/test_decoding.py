"""Decoding, resampling and levels, on sounds whose content is known; and every sound that cannot be read."""

from __future__ import annotations

import io
import os
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from soundbench import audio
from soundbench.audio import decoding, splices
from soundbench.errors import CallError, SoundError

RATE = 16000


def tone(hertz: float, seconds: float = 1.0, rate: int = RATE, amplitude: float = 0.5) -> np.ndarray:
    return (amplitude * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def noise(count: int, seed: int = 1) -> np.ndarray:
    return (0.1 * np.random.default_rng(seed).standard_normal(count)).astype(np.float32)


def amplitude(samples: np.ndarray, hertz: float, rate: int) -> float:
    """The amplitude of a tone in a sound, its ends left out."""
    inner = samples[len(samples) // 8 : -(len(samples) // 8)].astype(np.float64)
    window = np.hanning(len(inner))
    turn = np.exp(-2j * np.pi * hertz * np.arange(len(inner)) / rate)
    return float(2 * abs((inner * window * turn).sum()) / window.sum())


def write(path: Path, samples: np.ndarray, rate: int = RATE, form: str = "WAV", coding: str = "PCM_16") -> Path:
    soundfile.write(path, samples, rate, format=form, subtype=coding)
    return path


def message(call: Callable[[], object]) -> str:
    with pytest.raises(SoundError) as caught:
        call()
    assert "\n" not in str(caught.value)
    return str(caught.value)


FORMATS = [  # suffix, container, coding, error of the amplitude, samples that may be added at the end
    ("wav", "WAV", "PCM_U8", 0.002, 0),
    ("wav", "WAV", "PCM_16", 1e-4, 0),
    ("wav", "WAV", "PCM_24", 1e-6, 0),
    ("wav", "WAV", "PCM_32", 1e-6, 0),
    ("wav", "WAV", "FLOAT", 1e-6, 0),
    ("wav", "WAV", "DOUBLE", 1e-6, 0),
    ("wav", "WAV", "ALAW", 0.005, 0),
    ("wav", "WAV", "ULAW", 0.005, 0),
    ("wav", "WAV", "MS_ADPCM", 0.005, 1012),
    ("wav", "WAV", "IMA_ADPCM", 0.005, 1017),
    ("wav", "WAVEX", "PCM_16", 1e-4, 0),
    ("wav", "RF64", "PCM_16", 1e-4, 0),
    ("w64", "W64", "PCM_24", 1e-6, 0),
    ("aiff", "AIFF", "PCM_16", 1e-4, 0),
    ("au", "AU", "PCM_16", 1e-4, 0),
    ("caf", "CAF", "PCM_16", 1e-4, 0),
    ("flac", "FLAC", "PCM_16", 1e-4, 0),
    ("flac", "FLAC", "PCM_24", 1e-6, 0),
    ("ogg", "OGG", "VORBIS", 0.02, 0),
    ("opus", "OGG", "OPUS", 0.02, 0),
    ("mp3", "MP3", "MPEG_LAYER_III", 0.02, 0),
]


@pytest.mark.parametrize(("suffix", "form", "coding", "error", "added"), FORMATS)
def test_every_format_gives_the_tone_that_was_written(tmp_path, suffix, form, coding, error, added):
    path = write(tmp_path / f"tone.{suffix}", tone(440), form=form, coding=coding)
    samples, rate = audio.decode(path)
    assert (samples.dtype, samples.ndim, rate) == (np.float32, 1, RATE)
    assert 0 <= len(samples) - RATE <= added
    assert amplitude(samples[:RATE], 440, rate) == pytest.approx(0.5, abs=error)
    assert path.suffix in audio.SUFFIXES


@pytest.mark.parametrize("rate", [8, 8000, 11025, 22050, 44100, 48000, 96000, 192000])
def test_any_rate_becomes_the_one_asked_for(tmp_path, rate):
    path = write(tmp_path / "a.wav", tone(rate / 40, 100 / rate * 40, rate), rate)
    samples = audio.load(path, RATE)
    assert len(samples) == round(4000 * RATE / rate)
    assert amplitude(samples, rate / 40, RATE) == pytest.approx(0.5 if rate / 40 < 8000 else 0, abs=2e-3)


@pytest.mark.parametrize("channels", [1, 2, 6, 100])
def test_channels_are_mixed_down_by_their_mean(tmp_path, channels):
    each = noise(1000 * channels).reshape(1000, channels)
    path = write(tmp_path / "a.wav", each, coding="FLOAT")
    samples, _ = audio.decode(path)
    np.testing.assert_allclose(samples, each.mean(axis=1), atol=1e-6)
    assert audio.info(path).channels == channels


def test_a_float_file_beyond_full_scale_is_kept(tmp_path):
    path = write(tmp_path / "loud.wav", tone(440, amplitude=30.0), coding="FLOAT")
    assert amplitude(audio.decode(path)[0], 440, RATE) == pytest.approx(30.0, rel=1e-3)


def test_what_is_too_small_to_be_sound_becomes_zero(tmp_path):
    path = write(tmp_path / "quiet.wav", np.float32([1e-34, 1e-19, -1e-25, 1e-40]), coding="FLOAT")
    np.testing.assert_array_equal(audio.decode(path)[0], np.float32([0, 1e-19, 0, 0]))


# Stretches ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("suffix", "form", "coding", "error", "added"), FORMATS)
def test_a_stretch_is_exact_to_the_sample(tmp_path, monkeypatch, suffix, form, coding, error, added):
    path = write(tmp_path / f"noise.{suffix}", noise(5 * RATE), form=form, coding=coding)
    whole, _ = audio.decode(path)
    monkeypatch.setattr(decoding, "BLOCK", 7001)
    np.testing.assert_allclose(audio.decode(path)[0], whole, atol=1e-6)
    for start, stop in [(0.0, 0.5), (0.3, 0.30025), (1.23456, 4.1), (2.0, None), (4.9, 9.0)]:
        part, _ = audio.decode(path, start, stop)
        end = None if stop is None else round(stop * RATE)
        np.testing.assert_allclose(part, whole[round(start * RATE) : end], atol=1e-6)


@pytest.mark.parametrize("rate", [16000, 44100, 48000])
@pytest.mark.parametrize(("form", "coding"), [("OGG", "VORBIS"), ("OGG", "OPUS"), ("MP3", "MPEG_LAYER_III")])
def test_where_a_stretch_begins_makes_no_difference(tmp_path, form, coding, rate):
    draw = np.random.default_rng(rate)
    for count in draw.integers(2 * rate, 8 * rate, 4):
        path = tmp_path / "a"
        if coding == "OPUS" and rate == 44100:
            continue
        write(path, noise(int(count)) * np.sin(np.arange(count) / rate) ** 2, rate, form, coding)
        whole, _ = audio.decode(path)
        for begin in [*draw.integers(1, count - 1, 8).tolist(), int(count) - 2000, int(count) - 20]:
            for source in (path, path.read_bytes()):
                part, _ = audio.decode(source, begin / rate)
                np.testing.assert_allclose(part, whole[begin:], atol=1e-6)


@pytest.mark.parametrize("mode", ["CONSTANT", "VARIABLE"])
def test_a_stretch_of_an_mp3_without_a_header_is_exact(tmp_path, mode):
    path = tmp_path / "a.mp3"
    sound = np.concatenate([np.zeros(RATE, np.float32), noise(10 * RATE), np.zeros(5 * RATE, np.float32)])
    soundfile.write(path, sound, RATE, format="MP3", bitrate_mode=mode, compression_level=0.5)
    data = path.read_bytes()
    path.write_bytes(data[data.index(b"\xff\xf3", 4) :])
    whole, _ = audio.decode(path)
    assert abs(len(whole) - len(sound)) < 3000
    for start, stop in [(0.5, 1.5), (9.87654, 11.0), (15.0, None)]:
        end = None if stop is None else round(stop * RATE)
        part, _ = audio.decode(path, start, stop)
        np.testing.assert_allclose(part, whole[round(start * RATE) : end], atol=1e-6)


def test_stretches_that_hold_nothing(tmp_path):
    path = write(tmp_path / "a.wav", tone(440))
    rule = "it must start at 0 s or later, and stop after"
    cases = {
        (1.5, 2.0): "no samples between 1.5 s and 2 s; it lasts 1 s",
        (1.0, None): "no samples between 1 s and the end; it lasts 1 s",
        (0.5, 0.5): f"no samples between 0.5 s and 0.5 s; {rule}",
        (0.5, 0.2): f"no samples between 0.5 s and 0.2 s; {rule}",
        (-1.0, 0.5): f"no samples between -1 s and 0.5 s; {rule}",
        (float("nan"), None): f"no samples between nan s and the end; {rule}",
        (0.50001, 0.50002): "no samples between 0.50001 s and 0.50002 s",
    }
    for (start, stop), reason in cases.items():
        assert message(lambda start=start, stop=stop: audio.decode(path, start, stop)) == f"{path}: {reason}"


# Sources --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("suffix", "form"), [("wav", "WAV"), ("flac", "FLAC"), ("ogg", "OGG"), ("mp3", "MP3")])
def test_a_path_its_bytes_and_its_file_object_are_the_same_sound(tmp_path, suffix, form):
    coding = {"OGG": "VORBIS", "MP3": "MPEG_LAYER_III"}.get(form, "PCM_16")
    path = write(tmp_path / f"café 声音 🐕.{suffix}", noise(RATE), form=form, coding=coding)
    wanted, _ = audio.decode(str(path))
    moved = io.BytesIO(path.read_bytes())
    moved.seek(100)
    with open(path, "rb") as file, open(path, "rb", buffering=0) as raw:
        for source in (path, path.read_bytes(), moved, file, raw):
            samples, _ = audio.decode(source)
            np.testing.assert_array_equal(samples, wanted)


def test_a_stream_that_cannot_seek_is_read_to_its_end(tmp_path):
    path = write(tmp_path / "a.wav", noise(2000))
    ends = os.pipe()
    with open(ends[1], "wb") as writer:
        writer.write(path.read_bytes())
    with open(ends[0], "rb") as reader:
        samples, _ = audio.decode(reader)
    np.testing.assert_array_equal(samples, audio.decode(path)[0])


def test_what_is_no_source(tmp_path):
    path = write(tmp_path / "a.wav", tone(440))
    with open(path, encoding="latin-1") as file, pytest.raises(CallError) as caught:
        audio.decode(file)
    assert str(caught.value) == f"{path}: the file is open as text; open it with mode 'rb'"
    with pytest.raises(CallError, match=r"^sound must be a path, bytes or a file object, not int$"):
        audio.decode(7)


# What cannot be read --------------------------------------------------------------------------------------------------

KNOWN = (
    "is not a sound file of a known format (WAV, FLAC, Ogg Vorbis, Opus, MP3, AIFF, AU, CAF, W64; with soundbench[av] "
    "also M4A, AAC, WebM)"
)


def test_no_file_a_folder_an_empty_file(tmp_path):
    empty = tmp_path / "empty.wav"
    empty.touch()
    assert message(lambda: audio.decode(tmp_path / "none.wav")) == f"{tmp_path / 'none.wav'}: no such file"
    assert message(lambda: audio.decode(tmp_path)) == f"{tmp_path}: is a folder; a sound file is needed"
    assert message(lambda: audio.decode(empty)) == f"{empty}: is empty (0 bytes); a sound file is needed"
    assert message(lambda: audio.decode(b"")) == "<bytes>: is empty (0 bytes); a sound file is needed"
    assert message(lambda: audio.info(empty)) == f"{empty}: is empty (0 bytes); a sound file is needed"


@pytest.mark.usefixtures("bound")
def test_a_file_that_may_not_be_read(tmp_path):
    path = write(tmp_path / "a.wav", tone(440))
    path.chmod(0)
    assert message(lambda: audio.decode(path)) == f"{path}: cannot be opened: Permission denied"


@pytest.mark.parametrize("name", ["a.wav", "a.txt", "a.raw", "a.mp3", "a"])
def test_what_is_not_audio(tmp_path, name):
    path = tmp_path / name
    path.write_text("This is no sound.\n" * 100)
    assert message(lambda: audio.decode(path)) == f"{path}: {KNOWN}"
    assert message(lambda: audio.info(path)) == f"{path}: {KNOWN}"


AGAIN = "copy or convert it again"
HEADERS = {  # the first 64 bytes of a sound
    ("WAV", "PCM_16"): "truncated: the header states 32000 bytes of sound, the file has 20; copy it again",
    (
        "WAV",
        "MS_ADPCM",
    ): "damaged WAV file: it has no data chunk; " + AGAIN,
    ("FLAC", "PCM_16"): "damaged FLAC file: its header cannot be read; copy or convert it again",
    ("OGG", "VORBIS"): "truncated: the Ogg page at byte 58 is cut off; copy it again",
    ("OGG", "OPUS"): "truncated: the Ogg page at byte 47 is cut off; copy it again",
    ("MP3", "MPEG_LAYER_III"): "truncated: the header states 30 MPEG frames, the file has 0; copy it again",
}
HALVES = {  # the first half of a second
    ("WAV", "PCM_16"): "truncated: the header states 32000 bytes of sound, the file has 15978; copy it again",
    ("WAV", "MS_ADPCM"): "truncated: the header states 8192 bytes of sound, the file has 4051; copy it again",
    ("RF64", "PCM_16"): "truncated: the header states 32000 bytes of sound, the file has 15948; copy it again",
    ("W64", "PCM_16"): "truncated: the header states 32000 bytes of sound, the file has 15948; copy it again",
    ("AIFF", "PCM_16"): "truncated: the header states 32008 bytes of sound, the file has 15981; copy it again",
    ("AU", "PCM_16"): "truncated: the header states 32000 bytes of sound, the file has 15988; copy it again",
    ("FLAC", "PCM_16"): "damaged FLAC file: its sound cannot be decoded; copy or convert it again",
    ("OGG", "VORBIS"): "truncated: the Ogg page at byte {page} is cut off; copy it again",
    ("OGG", "OPUS"): "truncated: the Ogg page at byte {page} is cut off; copy it again",
    ("MP3", "MPEG_LAYER_III"): "truncated: the header states 30 MPEG frames, the file has 13; copy it again",
}


@pytest.mark.parametrize(("form", "coding"), HEADERS)
def test_a_header_alone(tmp_path, capfd, form, coding):
    path = write(tmp_path / "a", noise(RATE), form=form, coding=coding)
    path.write_bytes(path.read_bytes()[:64])
    assert message(lambda: audio.decode(path)) == f"{path}: {HEADERS[form, coding]}"
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(("form", "coding"), HALVES)
def test_a_truncated_file(tmp_path, capfd, form, coding):
    path = write(tmp_path / "a", noise(RATE), form=form, coding=coding)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    page = data.rfind(b"OggS", 0, len(data) // 2)
    assert message(lambda: audio.decode(path)) == f"{path}: {HALVES[form, coding].format(page=page)}"
    assert message(lambda: audio.decode(path.read_bytes())).startswith("<bytes>: ")
    assert capfd.readouterr().err == ""


def test_a_stretch_before_the_cut_is_read_and_one_across_it_is_not(tmp_path):
    for form, coding in [("WAV", "PCM_16"), ("OGG", "VORBIS"), ("MP3", "MPEG_LAYER_III")]:
        path = write(tmp_path / "a", noise(20 * RATE), form=form, coding=coding)
        whole, _ = audio.decode(path)
        data = path.read_bytes()
        path.write_bytes(data[: len(data) // 2])
        part, _ = audio.decode(path, 1.0, 2.0)
        np.testing.assert_allclose(part, whole[RATE : 2 * RATE], atol=1e-6)
        assert ": truncated: " in message(lambda path=path: audio.decode(path, 5.0, 15.0))


CORRUPT = {  # 200 bytes in the middle of five seconds are noise
    ("FLAC", "PCM_16"): "damaged FLAC file: its sound cannot be decoded; copy or convert it again",
    ("OGG", "VORBIS"): "corrupt: the Ogg page at byte {page} has a wrong checksum; copy it again",
    ("OGG", "OPUS"): "corrupt: the Ogg page at byte {page} has a wrong checksum; copy it again",
}


@pytest.mark.parametrize(("form", "coding"), CORRUPT)
def test_a_corrupt_file(tmp_path, capfd, form, coding):
    path = write(tmp_path / "a", noise(5 * RATE), form=form, coding=coding)
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 200] = np.random.default_rng(2).bytes(200)
    path.write_bytes(data)
    page = data.rfind(b"OggS", 0, middle)
    assert message(lambda: audio.decode(path)) == f"{path}: {CORRUPT[form, coding].format(page=page)}"
    assert capfd.readouterr().err == ""


def test_a_corrupt_mp3(tmp_path, capfd):
    path = tmp_path / "a.mp3"
    soundfile.write(path, noise(5 * RATE), RATE, format="MP3", bitrate_mode="CONSTANT", compression_level=0.5)
    data = bytearray(path.read_bytes())
    length = data.index(data[:2], 4)  # of every frame
    data[70 * length : 70 * length + 4] = b"oops"
    path.write_bytes(data)
    wanted = f"corrupt: {length} bytes from byte {70 * length} on are not MPEG audio; copy it again"
    assert message(lambda: audio.decode(path)) == f"{path}: {wanted}"
    path.write_bytes(data[: 70 * length] + bytes(70 * length))
    wanted = f"corrupt: the last {70 * length} bytes are not MPEG audio; copy it again"
    assert message(lambda: audio.decode(path)) == f"{path}: {wanted}"
    assert capfd.readouterr().err == ""


def test_a_lossy_file_that_decodes_to_nonsense(tmp_path):
    path = write(tmp_path / "a.ogg", tone(440, amplitude=30.0), form="OGG", coding="VORBIS")
    reason = message(lambda: audio.decode(path)).removeprefix(f"{path}: corrupt: decodes to a peak of ")
    assert 20 < float(reason.split(",")[0]) < 40
    assert reason.split(",", 1)[1] == " where 1.0 is full scale; copy it again"


@pytest.mark.parametrize(("form", "coding"), [("WAV", "PCM_16"), ("AIFF", "PCM_16"), ("OGG", "VORBIS")])
def test_a_sound_without_samples(tmp_path, form, coding):
    path = write(tmp_path / "a", np.zeros(0, np.float32), form=form, coding=coding)
    assert message(lambda: audio.decode(path)) == f"{path}: holds no samples"
    assert audio.info(path).seconds == 0


def test_samples_that_are_no_numbers(tmp_path):
    sound = tone(440)
    sound[[5, 70]] = np.nan
    sound[100] = np.inf
    path = write(tmp_path / "a.wav", sound, coding="FLOAT")
    wanted = "3 of 16000 samples are NaN or infinite; samples are finite numbers"
    assert message(lambda: audio.decode(path)) == f"{path}: {wanted}"
    both = np.stack([sound, -sound], axis=1)
    assert message(lambda: audio.decode(write(path, both, coding="DOUBLE"))) == f"{path}: {wanted}"


def test_eight_hertz_are_read_while_they_do_not_grow_beyond_measure(tmp_path):
    path = write(tmp_path / "a.wav", noise(80), rate=8)
    assert len(audio.load(path, RATE)) == 10 * RATE
    long = write(tmp_path / "b.wav", noise(144000), rate=8)
    wanted = "its header states 8 Hz, so that it lasts 5 hours; at such a low rate the limit is one hour"
    assert message(lambda: audio.load(long, RATE)) == f"{long}: {wanted}"
    assert len(audio.load(long, RATE, 10.0, 20.0)) == 10 * RATE


def test_a_header_without_a_rate(tmp_path):
    path = write(tmp_path / "a.wav", tone(440))
    data = bytearray(path.read_bytes())
    data[24:28] = struct.pack("<I", 0)
    path.write_bytes(data)
    wanted = "damaged WAV file: its header states 1 channels at 0 Hz; copy or convert it again"
    assert message(lambda: audio.decode(path)) == f"{path}: {wanted}"


# Headers that promise nothing, or too much ----------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0xFFFFFFFF, 0x7FFFF000, 0x80000000])
def test_a_wav_that_was_streamed_states_no_length(tmp_path, size):
    path = write(tmp_path / "a.wav", noise(RATE))
    data = bytearray(path.read_bytes())
    at = data.index(b"data") + 4
    data[at : at + 4] = struct.pack("<I", size)
    path.write_bytes(data)
    assert len(audio.decode(path)[0]) == RATE


def test_a_flac_that_was_streamed_states_no_length(tmp_path):
    path = write(tmp_path / "a.flac", noise(5 * RATE), form="FLAC")
    whole, _ = audio.decode(path)
    data = bytearray(path.read_bytes())
    data[21] &= 0xF0
    data[22:26] = bytes(4)
    path.write_bytes(data)
    np.testing.assert_array_equal(audio.decode(path)[0], whole)
    np.testing.assert_array_equal(audio.decode(path, 1.0, 2.0)[0], whole[RATE : 2 * RATE])
    assert audio.info(path).seconds == 0


def test_a_wav_with_more_after_its_sound(tmp_path):
    path = write(tmp_path / "a.wav", noise(RATE))
    path.write_bytes(path.read_bytes() + b"LIST" + struct.pack("<I", 5000) + bytes(5000))
    assert len(audio.decode(path)[0]) == RATE


def test_an_mp3_between_tags(tmp_path):
    path = write(tmp_path / "a.mp3", noise(RATE), form="MP3", coding="MPEG_LAYER_III")
    plain, _ = audio.decode(path)
    data = path.read_bytes()
    path.write_bytes(b"ID3\x04\0\0\0\0\x10\0" + bytes(2048) + data + b"APETAGEX" + bytes(6000) + b"TAG" + bytes(125))
    np.testing.assert_array_equal(audio.decode(path)[0], plain)


# What a header says, rates, levels ------------------------------------------------------------------------------------


def test_info_reads_the_header(tmp_path):
    stereo = np.stack([tone(440, 2.0, 44100)] * 2, axis=1)
    path = write(tmp_path / "a.flac", stereo, 44100, form="FLAC", coding="PCM_24")
    assert audio.info(path) == audio.SoundInfo(44100, 2, 2.0, "FLAC PCM_24")
    assert audio.info(path.read_bytes()) == audio.SoundInfo(44100, 2, 2.0, "FLAC PCM_24")


@pytest.mark.parametrize("rate", [22050, 44100, 48000])
def test_resampling_keeps_the_band_and_lets_no_image_through(rate):
    kept = audio.resample(tone(7000, 2.0, rate), rate, RATE)
    assert 20 * np.log10(amplitude(kept, 7000, RATE) / 0.5) == pytest.approx(0, abs=0.01)
    for hertz in (8300, 9000, 10500):
        gone = audio.resample(tone(hertz, 2.0, rate), rate, RATE)
        assert 20 * np.log10(amplitude(gone, RATE - hertz, RATE) / 0.5) < -110


def test_resampling_up_adds_nothing_above_the_old_band():
    raised = audio.resample(tone(3000, 2.0, 8000), 8000, RATE)
    assert amplitude(raised, 3000, RATE) == pytest.approx(0.5, abs=1e-4)
    assert amplitude(raised, 5000, RATE) < 1e-5


def test_resampling_to_the_same_rate_changes_nothing():
    sound = noise(1000)
    assert audio.resample(sound, RATE, RATE) is sound
    assert audio.resample(np.float64([0.5]), RATE, RATE).dtype == np.float32


@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_sound_of_one_sample_stays_a_sound(tmp_path, count):
    path = write(tmp_path / "a.wav", np.full(count, 0.5, np.float32), 44100)
    assert len(audio.load(path, RATE)) == 1
    assert len(audio.load(path, 8000)) == 1
    assert len(audio.load(path, 96000)) >= 1


@pytest.mark.parametrize(("suffix", "form", "coding", "error", "added"), FORMATS)
def test_blocks_are_the_sound_as_a_whole(tmp_path, monkeypatch, suffix, form, coding, error, added):
    path = write(tmp_path / f"a.{suffix}", np.stack([noise(48000), noise(48000, 2)], 1), form=form, coding=coding)
    for rate in (RATE, 11025, 44100):
        whole = audio.load(path, rate)
        (block,) = audio.blocks(path, RATE)
        np.testing.assert_array_equal(block, audio.load(path, RATE))
        with monkeypatch.context() as patch:
            patch.setattr(decoding, "STRETCH", 5000)
            blocks = list(audio.blocks(path.read_bytes(), rate))
        assert len(blocks) > 15
        np.testing.assert_array_equal(np.concatenate(blocks), whole)


@pytest.mark.parametrize("count", [1, 2, 3, 2500])
def test_blocks_of_hardly_a_sound_are_a_sound(tmp_path, monkeypatch, count):
    monkeypatch.setattr(decoding, "STRETCH", 1)
    path = write(tmp_path / "a.wav", noise(count), 44100)
    for rate in (44100, RATE, 8000):
        np.testing.assert_array_equal(np.concatenate(list(audio.blocks(path, rate))), audio.load(path, rate))


def test_what_cannot_be_read_whole_cannot_be_read_in_blocks(tmp_path):
    nothing = write(tmp_path / "nothing.wav", np.zeros(0, np.float32))
    cut = write(tmp_path / "cut.wav", noise(9000))
    cut.write_bytes(cut.read_bytes()[:9000])
    nan = write(tmp_path / "nan.wav", np.float32([0.1, np.nan]), coding="FLOAT")
    slow = write(tmp_path / "slow.wav", noise(144000), rate=8)
    text = tmp_path / "text.wav"
    text.write_text("no sound")
    for path in (nothing, cut, nan, slow, text, tmp_path / "missing.wav", tmp_path):
        wanted = message(lambda: audio.load(path, RATE))  # noqa: B023
        assert message(lambda: list(audio.blocks(path, RATE))) == wanted  # noqa: B023


def test_a_large_file_is_looked_through_without_reading_it_at_once(tmp_path, monkeypatch):
    for form, coding in (("OGG", "VORBIS"), ("MP3", "MPEG_LAYER_III")):
        path = write(tmp_path / "a", noise(48000), form=form, coding=coding)
        bad = tmp_path / "bad"
        data = path.read_bytes()
        bad.write_bytes(data[:6000] + bytes(1500) + data[7500:])
        whole, wanted = audio.load(path, RATE), message(lambda: audio.load(bad, RATE))  # noqa: B023
        with monkeypatch.context() as patch:
            patch.setattr(splices, "LARGE", 100)
            np.testing.assert_array_equal(audio.load(path, RATE), whole)
            assert message(lambda: audio.load(bad, RATE)) == wanted  # noqa: B023


@pytest.mark.parametrize("decibels", [0.5, 10.0, 30.0])
def test_where_a_sound_is_loud_is_the_same_in_any_blocks(decibels):
    draws = np.random.default_rng(0)
    for count in (1, 300, 320, 5000, 5120):
        sound = noise(count) * np.repeat(draws.uniform(0, 1, 18), 320)[:count]
        cuts = np.sort(draws.integers(0, count + 1, 20))
        begin, end = audio.loud(np.split(sound, cuts), RATE, decibels)
        np.testing.assert_array_equal(sound[begin:end], audio.trim(sound, RATE, decibels))


def test_silence_at_the_ends_is_trimmed_to_a_frame_of_20_ms():
    quiet, loud = 0.001 * noise(5000), noise(3200)
    sound = np.concatenate([quiet, loud, np.zeros(1000, np.float32), loud, quiet[:3333]])
    kept = audio.trim(sound, RATE, 30.0)
    # Frames are 320 samples: the first of the sound is the 16th, the last ends 80 samples after the sound does.
    assert np.array_equal(kept, sound[4800 : 12400 + 80])
    assert len(audio.trim(sound, RATE, 70.0)) == len(sound)
    assert audio.trim(sound, RATE, "off") is sound


@pytest.mark.parametrize("count", [1, 319, 320, 321, 1000])
def test_trimming_never_leaves_nothing(count):
    silent = np.zeros(count, np.float32)
    assert len(audio.trim(silent, RATE, 40.0)) == count
    silent[-1] = 0.5
    kept = audio.trim(silent, RATE, 40.0)
    assert 1 <= len(kept) <= 320
    assert kept[-1] == 0.5
    assert len(audio.trim(noise(count), RATE, 1e-9)) >= 1


def test_how_much_is_trimmed_does_not_hang_on_the_level():
    sound = np.concatenate([0.01 * noise(2000), noise(2000), 0.01 * noise(2000)])
    assert len(audio.trim(sound, RATE, 30.0)) == len(audio.trim(1e-6 * sound, RATE, 30.0)) < 3000


# PyAV -----------------------------------------------------------------------------------------------------------------


def encoded(path: Path, codec: str, samples: np.ndarray, rate: int, container: str | None = None) -> Path:
    """A file that PyAV has written, two channels that are the same."""
    av = pytest.importorskip("av", reason="soundbench[av] is not installed")
    with av.open(str(path), "w", format=container) as file:
        stream = file.add_stream(codec, rate=rate, layout="stereo")
        shaped = av.AudioResampler(
            format=stream.codec_context.format, layout="stereo", rate=rate, frame_size=stream.codec_context.frame_size
        )
        frame = av.AudioFrame.from_ndarray(np.stack([samples, samples]), format="fltp", layout="stereo")
        frame.sample_rate, frame.pts = rate, 0
        for part in [*shaped.resample(frame), *shaped.resample(None)]:
            file.mux(stream.encode(part))
        file.mux(stream.encode(None))
    return path


BY_PYAV = [
    ("a.m4a", "aac", None),
    ("lossless.m4a", "alac", None),
    ("a.webm", "libopus", None),
    ("a.mka", "ac3", "matroska"),
    ("a.aac", "aac", "adts"),
    ("flac.ogg", "flac", "ogg"),
]


@pytest.mark.parametrize(("name", "codec", "container"), BY_PYAV)
def test_pyav_reads_what_libsndfile_does_not(tmp_path, name, codec, container):
    path = encoded(tmp_path / name, codec, tone(440, 2.0, 48000), 48000, container)
    whole, rate = audio.decode(path)
    assert rate == 48000
    assert 0 <= len(whole) - 96000 < 3000
    assert amplitude(whole, 440, rate) == pytest.approx(0.5, abs=0.02)
    np.testing.assert_array_equal(audio.decode(path.read_bytes())[0], whole)
    for other in (48000, 16000):
        np.testing.assert_array_equal(np.concatenate(list(audio.blocks(path, other))), audio.load(path, other))
    np.testing.assert_array_equal(audio.decode(path, 0.5, 0.75)[0], whole[24000:36000])
    np.testing.assert_array_equal(audio.decode(path, 1.0)[0], whole[48000:])
    assert (audio.info(path).rate, audio.info(path).channels) == (48000, 2)
    assert audio.info(path).seconds == pytest.approx(2.0, abs=0.1)


def test_what_pyav_cannot_read(tmp_path):
    path = encoded(tmp_path / "a.webm", "libopus", tone(440, 2.0, 48000), 48000)
    assert message(lambda: audio.decode(path, 5.0)) == f"{path}: no samples between 5 s and the end"
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    assert message(lambda: audio.decode(path)).startswith(f"{path}: truncated: the header states 2.01 s of sound, ")
    path = encoded(tmp_path / "a.m4a", "aac", tone(440, 2.0, 48000), 48000)
    path.write_bytes(path.read_bytes()[:2000])
    said = "PyAV cannot decode it; copy or convert it again"
    assert message(lambda: audio.decode(path)) == f"{path}: damaged M4A/MP4 file: {said}"


def test_without_pyav_the_error_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "av", None)
    remedy = "is decoded by PyAV, which is not installed: pip install 'soundbench[av]'"
    for kind, head in {
        "M4A/MP4": b"\0\0\0\x20ftypM4A ",
        "WebM/Matroska": b"\x1a\x45\xdf\xa3",
        "AAC": b"\xff\xf1\x50\x80",
        "WMA": b"\x30\x26\xb2\x75\x8e\x66\xcf\x11",
        "Ogg Speex": b"OggS" + bytes(24) + b"Speex   ",
        "Ogg FLAC": b"OggS" + bytes(24) + b"\x7fFLAC",
    }.items():
        path = tmp_path / "a"
        path.write_bytes(head + bytes(100))
        assert message(lambda path=path: audio.decode(path)) == f"{path}: {kind} {remedy}"
        assert message(lambda path=path: audio.info(path)) == f"{path}: {kind} {remedy}"


# Real sounds ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pattern", ["UrbanSound8K/audio/fold1/*.wav", "ESC-10/*/*.ogg"])
def test_real_sounds_are_what_soundfile_reads(data, pattern):
    paths = sorted(data.glob(pattern))[::9]
    assert len(paths) > 40
    for path in paths:
        samples, rate = audio.decode(path)
        wanted, native = soundfile.read(path, dtype="float32", always_2d=True)
        assert rate == native == audio.info(path).rate
        np.testing.assert_allclose(samples, wanted.mean(axis=1), atol=1e-7)
        assert len(audio.load(path, RATE)) == pytest.approx(len(samples) * RATE / rate, abs=1)
