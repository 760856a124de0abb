"""`soundbench stream`: files, pipes and microphones, what is printed, kept and started, and how it ends."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import threading
import time
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from helpers.fake_sounddevice import FakeAudio
from helpers.streams import OPTIONS, lines, listening_run

import soundbench
from soundbench.audio.capture import level_of
from soundbench.cli.main import invoke
from soundbench.cli.meter import Meter
from soundbench.inference.classifier import Classifier
from soundbench.inference.events import Event
from soundbench.inference.live import EventRecorder


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return listening_run(tmp_path_factory.mktemp("toy"))


@pytest.fixture(scope="module")
def classifier(run: Path) -> Classifier:
    return soundbench.load(run, trust_code=True)


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Ten seconds of noise, low and high by turns, between silences."""
    monkeypatch.chdir(tmp_path)
    draws, parts = np.random.default_rng(0), []
    for number in range(10):
        noise = draws.standard_normal(int(draws.integers(3000, 8000)))
        smooth = np.convolve(noise, np.ones(8) / 8, mode="same")
        parts += [0.1 * (smooth if number % 2 else noise - smooth), np.zeros(int(draws.integers(0, 4000)))]
    soundfile.write("a.wav", np.concatenate(parts), 8000)
    return Path("a.wav")


def line(run: Path, *more: str) -> list[str]:
    return [sys.executable, "-m", "soundbench", "stream", str(run), *OPTIONS, *more]


