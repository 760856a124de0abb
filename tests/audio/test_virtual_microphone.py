"""A real microphone that is none: PulseAudio's null sink, heard through ALSA and PortAudio; where they are installed.

On Debian: `apt install pulseaudio pulseaudio-utils libasound2-plugins libportaudio2`.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from helpers.streams import OPTIONS, lines, listening_run
from numpy.typing import NDArray

pytestmark = pytest.mark.slow

RATE = 16000


def sink(rate: int = RATE) -> list[str]:
    return ["module-null-sink", "sink_name=sb", f"rate={rate}", "channels=1"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return listening_run(tmp_path_factory.mktemp("toy"))


class Card:
    """A sound server of the test's own, the default microphone of which hears what is played."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / ".asoundrc").write_text("pcm.!default { type pulse }\nctl.!default { type pulse }\n")
        own = {"HOME": str(folder), "XDG_RUNTIME_DIR": str(folder), "PULSE_SOURCE": "sb.monitor"}
        self.env = {name: value for name, value in os.environ.items() if not name.startswith("PULSE_")} | own
        self._running: list[subprocess.Popen[Any]] = []
        self.start()

    def start(self) -> None:
        call = ["pulseaudio", "-n", "--daemonize=no", "--exit-idle-time=-1", "--load=module-native-protocol-unix"]
        self.server = self._process([*call, f"--load={' '.join(sink())}"], stderr=subprocess.DEVNULL)
        until = time.monotonic() + 10
        while self.control("info", check=False).returncode:
            assert time.monotonic() < until
            time.sleep(0.1)

    def control(self, *call: str, check: bool = True) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(["pactl", *call], env=self.env, capture_output=True, check=check)

    def play(self, samples: NDArray[np.floating[Any]], rate: int = RATE) -> None:
        soundfile.write(self.folder / "played.wav", samples, rate)
        call = ["paplay", "--device=sb", str(self.folder / "played.wav")]
        self._process(call, stderr=subprocess.DEVNULL)
        time.sleep(0.5)

    def soundbench(self, *words: str) -> subprocess.Popen[str]:
        call = [sys.executable, "-m", "soundbench", *words]
        return self._process(call, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def record(self, path: Path, seconds: float) -> subprocess.Popen[str]:
        """`soundbench record`, when it has written the first second."""
        process = self.soundbench("record", "--seconds", str(seconds), "--out", str(path))
        until = time.monotonic() + 20
        while not path.exists() or path.stat().st_size < RATE:
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < until
            time.sleep(0.05)
        return process

    def close(self) -> None:
        for process in reversed(self._running):
            process.kill()
            process.communicate()

    def _process(self, call: list[str], **options: Any) -> subprocess.Popen[Any]:
        self._running.append(subprocess.Popen(call, env=self.env, **options))
        return self._running[-1]


@pytest.fixture
def card(tmp_path: Path) -> Iterator[Card]:
    if not all(map(shutil.which, ("pulseaudio", "paplay", "pactl"))):
        pytest.skip("no pulseaudio, paplay, pactl: no virtual microphone")
    if subprocess.run([sys.executable, "-c", "import sounddevice"], capture_output=True, check=False).returncode:
        pytest.skip("no PortAudio: no virtual microphone")
    card = Card(tmp_path)
    try:
        yield card
    finally:
        card.close()


def noise(seconds: float) -> NDArray[np.float64]:
    """Noise of 16 bits, in which every place is known by its samples."""
    return np.random.default_rng(0).integers(-16384, 16384, round(seconds * RATE)) / 32768


def lags(heard: NDArray[np.float64], played: NDArray[np.float64]) -> list[int | None]:
    """Of each half second: how much later it was played; None if it was not, or not to one step of 16 bits."""
    size, found = RATE // 2, list[int | None]()
    length = 1 << (len(played) + size).bit_length()
    spectrum = np.fft.rfft(played, length)
    for start in range(0, len(heard) - size + 1, size):
        part = heard[start : start + size]
        at = int(np.fft.irfft(spectrum * np.fft.rfft(part, length).conj()).argmax())
        same = len(played[at : at + size]) == size and np.abs(part - played[at : at + size]).max() <= 1.5 / 32768
        found.append(at - start if same else None)
    return found


def lost_in(errors: str) -> int:
    found = re.search(r"^([\d,]+) samples were lost$", errors, re.MULTILINE)
    return int(found[1].replace(",", "")) if found else 0


def test_what_is_played_is_recorded_without_a_gap(card: Card) -> None:
    listed = card.soundbench("record", "--list-microphones")
    assert "default" in listed.communicate(timeout=30)[0]
    played = noise(20)
    card.play(played)
    process = card.record(card.folder / "a.wav", 12)
    out, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (0, "")
    assert out == f"{card.folder / 'a.wav'}\t12.00 s\tpeak -6.0 dB\n"
    heard, rate = soundfile.read(card.folder / "a.wav")
    assert (rate, len(heard)) == (RATE, 12 * RATE)
    found = lags(heard, played)
    assert set(found) == {found[0]} != {None}


def test_a_program_that_is_stopped_for_a_while_loses_nothing_that_the_server_keeps(card: Card) -> None:
    """Longer than a device may give nothing before it counts as disconnected."""
    played = noise(20)
    card.play(played)
    process = card.record(card.folder / "a.wav", 9)
    process.send_signal(signal.SIGSTOP)
    time.sleep(4.5)
    process.send_signal(signal.SIGCONT)
    _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (0, "")
    found = lags(soundfile.read(card.folder / "a.wav")[0], played)
    assert set(found) == {found[0]} != {None}


def test_sound_that_a_suspended_device_did_not_hear_is_counted(card: Card) -> None:
    card.play(noise(20))
    process = card.record(card.folder / "a.wav", 5)
    card.control("suspend-sink", "sb", "1")
    began = time.monotonic()
    time.sleep(1.5)
    card.control("suspend-sink", "sb", "0")
    gone = time.monotonic() - began
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    assert lost_in(errors) / RATE == pytest.approx(gone, abs=0.5)
    assert soundfile.info(card.folder / "a.wav").frames == 5 * RATE


def unload(card: Card) -> Callable[[], object]:
    card.control("unload-module", "module-null-sink")
    return lambda: card.control("load-module", *sink())


def kill(card: Card) -> Callable[[], object]:
    card.server.kill()
    card.server.wait()
    return card.start


@pytest.mark.parametrize("vanish", [unload, kill])
def test_a_device_that_vanishes_is_waited_for(card: Card, vanish: Callable[[Card], Callable[[], object]]) -> None:
    first, then = noise(10), noise(25)[10 * RATE :]
    card.play(first)
    process = card.record(card.folder / "a.wav", 7)
    time.sleep(1.5)
    began = time.monotonic()
    come_back = vanish(card)
    time.sleep(1)
    come_back()
    card.play(then)
    _, errors = process.communicate(timeout=60)
    waited = time.monotonic() - began
    assert process.returncode == 0, errors
    said = [row for row in errors.splitlines() if not row.startswith("Expression ")]  # PortAudio's own words
    assert said[:2] == ["the device is disconnected; waiting for it", "the device is connected again"]
    assert len(said) == 3
    assert 1 < lost_in(errors) / RATE < waited
    heard = soundfile.read(card.folder / "a.wav")[0]
    assert len(heard) == 7 * RATE  # of sound
    before, after = ([lag for lag in lags(heard, part) if lag is not None] for part in (first, then))
    assert len(before) >= 3
    assert len(after) >= 3
    assert len(set(before)) == len(set(after)) == 1


def test_a_device_that_stays_away_leaves_what_was_recorded(card: Card) -> None:
    played = noise(20)
    card.play(played)
    process = card.record(card.folder / "a.wav", 600)
    time.sleep(1.5)
    kill(card)
    time.sleep(2)
    process.send_signal(signal.SIGINT)
    out, errors = process.communicate(timeout=30)
    assert process.returncode == 0, errors
    assert "the device is disconnected; waiting for it\n" in errors
    assert out.startswith(str(card.folder / "a.wav"))
    found = lags(soundfile.read(card.folder / "a.wav")[0], played)
    assert len(found) >= 4
    assert set(found) == {found[0]} != {None}


def test_what_is_played_is_classified_as_its_file(card: Card, run: Path) -> None:
    """The same labels in the same order as `infer`, each beginning and end within one hop."""
    rate = 8000  # the model's: the server itself resamples with less care
    draws, parts = np.random.default_rng(0), []
    for number in range(15):
        hissing = 0.1 * draws.standard_normal(int(draws.integers(4000, 12_000)))
        smooth = np.convolve(hissing, np.ones(8) / 8, mode="same")
        parts.append(hissing - smooth if number % 2 else smooth)
    played = np.concatenate([*parts, np.zeros(rate)])
    card.control("unload-module", "module-null-sink")
    card.control("load-module", *sink(rate))
    process = card.soundbench("stream", str(run), "--json", *OPTIONS)
    assert process.stdout
    first = process.stdout.readline()
    card.play(played, rate)
    time.sleep(len(played) / rate)
    process.send_signal(signal.SIGINT)
    rest = process.stdout.read()
    assert process.wait(30) == 0
    found = lines(first + rest)
    summary = found["summary"][0]
    assert summary["dropped"] == 0
    assert summary["windows"] == len(found["window"]) > 0
    call = ["infer", str(run), str(card.folder / "played.wav"), "--json", "--per", "event", *OPTIONS]
    wanted = lines(re.sub("^{", '{"type": "event", ', card.soundbench(*call).communicate(timeout=60)[0], flags=re.M))
    heard, inferred = (sorted(each["event"], key=lambda row: row["start"]) for each in (found, wanted))
    assert [row["label"] for row in heard] == [row["label"] for row in inferred]
    assert len(heard) > 10
    pairs = zip(heard, inferred, strict=True)
    late = np.array([one[end] - other[end] for one, other in pairs for end in ("start", "end")])[
        1:-1
    ]  # next to silence
    assert np.abs(late - np.median(late)).max() <= 0.1 + 1e-6


def test_a_server_without_a_microphone_is_one_line(card: Card) -> None:
    card.control("unload-module", "module-null-sink")
    process = card.soundbench("record", "--seconds", "1", "--out", str(card.folder / "a.wav"))
    out, errors = process.communicate(timeout=30)
    assert (process.returncode, out) == (1, "")
    assert "\n" not in errors.rstrip("\n"), errors
    assert not (card.folder / "a.wav").exists()
