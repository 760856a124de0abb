"""Several processes started by one: what ends them is said once, and none is left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from helpers import launched

from soundbench import signals
from soundbench.cli import launch as launching
from soundbench.cli.launch import launch
from soundbench.errors import CallError, RunError, SoundError

NOTE = "stopped; to resume: soundbench run --resume runs/a\n"


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WORLD_SIZE", "TORCHELASTIC_RUN_ID"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(launching, "_GRACE", 2.0)


def gone(folder: Path) -> bool:
    """Whether the processes that wrote down their numbers are there no more."""
    deadline = time.monotonic() + 20
    numbers = [int(path.read_text()) for path in folder.glob("*.pid")]
    assert len(numbers) == 2
    while time.monotonic() < deadline:
        if not any(Path(f"/proc/{number}").exists() for number in numbers):
            return True
        time.sleep(0.05)
    return False


def test_each_finds_what_torchrun_would_set_and_the_first_one_s_result_counts() -> None:
    assert launch(launched.environment, (), 3) == {
        "RANK": "0",
        "LOCAL_RANK": "0",
        "WORLD_SIZE": "3",
        "LOCAL_WORLD_SIZE": "3",
        "MASTER_ADDR": "127.0.0.1",
    }


def test_a_world_of_one_may_start_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """Container platforms say so of every program, even in a job step of several."""
    for name, value in {"WORLD_SIZE": "1", "LOCAL_WORLD_SIZE": "1", "RANK": "0", "SLURM_STEP_NUM_TASKS": "2"}.items():
        monkeypatch.setenv(name, value)
    found = launch(launched.environment, (), 2)
    assert (found["WORLD_SIZE"], found["LOCAL_WORLD_SIZE"]) == ("2", "2")


def test_all_of_them_work(tmp_path: Path) -> None:
    assert launch(launched.sizes, (tmp_path,), 3) == 41
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0", "1", "2"]


def test_a_mistake_that_all_make_is_raised_once(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SoundError) as caught:
        launch(launched.all_refuse, (), 2)
    assert (str(caught.value), caught.value.path) == ("a.wav: is empty", "a.wav")
    assert "in all_refuse" in str(caught.value.__cause__)  # for --debug
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("known", "the loss is no longer finite"),
        ("stubborn", "Stubborn: this and that (--debug shows the traceback)"),
        ("elsewhere", "Odd: rows differ (--debug shows the traceback)"),
    ],
)
def test_the_cause_is_reported_and_not_what_the_others_noticed(what: str, message: str) -> None:
    with pytest.raises(RunError) as caught:
        launch(launched.one_raises, (what,), 2)
    assert str(caught.value) == message
    assert "in one_raises" in str(caught.value.__cause__)  # for --debug


@pytest.mark.parametrize(
    ("which", "how", "message", "said"),
    [
        (1, "kill", "process 2 of 2 was killed (SIGKILL), probably because the system ran out of memory", ""),
        (0, "kill", "process 1 of 2 was killed (SIGKILL), probably because the system ran out of memory", NOTE),
        (1, "exit", "process 2 of 2 ended with exit code 7 and no message", ""),
    ],
)
def test_a_death_is_reported_and_how_to_go_on_too(
    which: int, how: str, message: str, said: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """The first process tells that itself, as long as it lives."""
    with pytest.raises(RunError) as caught:
        launch(launched.one_dies, (which, how), 2)
    assert str(caught.value) == message
    assert capfd.readouterr() == ("", said)


def test_one_that_hangs_when_another_has_died_is_not_left_behind(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="process 2 of 2 was killed"):
        launch(launched.one_dies_and_the_other_hangs, (tmp_path,), 2)
    assert gone(tmp_path)


def at_work(folder: Path, how: str) -> subprocess.Popen[str]:
    """A command whose two processes work, and have written down their numbers."""
    starter = subprocess.Popen(
        [sys.executable, launched.__file__, str(folder), how],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler) and None,
    )
    while len(list(folder.glob("*.pid"))) < 2:
        assert starter.poll() is None, starter.communicate()
        time.sleep(0.02)
    return starter


@pytest.mark.parametrize(
    ("number", "code", "deaf"),
    [
        (signal.SIGINT, 130, False),
        (signal.SIGINT, 130, True),
        (signal.SIGTERM, 143, False),
        (signal.SIGTERM, 143, True),
        (signal.SIGKILL, -9, False),  # nobody is left to pass on a second one
    ],
)
def test_signals_reach_all_and_whoever_outlives_the_starter_stops(
    number: signal.Signals, code: int, deaf: bool, tmp_path: Path
) -> None:
    starter = at_work(tmp_path, "deaf" if deaf else "")
    for _ in range(1 + deaf):
        time.sleep(0.3)
        os.killpg(starter.pid, number)  # as a terminal does
    _, errors = starter.communicate(timeout=60)
    expected = code if number != signal.SIGINT else -signal.SIGINT  # Python's own end of a KeyboardInterrupt
    assert starter.returncode == expected, errors
    assert number == signal.SIGINT or "Traceback" not in errors  # the starter's own, as above
    assert gone(tmp_path)
    heard = str(int(signal.SIGTERM if number == signal.SIGKILL else number))
    assert [path.read_text() for path in tmp_path.glob("*.heard")] == [f"{heard} {heard}" if deaf else heard] * 2


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, -signal.SIGINT), (signal.SIGTERM, 143)])
def test_processes_that_hang_end_as_the_second_signal_says(number: signal.Signals, code: int, tmp_path: Path) -> None:
    starter = at_work(tmp_path, "hung")
    for _ in range(2):
        time.sleep(0.3)
        starter.send_signal(number)
    _, errors = starter.communicate(timeout=60)
    assert starter.returncode == code, errors
    assert gone(tmp_path)


def test_a_signal_that_finds_the_work_done_still_ends_the_starter(tmp_path: Path) -> None:
    starter = at_work(tmp_path, "done")
    starter.send_signal(signal.SIGTERM)
    _, errors = starter.communicate(timeout=60)
    assert starter.returncode == 143, errors  # 0 would let a sweep go on


@pytest.mark.parametrize(
    ("environment", "starter"),
    [
        ({"WORLD_SIZE": "2"}, "torchrun"),
        ({"WORLD_SIZE": "1", "TORCHELASTIC_RUN_ID": "none"}, "torchrun"),
        ({"SLURM_STEP_NUM_TASKS": "2"}, "srun"),
    ],
)
def test_processes_that_were_started_already_start_no_others(
    environment: dict[str, str], starter: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(CallError) as caught:
        launch(launched.environment, (), 2)
    assert str(caught.value) == (
        f"--processes starts processes itself, but {starter} has already started this process; use only one of them"
    )


def test_a_system_without_signals_that_wait_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signals, "POSIX", False)
    with pytest.raises(CallError) as caught:
        launch(launched.environment, (), 2)
    assert str(caught.value) == "--processes needs Linux or macOS; leave it out to use one process"