def inferred(run: Path, path: Path, per: str, capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    capsys.readouterr()
    assert invoke(["infer", str(run), str(path), "--json", "--per", per, *OPTIONS]) == 0
    return [json.loads(row) for row in capsys.readouterr().out.splitlines()]


def agree(found: dict[str, list[dict[str, Any]]], run: Path, path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The windows, scores and events are those of `infer`."""
    for kind in ("window", "event"):
        wanted = inferred(run, path, kind, capsys)
        told = sorted(found[kind], key=lambda row: (row["start"], row["label"]))
        wanted.sort(key=lambda row: (row["start"], row["label"]))
        assert len(told) == len(wanted) > 4
        for one, other in zip(told, wanted, strict=True):
            assert (one["start"], one["end"], one["label"]) == (other["start"], other["end"], other["label"])
            assert one["score"] == pytest.approx(other["score"], abs=1e-5)
            if kind == "window":
                assert one["scores"] == pytest.approx(other["scores"], abs=1e-5)


def test_a_file_gives_what_infer_gives(run: Path, path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["stream", str(run), "--source", str(path), "--json", *OPTIONS]) == 0
    found = lines(capsys.readouterr().out)
    agree(found, run, path, capsys)
    (summary,) = found["summary"]
    assert summary["seconds"] == pytest.approx(soundfile.info(path).duration)
    assert (summary["windows"], summary["events"]) == (len(found["window"]), len(found["event"]))
    assert 0 < summary["latency_p50"] <= summary["latency_p95"]


def test_a_file_that_states_its_time_gives_that_of_windows_and_events(
    run: Path, path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    began = datetime(2020, 4, 10, 16, 34, 56, 250000, timezone(timedelta(hours=2)))
    os.rename(path, "20200410T163456.250+0200.wav")
    line = ["stream", str(run), "--source", "20200410T163456.250+0200.wav", "--json", *OPTIONS]
    assert invoke(line) == 0
    found = lines(capsys.readouterr().out)
    assert min(len(found[kind]) for kind in ("window", "begin", "event")) > 3
    for row in found["window"] + found["begin"] + found["event"]:
        for name, seconds in (("begin_time", row["start"]), ("end_time", row["end"])):
            wanted = began + timedelta(seconds=seconds)
            assert abs(datetime.fromisoformat(row[name]) - wanted) <= timedelta(milliseconds=0.5)
            assert row[name][-6:] == "+02:00"
    assert "begin_time" not in found["summary"][0]
    assert invoke([*line, "--time-from", "none"]) == 0
    assert "_time" not in capsys.readouterr().out


@pytest.mark.slow
def test_pipes_of_real_processes_give_what_infer_gives(
    run: Path, path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    samples = soundfile.read(path, dtype="int16")[0]
    Path("a.raw").write_bytes(samples.astype("<i2").tobytes())
    wide = (samples.astype(np.int32) << 8).astype(">i4").view(np.uint8).reshape(-1, 1, 4)[:, :, 1:]  # 24 bits
    Path("stereo.raw").write_bytes(wide.repeat(2, axis=1).tobytes())
    stereo = ["--format", "S24_3BE", "--rate", "8000", "--channels", "2"]
    for name, more in ((path, []), ("a.raw", ["--format", "s16le", "--rate", "8000"]), ("stereo.raw", stereo)):
        with subprocess.Popen(["cat", name], stdout=subprocess.PIPE) as cat:
            call = line(run, "--source", "-", "--json", *more)
            done = subprocess.run(call, stdin=cat.stdout, capture_output=True, text=True, check=True)
        found = lines(done.stdout)
        agree(found, run, path, capsys)
        assert found["summary"][0]["dropped"] == 0


def test_the_table_has_a_row_an_event(run: Path, path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["stream", str(run), "--source", str(path), *OPTIONS]) == 0
    out, errors = capsys.readouterr()
    events = inferred(run, path, "event", capsys)
    wanted = {f"{row['start']:.2f}\t{row['end']:.2f}\t{row['label']} {row['score']:.4f}" for row in events}
    assert set(out.splitlines()) == wanted
    assert f"{len(events)} events, 0 samples dropped; latency " in errors


def test_a_program_is_started_at_each_event_without_a_shell(run: Path, path: Path) -> None:
    script = (
        "import os, json, sys; open(f'started-{os.getpid()}', 'w').write(json.dumps([sys.argv[1:], dict(os.environ)]))"
    )
    started = shlex.join([sys.executable, "-c", script, "$HOME; a b"])
    call = line(run, "--source", str(path), "--json", "--on", "low", started)
    done = subprocess.run(call, capture_output=True, text=True, check=True)
    begun = [row for row in lines(done.stdout)["begin"] if row["label"] == "low"]
    until = time.monotonic() + 20
    while len(found := list(Path().glob("started-*"))) < len(begun) and time.monotonic() < until:
        time.sleep(0.05)
    time.sleep(0.2)
    told = sorted(
        (
            (arguments, {name: env[f"SOUNDBENCH_{name.upper()}"] for name in ("label", "score", "start", "end")})
            for arguments, env in (json.loads(one.read_text()) for one in found)
        ),
        key=lambda one: float(one[1]["start"]),
    )
    names = ("label", "score", "start", "end")
    assert [env for _, env in told] == [{name: str(row[name]) for name in names} for row in begun]
    assert all(arguments == ["$HOME; a b"] for arguments, _ in told)


@pytest.mark.slow
def test_the_sound_of_events_is_a_folder_of_class_folders(run: Path, path: Path) -> None:
    samples = soundfile.read(path)[0]
    with subprocess.Popen(["cat", path], stdout=subprocess.PIPE) as cat:
        call = line(run, "--source", "-", "--json", "--record-events", "pipe")
        piped = lines(subprocess.run(call, stdin=cat.stdout, capture_output=True, text=True, check=True).stdout)
    call = line(run, "--source", str(path), "--json", "--record-events", "file")
    lines(subprocess.run(call, capture_output=True, text=True, check=True).stdout)
    for folder in ("pipe", "file"):
        for label in ("low", "high"):
            kept = sorted(Path(folder, label).glob("*.wav"), key=lambda one: float(one.stem.split("-")[2][:-1]))
            events = [event for event in piped["event"] if event["label"] == label]
            assert len(kept) == len(events) > 1
            for file, event in zip(kept, events, strict=True):
                begin, end = max(event["start"] - 1, 0), min(event["end"] + 1, len(samples) / 8000)
                found, rate = soundfile.read(file)
                assert rate == 8000
                np.testing.assert_allclose(found, samples[round(begin * 8000) : round(end * 8000)], atol=1e-4)


def test_two_events_at_once_are_two_files(tmp_path: Path) -> None:
    keeper = EventRecorder(tmp_path, lambda start, end: np.zeros(100, np.float32), 8000)
    for _ in range(2):
        keeper.add(Event("a/b: c", 1.0, 2.0, 0.9))
    keeper.write(2.9)
    assert not list(tmp_path.iterdir())
    keeper.write(3.0)
    assert len(list((tmp_path / "a_b_ c").iterdir())) == 2


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stop_ends_cleanly_with_the_summary(run: Path, path: Path, number: signal.Signals) -> None:
    call = line(run, "--source", "-", "--json")
    pipe = subprocess.PIPE
    process = subprocess.Popen(call, stdin=pipe, stdout=pipe, stderr=pipe, bufsize=0)  # nothing read ahead of a line
    assert process.stdin
    assert process.stdout
    process.stdin.write(path.read_bytes()[:50_000])
    first = process.stdout.readline()
    process.send_signal(number)
    out, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (0, b"")
    found = lines((first + out).decode())
    assert len(found["summary"]) == 1
    assert found["summary"][0]["events"] == len(found["event"]) == len(found["begin"])


def test_what_breaks_in_the_middle_is_reported_after_what_came_before(run: Path, path: Path) -> None:
    samples = soundfile.read(path, dtype="float32")[0]
    data = samples.astype("<f4").tobytes() + b"\xff" * 400
    call = line(run, "--source", "-", "--json", "--format", "f32le", "--rate", "8000")
    done = subprocess.run(call, input=data, capture_output=True, check=False)
    assert done.returncode == 1
    assert done.stderr.decode() == "standard input: contains NaN or infinity; does --format match the data?\n"
    assert len(lines(done.stdout.decode())["window"]) > 20


@pytest.mark.parametrize("data", [None, b"", b"no sound", b"RIFF"])
def test_a_file_that_cannot_be_read_is_one_line(
    run: Path, tmp_path: Path, data: bytes | None, capsys: pytest.CaptureFixture[str]
) -> None:
    if data is not None:
        (tmp_path / "bad.wav").write_bytes(data)
    for more in ([], ["--json"]):
        assert invoke(["stream", str(run), "--source", str(tmp_path / "bad.wav"), *OPTIONS, *more]) == 1
        out, errors = capsys.readouterr()
        assert out == ""
        assert errors.startswith(f"{tmp_path / 'bad.wav'}: ")
        assert errors.count("\n") == 1


def test_a_folder_that_cannot_be_made_is_reported_before_any_sound_is_read(
    run: Path, path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    line = ["stream", str(run), "--source", str(path), "--record-events", str(tmp_path / "file" / "heard"), *OPTIONS]
    assert invoke(line) == 1
    out, errors = capsys.readouterr()
    assert (out, errors) == ("", f"{tmp_path / 'file' / 'heard'}: a part of this path is a file, not a folder\n")


def test_whoever_reads_it_may_have_enough(run: Path, path: Path) -> None:
    process = subprocess.Popen(
        line(run, "--source", str(path), "--json"), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout
    assert process.stderr
    process.stdout.readline()
    process.stdout.close()
    assert process.stderr.read() == b""
    assert process.wait() == 1


@pytest.fixture
def fake(path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeAudio:
    audio = FakeAudio(soundfile.read(path, dtype="float32", always_2d=True)[0])
    monkeypatch.setitem(sys.modules, "sounddevice", audio)
    return audio


def stop_when(asked: Any) -> None:
    """Press Ctrl-C once something is so."""

    def wait() -> None:
        until = time.monotonic() + 60
        while not asked() and time.monotonic() < until:
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=wait, daemon=True).start()


def test_a_microphone_gives_what_infer_gives_until_it_is_stopped(
    run: Path, path: Path, fake: FakeAudio, capsys: pytest.CaptureFixture[str]
) -> None:
    stop_when(lambda: fake.at > len(fake.samples) + 8000)
    assert invoke(["stream", str(run), "--json", "--gate", "-60", *OPTIONS]) == 0
    found = lines(capsys.readouterr().out)
    wanted = [row for row in inferred(run, path, "window", capsys) if row["end"] <= len(fake.samples) / 8000 - 0.2]
    told = {row["start"]: row for row in found["window"]}
    assert sum(row["start"] in told for row in wanted) > len(wanted) / 2
    for row in wanted:
        if row["start"] in told:
            assert told[row["start"]]["scores"] == pytest.approx(row["scores"], abs=1e-5)
    assert found["summary"][0]["gated"] > 0
    assert fake.streams[0].closed


def test_a_microphone_that_goes_is_waited_for(
    run: Path, fake: FakeAudio, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("soundbench.audio.microphone.FIRST_LOOK", 0.01)

    def unplug() -> None:
        while fake.at < 8000:
            time.sleep(0.01)
        fake.vanish()
        while fake.looks < 2:
            time.sleep(0.01)
        fake.names = ["Fake Mic"]

    threading.Thread(target=unplug, daemon=True).start()
    stop_when(lambda: len(fake.streams) == 2 and fake.at > 24000)
    assert invoke(["stream", str(run), "--json", *OPTIONS]) == 0
    out, errors = capsys.readouterr()
    assert errors == "the device is disconnected; waiting for it\nthe device is connected again\n"
    summary = lines(out)["summary"][0]
    assert summary["dropped"] > 0
    assert summary["seconds"] * 8000 == pytest.approx(fake.at + summary["dropped"], abs=1000)


def test_devices_are_listed_without_a_run(fake: FakeAudio, capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["stream", "--list-microphones"]) == 0
    assert capsys.readouterr().out == "*  0  Fake Mic  (1 channels, 8000 Hz)\n"
    fake.known = []
    assert invoke(["stream", "--list-microphones"]) == 1
    assert capsys.readouterr().err.startswith("no microphone: ")


def test_a_machine_without_a_microphone_is_one_line(
    run: Path, fake: FakeAudio, capsys: pytest.CaptureFixture[str]
) -> None:
    fake.known = []
    assert invoke(["stream", str(run), *OPTIONS]) == 1
    assert capsys.readouterr().err == "no microphone: this machine has no audio input device\n"


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--rate", "8000"], "--format, --rate and --channels are for raw samples on standard input: --source -"),
        (["--source", "a.wav", "--microphone", "1"], "--microphone is for --source mic"),
        (["--json", "--time-from", "name"], "--time-from and --time-pattern are for --json and a file"),
        (["--source", "a.wav", "--time-from", "name"], "--time-from and --time-pattern are for --json and a file"),
        (["--on", "loww", "true"], "--on: the model has no class 'loww'"),
        (["--on", "low", "no-such-program -x"], "--on low: 'no-such-program': no such program"),
        (["--on", "low", "a 'b"], '--on low: "a \'b": No closing quotation'),
        (["--source", "a.wav", "--gate", "nan"], "gate must be dB of full scale, such as -50, is nan"),
        (["--source", "a.wav", "--window", "0"], "window must be from "),
        (["--device", "tpu"], "unknown device 'tpu'; use 'auto', 'cpu', 'cuda' or 'cuda:N'"),
        (["--smooth", "2"], "smooth must be odd and at least 1, is 2"),
    ],
)
def test_what_does_not_go_together_is_said(
    run: Path, capsys: pytest.CaptureFixture[str], more: list[str], message: str
) -> None:
    assert invoke(["stream", str(run), "--trust-code", *more]) == 2
    assert capsys.readouterr().err.startswith(message)


def test_a_bar_moves_on_a_terminal_alone(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert level_of(np.full(100, 0.1)) == pytest.approx(-20)
    assert level_of(np.zeros(100)) == level_of(np.zeros(0)) == -120
    Meter().show(-20, "dog")
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    meter = Meter()
    meter.show(-30, "dog 0.93")
    meter.show(-30, "too soon")
    meter.clear()
    shown = "[############------------]  -30 dB  dog 0.93"
    assert capsys.readouterr().err == f"\r{shown}\r{' ' * len(shown)}\r"
    for level, filled in ((-120, 0), (3, 24)):
        Meter().show(level, "")
        assert capsys.readouterr().err == f"\r[{'#' * filled}{'-' * (24 - filled)}] {level:4} dB  "
