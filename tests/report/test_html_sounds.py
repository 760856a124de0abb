"""The sound of a clip inside a page: the loudest seconds, their spectrogram, and a file that decodes to them."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from helpers.clip_tables import Listed
from PIL import Image

from soundbench import audio
from soundbench.contracts import Clip
from soundbench.errors import SoundError
from soundbench.report.html import sounds
from soundbench.report.html.sounds import LONGEST, Player, each_sound, loudest, player, spectrogram


def tone(hertz: float, seconds: float, rate: int) -> np.ndarray:
    return (0.5 * np.sin(2 * np.pi * hertz * np.arange(int(seconds * rate)) / rate)).astype(np.float32)


def test_the_loudest_stretch_is_found_to_a_tenth_of_a_second() -> None:
    samples = np.full(60 * 1000, 0.01, np.float32)
    samples[33_000:43_000] = 0.5
    assert abs(loudest(samples, 1000, 10.0) - 33_000) <= 100
    assert loudest(samples[:10_000], 1000, 10.0) == 0
    assert loudest(np.zeros(20_000, np.float32), 1000, 10.0) == 0


@pytest.mark.parametrize("hertz", [200.0, 1000.0, 4000.0, 7000.0])
def test_a_tone_is_a_line_in_the_spectrogram_at_its_pitch(hertz: float) -> None:
    image = Image.open(io.BytesIO(spectrogram(tone(hertz, 2.0, 16000), 16000)))
    shades = np.asarray(image)
    assert image.mode == "P"
    height, width = shades.shape
    row = height - 1 - int(np.argmax(shades[:, width // 2]))
    mel = 2595 * np.log10(1 + hertz / 700) / (2595 * np.log10(1 + 8000 / 700))
    assert abs((row + 0.5) / height - mel) < 0.03
    assert np.mean(shades[:, width // 2] > shades.max() // 2) < 0.15


@pytest.mark.parametrize("samples", [np.zeros(8000, np.float32), np.ones(1, np.float32), np.ones(3, np.float32)])
def test_silence_and_a_single_sample_have_one_too(samples: np.ndarray) -> None:
    shades = np.asarray(Image.open(io.BytesIO(spectrogram(samples, 8000))))
    assert shades.shape == (128, 420)
    assert samples.any() or not shades.any()


@pytest.mark.parametrize("rate", [8000, 11025, 22050, 44100, 96000])
def test_a_player_holds_the_sound_in_opus(rate: int) -> None:
    made = player(tone(440, 2.0, rate), rate)
    decoded, target = soundfile.read(io.BytesIO(made.data), dtype="float32")
    assert (made.kind, made.whole, made.first) == ("audio/ogg", True, 0.0)
    assert made.seconds == pytest.approx(2.0, abs=0.01)
    assert len(decoded) / target == pytest.approx(2.0, abs=0.05)
    spectrum = np.abs(np.fft.rfft(decoded[target // 2 : 3 * target // 2]))
    assert abs(int(np.argmax(spectrum)) - 440) <= 2
    assert len(made.data) < 60_000


def test_without_opus_it_is_flac(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(soundfile, "available_subtypes", lambda _: {"VORBIS": ""})
    made = player(tone(440, 1.0, 16000), 16000)
    decoded, rate = soundfile.read(io.BytesIO(made.data), dtype="float32")
    assert (made.kind, rate) == ("audio/flac", 16000)
    assert np.abs(decoded - tone(440, 1.0, 16000)).max() < 1e-4


def test_a_long_sound_is_cut_to_its_loudest_seconds() -> None:
    samples = 0.01 * tone(440, 30.0, 8000)
    samples[8000 * 17 : 8000 * 27] *= 50
    made = player(samples, 8000)
    assert (made.first, made.seconds, made.whole) == (pytest.approx(17.0, abs=0.1), LONGEST, False)


class Read(Listed):
    """A dataset that reads its sound itself, by a value that predictions do not have."""

    def clips(self) -> Iterator[Clip]:
        for clip in self.given:
            yield Clip(clip.path, clip.labels, clip.start, clip.stop, extra={"pitch": "500"})

    def read(self, clip: Clip) -> tuple[np.ndarray, int]:
        if clip.path == "torn":
            raise SoundError(clip.path, "the tape is torn")
        return tone(float(clip.extra["pitch"]), 1.0, 8000), 8000


def test_a_dataset_of_its_own_reads_the_clip_that_it_gave() -> None:
    clips = [Clip("a", ("a",)), Clip("torn", ("b",)), Clip("b", ("b",), 1.0, 2.0)]
    dataset = Read(clips, ("a", "b"), False)
    asked = [clips[2], Clip("gone", ("a",)), clips[1], clips[0]]
    found = list(each_sound(dataset, asked))
    assert isinstance(found[0], Player)
    assert found[1:3] == ["the dataset no longer has it", "the tape is torn"]
    assert isinstance(found[3], Player)


def test_sound_in_files_is_read_from_them_alone(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "x.wav", np.concatenate([tone(300, 1.0, 8000), tone(900, 1.0, 8000)]), 8000)

    class Gone(Listed):
        def clips(self) -> Iterator[Clip]:
            raise AssertionError("its table need not be there")

    clips = [Clip(str(tmp_path / "x.wav"), ("a",), 1.0, 2.0), Clip(str(tmp_path / "no.wav"), ("a",))]
    found = list(each_sound(Gone([], ("a", "b"), False), clips))
    assert isinstance(found[0], Player)
    assert found[0].seconds == pytest.approx(1.0)
    assert found[1] == "no such file"


def test_no_more_of_a_long_file_is_decoded_than_is_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    soundfile.write(tmp_path / "x.wav", tone(300, 10.0, 8000), 8000)
    monkeypatch.setattr(sounds, "_SEARCHED", 4.0)
    asked: list[Any] = []
    decode = audio.decode_for
    monkeypatch.setattr(audio, "decode_for", lambda *given: asked.append(given[2:4]) or decode(*given))
    (found,) = each_sound(Listed([], ("a",), False), [Clip(str(tmp_path / "x.wav"), ("a",), 2.0)])
    assert asked == [(2.0, 6.0)]
    assert isinstance(found, Player)


def test_a_dataset_that_fails_is_a_reason() -> None:
    class Broken(Read):
        def clips(self) -> Iterator[Clip]:
            raise RuntimeError("no\nidea")

    clips = [Clip("a", ("a",)), Clip("b", ("b",))]
    assert list(each_sound(Broken(clips, ("a", "b"), False), clips)) == ["RuntimeError: no idea"] * 2
