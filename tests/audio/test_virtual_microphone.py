"""A real microphone that is none: PulseAudio's null sink, heard through ALSA and PortAudio; where they are installed.

On Debian: `apt install pulseaudio pulseaudio-utils libasound2-plugins libportaudio2`.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
from helpers.streams import OPTIONS, lines, listening_run

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return listening_run(tmp_path_factory.mktemp("toy"))


@pytest.fixture
def card(tmp_path: Path) -> Iterator[dict[str, str]]:
    """The environment in which a tone of 440 Hz is what the default microphone hears."""
    if not shutil.which("pulseaudio") or not shutil.which("paplay"):
        pytest.skip("no pulseaudio, paplay: no virtual microphone")
    if subprocess.run([sys.executable, "-c", "import sounddevice"], capture_output=True, check=False).returncode:
        pytest.skip("no PortAudio: no virtual microphone")
    (tmp_path / ".asoundrc").write_text("pcm.!default { type pulse }\nctl.!default { type pulse }\n")
    soundfile.write(tmp_path / "tone.wav", 0.5 * np.sin(2 * np.pi * 440 * np.arange(320_000) / 16000), 16000)
    own = {"HOME": str(tmp_path), "XDG_RUNTIME_DIR": str(tmp_path), "PULSE_SOURCE": "sb.monitor"}
    env = {name: value for name, value in os.environ.items() if not name.startswith("PULSE_")} | own
    call = ["pulseaudio", "-n", "--daemonize=no", "--exit-idle-time=-1", "--load=module-native-protocol-unix"]
    call += ["--load=module-null-sink sink_name=sb rate=16000 channels=1"]
    server = subprocess.Popen(call, env=env, stderr=subprocess.DEVNULL)
    player: subprocess.Popen[bytes] | None = None
    try:
        until = time.monotonic() + 10
        while not (tmp_path / "pulse" / "native").exists() and time.monotonic() < until:
            time.sleep(0.1)
        player = subprocess.Popen(["paplay", "--device=sb", str(tmp_path / "tone.wav")], env=env)
        time.sleep(0.5)
        yield env
    finally:
        for process in (player, server):
            if process:
                process.terminate()
                process.wait()


def test_what_is_played_is_recorded(card: dict[str, str], tmp_path: Path) -> None:
    listed = [sys.executable, "-m", "soundbench", "record", "--list-devices"]
    assert "default" in subprocess.run(listed, env=card, capture_output=True, text=True, check=True).stdout
    call = [sys.executable, "-m", "soundbench", "record", "--seconds", "2", "--out", str(tmp_path / "a.wav")]
    done = subprocess.run(call, env=card, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    samples, rate = soundfile.read(tmp_path / "a.wav")
    assert (rate, len(samples)) == (16000, 32000)
    spectrum = np.abs(np.fft.rfft(samples[8000:24000]))
    assert int(spectrum.argmax()) == 440


def test_what_is_played_is_listened_to(card: dict[str, str], run: Path) -> None:
    call = [sys.executable, "-m", "soundbench", "stream", str(run), "--json", *OPTIONS]
    process = subprocess.Popen(call, env=card, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0)
    assert process.stdout
    first = process.stdout.readline()
    time.sleep(2)
    process.send_signal(signal.SIGINT)
    out, errors = process.communicate(timeout=30)
    assert process.returncode == 0, errors
    found = lines((first + out).decode())
    (summary,) = found["summary"]
    assert summary["windows"] == len(found["window"]) > 15
    assert summary["dropped"] == 0
    assert all(window["level"] == pytest.approx(-9, abs=1) for window in found["window"][3:-1])  # half of full scale
