"""`soundbench record`: what is in the files, where they are, where they are cut, and how it ends."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from helpers.fake_sounddevice import FakeAudio

from soundbench import audio
from soundbench.audio import recording
from soundbench.audio.capture import Block
from soundbench.audio.recording import Splitter, Take, places, record
from soundbench.cli.main import invoke

Make = Callable[..., FakeAudio]


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Make:
    monkeypatch.chdir(tmp_path)

    def make(samples: np.ndarray, rate: int = 16000) -> FakeAudio:
        fake = FakeAudio(samples.astype(np.float32).reshape(len(samples), -1), rate)
        monkeypatch.setitem(sys.modules, "sounddevice", fake)
        return fake

    return make


class Given:
    """A source of what it is given, in blocks of any size."""

    def __init__(self, samples: np.ndarray, rate: int) -> None:
        self.samples, self.rate, self.channels = samples.astype(np.float32), rate, samples.shape[1]
        self._at, self._draws = 0, np.random.default_rng(0)

    def take(self, seconds: float) -> list[Block] | None:
        if self._at >= len(self.samples):
            return None
        begin, self._at = self._at, self._at + int(self._draws.integers(0, 3000))
        return [Block(self.samples[begin : self._at], 0.0)]

    def close(self) -> None:
        pass


def noise(seconds: float, rate: int = 16000, channels: int = 1) -> np.ndarray:
    whole = np.random.default_rng(0).integers(-20000, 20000, (round(seconds * rate), channels))
    return (whole / 32768).astype(np.float32)


def test_so_many_seconds_are_recorded_to_the_sample(make: Make, capsys: pytest.CaptureFixture[str]) -> None:
    samples = noise(1.0)
    make(samples)
    assert invoke(["record", "--seconds", "0.5", "--out", "new/take.wav"]) == 0
    found, rate = soundfile.read("new/take.wav", dtype="float32", always_2d=True)
    assert (rate, soundfile.info("new/take.wav").subtype) == (16000, "PCM_16")
    np.testing.assert_array_equal(found, samples[:8000])
    out, errors = capsys.readouterr()
    assert (out, errors) == ("new/take.wav\t0.50 s\tpeak -4.3 dB\n", "")


def test_two_channels_at_another_rate_are_resampled(make: Make, capsys: pytest.CaptureFixture[str]) -> None:
    samples = 0.5 * np.sin(np.arange(44100)[:, None] / np.array([15, 40]))
    make(samples, 44100)
    assert invoke(["record", "--seconds", "0.7", "--channels", "2", "--out", "a.wav"]) == 0
    found, rate = soundfile.read("a.wav")
    assert (rate, found.shape) == (16000, (11200, 2))
    for channel in (0, 1):
        wanted = audio.resample(samples[:, channel], 44100, 16000)[:11200]
        np.testing.assert_allclose(found[:, channel], wanted, atol=1e-4)
    assert capsys.readouterr().err == "the device records at 44100 Hz; it is resampled to 16000 Hz\n"


def test_ctrl_c_ends_a_take_that_is_whole(make: Make) -> None:
    fake = make(noise(0.3))

    def stop() -> None:
        while fake.at < 24000:
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=stop, daemon=True).start()
    assert invoke(["record", "--out", "a.wav"]) == 0
    assert soundfile.info("a.wav").frames >= 24000 - 800
    np.testing.assert_array_equal(soundfile.read("a.wav", dtype="float32")[0][:4800], noise(0.3)[:, 0])


def test_takes_of_a_label_are_filed_as_a_folder_dataset(make: Make, capsys: pytest.CaptureFixture[str]) -> None:
    for label in ("dog", "dog", "猫"):
        make(noise(1.0))
        assert invoke(["record", "--seconds", "0.1", "--label", label]) == 0
    paths = [Path(line.split("\t")[0]) for line in capsys.readouterr().out.splitlines()]
    assert len(set(paths)) == 3
    assert sorted(path.parent.as_posix() for path in paths) == ["sounds/dog", "sounds/dog", "sounds/猫"]
    assert all(soundfile.info(str(path)).frames == 1600 for path in paths)


def between(*seconds: float, rate: int = 16000, channels: int = 1) -> np.ndarray:
    """Noise and silence by turns, silence first."""
    parts = [noise(span, rate, channels) * (number % 2) for number, span in enumerate(seconds)]
    return np.concatenate(parts)


@pytest.mark.parametrize(("rate", "channels"), [(16000, 1), (11025, 2)])
def test_each_sound_is_a_take_with_a_little_silence_around_it(tmp_path: Path, rate: int, channels: int) -> None:
    """Three sounds; the second has a short pause in it, and a click is none."""
    samples = between(0.3, 0.5, 1.0, 0.4, 0.3, 0.4, 1.0, 0.04, 1.0, 0.3, rate=rate, channels=channels)
    takes: list[Take] = []
    record(Given(samples, rate), places(tmp_path / "t", "x", True), rate, silence=-40, notify=takes.append)
    assert [take.seconds for take in takes] == pytest.approx([0.9, 1.5, 0.5], abs=0.05)
    begins = [0.1, 1.6, 4.74]
    for take, begin in zip(takes, begins, strict=True):
        found = soundfile.read(take.path, dtype="float32", always_2d=True)[0]
        at = [k for k in range(round((begin - 0.03) * rate), round((begin + 0.03) * rate)) if k >= 0]
        assert any(np.array_equal(samples[k : k + len(found)], found) for k in at)


def test_how_it_comes_changes_no_take() -> None:
    samples = between(0.3, 0.5, 1.0, 0.4, 0.3, 0.4)
    found = []
    for sizes in (1, 100, 7919, 1 << 20):
        splitter, parts = Splitter(16000, -40), []
        for at in range(0, len(samples), sizes):
            parts += list(splitter.feed(samples[at : at + sizes]))
        parts += list(splitter.finish())
        takes: list[list[np.ndarray]] = [[]]
        for part in parts:
            if part is None:
                takes.append([])
            else:
                takes[-1].append(part)
        found.append([np.concatenate(take).tobytes() for take in takes if take])
    assert len(found[0]) == 2
    assert all(one == found[0] for one in found)


def test_silence_makes_no_take_and_no_file(make: Make, capsys: pytest.CaptureFixture[str]) -> None:
    make(np.zeros(1000))
    assert invoke(["record", "--seconds", "0.5", "--split-on-silence", "--out", "t"]) == 0
    assert capsys.readouterr().err == "nothing was recorded: no sound was loud enough, see --silence\n"
    assert not Path("t").exists()
    make(0.002 * noise(1.0))
    assert invoke(["record", "--seconds", "0.8", "--split-on-silence", "--silence", "-80", "--out", "t"]) == 0
    assert [path.parent.name for path in Path().rglob("*.wav")] == ["t"]


def test_a_take_is_a_whole_file_all_the_time(tmp_path: Path) -> None:
    seen: list[int] = []

    class Watched(Given):
        def take(self, seconds: float) -> list[Block] | None:
            if (tmp_path / "a.wav").exists() and (tmp_path / "a.wav").stat().st_size:
                found = soundfile.read(tmp_path / "a.wav", dtype="float32", always_2d=True)[0]
                assert np.array_equal(found, self.samples[: len(found)])
                seen.append(len(found))
            return super().take(seconds)

    record(Watched(noise(5.0), 16000), places(tmp_path / "a.wav", None, False), 16000)
    assert len(set(seen)) >= 4
    assert soundfile.info(tmp_path / "a.wav").frames == 80000


def test_a_file_that_is_full_is_followed_by_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recording, "LARGEST", 50_000)
    takes: list[Take] = []
    samples = noise(4.0)
    record(Given(samples, 16000), places(tmp_path / "a.wav", None, False), 16000, notify=takes.append)
    assert [take.path.name for take in takes] == ["a.wav", "a-002.wav", "a-003.wav"]
    joined = np.concatenate([soundfile.read(take.path, dtype="float32", always_2d=True)[0] for take in takes])
    np.testing.assert_array_equal(joined, samples)


def test_lost_samples_and_clipping_are_said(make: Make, capsys: pytest.CaptureFixture[str]) -> None:
    fake = make(np.full(16000, 1.5))
    fake.lose = {800: 1234}
    assert invoke(["record", "--seconds", "0.2", "--out", "a.wav"]) == 0
    out, errors = capsys.readouterr()
    assert out.endswith("0.20 s\tpeak 0.0 dB, clipped\n")
    assert errors == "1,234 samples were lost\n"


def test_a_full_disk_is_one_line(make: Make, small_disk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make(noise(1.0))
    assert invoke(["record", "--seconds", "20", "--out", str(small_disk / "a.wav")]) == 1
    assert capsys.readouterr().err == f"{small_disk / 'a.wav'}: the disk is full\n"
    assert soundfile.info(small_disk / "a.wav").frames > 16000


@pytest.mark.parametrize(
    ("more", "code", "message"),
    [
        (["--out", "there.wav"], 2, "--out there.wav: exists already and is not overwritten"),
        (["--out", "a.mp3"], 2, "--out a.mp3: recordings are WAV files; the name must end in .wav"),
        (["--out", "there.wav", "--split-on-silence"], 2, "--out there.wav: is a file; with --label or"),
        (["--label", "a/b"], 2, "--label 'a/b': is not usable as a folder name"),
        (["--channels", "3"], 2, "--channels 3: Fake Mic has 1"),
        (["--seconds", "nan"], 2, "seconds must be a number above 0, is nan"),
        (
            ["--split-on-silence", "--silence", "nan"],
            2,
            "silence must be a level in dB of full scale, such as -45, is nan",
        ),
        (["--microphone", "USB"], 1, "no single microphone matches 'USB'; known: 0 Fake Mic"),
    ],
)
def test_what_cannot_be_is_said(
    make: Make, capsys: pytest.CaptureFixture[str], more: list[str], code: int, message: str
) -> None:
    make(noise(1.0))
    Path("there.wav").touch()
    assert invoke(["record", "--seconds", "0.1", *more]) == code
    assert capsys.readouterr().err.startswith(message)
    assert [path.name for path in Path().rglob("*")] == ["there.wav"]


def test_a_machine_without_a_microphone_is_one_line(make: Make, capsys: pytest.CaptureFixture[str]) -> None:
    make(noise(1.0)).known = []
    assert invoke(["record"]) == 1
    assert capsys.readouterr().err == "no microphone: this machine has no audio input device\n"
