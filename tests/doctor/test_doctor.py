"""`soundbench doctor`: real decoders and folders, machines without this or that, no names in a bug report."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import EntryPoints
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from helpers.entry_points import fake

from soundbench.cli.main import invoke
from soundbench.doctor import computing, installed, places, sound
from soundbench.doctor.checks import chosen, table
from soundbench.doctor.finding import Check
from soundbench.doctor.privacy import without_names
from soundbench.errors import CallError

SOUNDS = Path(sound.__file__).parent / "sounds"
Doctor = Callable[..., tuple[int, dict[str, Any]]]


@pytest.fixture
def doctor(capsys: pytest.CaptureFixture[str]) -> Doctor:
    """Calls `doctor --json`; gives the exit code and the findings by their names."""

    def call(*needs: str) -> tuple[int, dict[str, Any]]:
        code = invoke(["doctor", "--json", *(part for need in needs for part in ("--need", need))])
        return code, {row["name"]: row for row in json.loads(capsys.readouterr().out)["checks"]}

    return call


@pytest.mark.parametrize("suffix", sound.FORMATS)
def test_the_sounds_of_the_package_hold_the_tone_by_another_reader(suffix: str) -> None:
    av = pytest.importorskip("av", reason="soundbench[av] is not installed")
    with av.open(str(SOUNDS / f"tone.{suffix}")) as container:
        frames = list(container.decode(container.streams.audio[0]))
    samples = np.concatenate([np.atleast_2d(frame.to_ndarray())[0].astype(float) for frame in frames])
    spectrum = np.abs(np.fft.rfft(samples - samples.mean()))
    width = frames[0].sample_rate / len(samples)
    assert abs(spectrum.argmax() * width - 1000) <= width
    assert (SOUNDS / f"tone.{suffix}").stat().st_size < 4096


def test_every_decoder_is_tried(doctor: Doctor) -> None:
    code, found = doctor(*sound.FORMATS)
    assert code == 0
    assert {row["status"] for row in found.values()} == {"ok"}
    assert {"wav", "flac", "ogg", "opus", "mp3", "m4a", "aac", "webm"} <= set(found)


def test_a_decoder_that_gives_another_sound_is_broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = (SOUNDS / "tone.wav").read_bytes()
    monkeypatch.setattr(sound, "_SOUNDS", tmp_path)
    (tmp_path / "tone.wav").write_bytes(whole[:44] + whole[44:244] * 2)  # the same tone
    assert sound.decoder("wav").status == "ok"
    (tmp_path / "tone.wav").write_bytes(whole[:44] + bytes(sample for sample in whole[44:244] for _ in range(2)))
    assert sound.decoder("wav").says == "a tone of 1000 Hz is decoded as one of 500 Hz"
    (tmp_path / "tone.flac").write_bytes((SOUNDS / "tone.flac").read_bytes()[:120])
    assert sound.decoder("flac").status == "broken"


def test_without_pyav_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    found = sound.decoder("m4a")
    assert (found.status, found.cure) == ("absent", "pip install 'soundbench[av]'")
    assert sound.decoder("flac").status == "ok"


def test_names_are_unique_and_an_unknown_one_is_answered_with_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    names = [check.name for check in table()]
    assert len(set(names)) == len(names)
    assert [check.name for check in chosen(names)] == names
    with pytest.raises(CallError, match=r'nothing is called "mp4a"; did you mean "m4a"\? known: python, cpu, '):
        chosen(["gpu", "mp4a"])
    assert invoke(["doctor", "--need", "mp4a"]) == 2
    assert capsys.readouterr().out == ""


def test_what_is_needed_decides_the_exit_code(doctor: Doctor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    assert doctor("wav")[0] == 0
    code, found = doctor("wav", "m4a")
    assert code == 1
    assert list(found) == ["m4a", "wav"]
    assert {name: row["status"] for name, row in found.items()} == {"m4a": "absent", "wav": "ok"}


def test_a_check_that_fails_is_reported_and_stops_no_other() -> None:
    def look() -> Any:
        raise ZeroDivisionError("by zero")

    found = Check("places", "odd", look).run()
    assert (found.status, found.says) == ("broken", "cannot be looked at: ZeroDivisionError: by zero")


def test_a_folder_that_cannot_be_written_to_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOUNDBENCH_CACHE", str(tmp_path / "new" / "cache"))
    assert places.cache().status == "ok"
    assert list(tmp_path.iterdir()) == []  # it has made nothing
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SOUNDBENCH_CACHE", str(tmp_path / "file" / "cache"))
    found = places.cache()
    assert found.status == "broken"
    assert f"{tmp_path / 'file'} is not a folder" in found.says
    if os.path.isdir("/proc"):  # no user, not even root, may write there
        monkeypatch.setenv("SOUNDBENCH_CACHE", "/proc/cache")
        found = places.cache()
        assert found.status == "broken"
        assert found.cure.startswith("set SOUNDBENCH_CACHE")


def test_a_user_without_a_home_is_told_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    def home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    for name in ("SOUNDBENCH_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Path, "home", home)
    (check,) = chosen(["cache"])
    assert check.run().says == "no folder to keep decoded sound in: this user has no home; set SOUNDBENCH_CACHE"
    assert places.disk().status == "ok"
    assert without_names("/srv/a") == "/srv/a"


def test_a_machine_without_portaudio_is_told_how_to_get_it(tmp_path: Path) -> None:
    """In a process of its own, where the import fails as that of `sounddevice` does without the library."""
    (tmp_path / "sounddevice.py").write_text("raise OSError('PortAudio library not found')\n")
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    call = [sys.executable, "-m", "soundbench", "doctor", "--need", "mic", "--need", "portaudio"]
    done = subprocess.run(call, capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": path})
    assert done.returncode == 1
    assert done.stderr == ""
    assert done.stdout.count("apt install libportaudio2") == 2


def test_a_format_is_tried_without_torch() -> None:
    code = (
        "import sys\nfrom soundbench.cli.main import invoke\n"
        "assert invoke(['doctor', '--need', 'flac']) == 0\nprint('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "False"


def test_plugins_have_verdicts_and_what_they_print_is_no_result(
    doctor: Doctor, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "doctored.py").write_text("print('hello')\nclass Mean:\n    def __init__(self, channels): ...\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    entries = EntryPoints(
        [
            fake("pooling", "mean", "doctored:Mean", "good", "1.0"),
            fake("pooling", "gone", "doctored:Gone", "bad", "2.0"),
            fake("pooling", "mean", "doctored:Mean", "bad", "2.0"),
        ]
    )
    monkeypatch.setattr("soundbench.recipe.registry.entry_points", lambda: entries)
    code, found = doctor("plugins")
    assert code == 1
    row = found["plugins"]
    assert (row["status"], row["values"]["components"]) == ("broken", {"bad 2.0": 2, "good 1.0": 1})
    assert len(row["values"]["broken"]) == 1
    assert 'no "Gone"' in row["values"]["broken"][0]
    assert 'pooling "mean" is provided by 2 distributions' in row["details"][1]


def test_an_extra_is_missing_by_its_packages_and_by_their_versions(monkeypatch: pytest.MonkeyPatch) -> None:
    there = {"onnx": "1.17.0", "torch": "2.8.0+cpu"}

    def version(name: str) -> str:
        if name not in there:
            raise installed.PackageNotFoundError(name)
        return there[name]

    lines = ["numpy>=1", "onnx>=1.17; extra == 'out'", "lame>=2; extra == 'out'", "torch>=2.9; extra == 'out'"]
    monkeypatch.setattr(installed, "distribution", lambda _: SimpleNamespace(requires=lines))
    monkeypatch.setattr(installed, "version", version)
    found = installed.extra("out")
    assert (found.status, found.cure) == ("absent", "pip install 'soundbench[out]'")
    assert found.says == "lame is not installed; torch is 2.8.0+cpu, where >=2.9 is needed"
    assert installed.libraries().says == "numpy is not installed"


def test_no_personal_path_is_in_a_bug_report(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HOME", "/srv/people/anna")
    monkeypatch.setenv("USER", "anna")
    monkeypatch.setenv("SOUNDBENCH_CACHE", "/data/anna/cache")
    monkeypatch.setenv("HF_HOME", "/srv/people/anna/hub")
    monkeypatch.setattr(sys, "executable", "/home/bert/venv/bin/python")
    needs = [part for name in ("python", "cache", "settings", "licence") for part in ("--need", name)]
    invoke(["doctor", "--json", *needs])
    out = capsys.readouterr().out
    assert "anna" not in out
    assert "bert" not in out
    assert "HF_HOME=~/hub" in out
    assert "/data/USER/cache" in out


def test_a_user_who_is_called_as_a_check_changes_no_name_of_a_check(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("USER", "python")
    invoke(["doctor", "--json", "--need", "python"])
    (row,) = json.loads(capsys.readouterr().out)["checks"]
    assert (row["part"], row["name"], row["status"]) == ("computing", "python", "ok")


def test_a_name_within_another_word_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("USER", "torch")
    monkeypatch.setenv("HOME", "/data/torch")
    assert without_names("torchaudio of /data/torch/x and /data/torch2") == "torchaudio of ~/x and /data/torch2"


@pytest.mark.parametrize(
    ("variables", "allowed", "said"),
    [
        ({}, 8, "8: as many as cores"),
        ({"OMP_NUM_THREADS": "3"}, 8, "3: OMP_NUM_THREADS=3 in the environment sets it"),
        ({}, 4, "4: taskset, SLURM or a container limits this process to 4 of 8 cores"),
        ({"OMP_NUM_THREADS": "4"}, 4, "4: taskset, SLURM or a container limits this process to 4 of 8 cores"),
    ],
)
def test_who_set_the_threads(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], allowed: int, said: str
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(allowed)), raising=False)
    monkeypatch.setattr("soundbench.machine._quota", lambda: float("inf"))
    assert computing.threads().says.startswith(said)


def test_a_quota_is_told_apart_from_cores_that_the_process_is_kept_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    monkeypatch.setattr("soundbench.machine._quota", lambda: 2.5)
    for listed, said in ((8, "a container's quota of processor time"), (2, "taskset, SLURM or a container")):
        monkeypatch.setattr("soundbench.machine.os.sched_getaffinity", lambda _, n=listed: set(range(n)), raising=False)
        assert f"{said} limits this process to 2 of 8 cores" in computing.threads().says


def test_a_gpu_that_cannot_compute_is_broken_and_none_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    def ones(*_: Any, **__: Any) -> Any:
        raise RuntimeError("CUDA error: no kernel image is available for execution on the device\nmore")

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert computing.gpu().status == "absent"
    device = SimpleNamespace(name="Old", total_memory=8e9, major=3, minor=5)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: device)
    monkeypatch.setattr(torch, "ones", ones)
    found = computing.gpu()
    assert found.status == "broken"
    assert "no kernel image" in found.says
    assert found.details == ("cuda:0: Old, 8 GB, compute capability 3.5",)


def test_the_whole_report_names_every_check(capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["doctor"]) == 0
    lines = capsys.readouterr().out.splitlines()
    names = [check.name for check in table()]
    assert [line[10:].split()[0] for line in lines if line.startswith("  ") and line[10] != " "] == names
    assert [line for line in lines if not line.startswith(" ")] == ["computing", "installed", "sound", "places"]
