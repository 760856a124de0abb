"""Ctrl-C and SIGTERM, sent to real processes."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

import pytest
from helpers import runs
from helpers.runs import done, start, steps, wait_for_checkpoint, weights

from soundbench import files
from soundbench.signals import Stop

pytestmark = pytest.mark.usefixtures("cache")
SLOW = {"SOUNDBENCH_TOY_DELAY": "0.05"}


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
def test_a_signal_ends_a_run_at_its_step_and_a_resume_goes_on_bit_for_bit(
    recipe: Path, tmp_path: Path, workers: int
) -> None:
    """First Ctrl-C as a terminal sends it, to every process of the group; then SIGTERM after the resume."""
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    sets = ("--set", f"train.num_workers={workers}", "--set", "train.epochs=5")
    done(start("run", recipe, "--out", whole, *sets))
    arguments: list[object] = ["run", recipe, "--out", cut, *sets]
    for number, code, least in ((signal.SIGINT, 130, 7), (signal.SIGTERM, 143, 14)):
        process = start(*arguments, **SLOW)
        wait_for_checkpoint(process, cut, least)
        os.killpg(process.pid, number)
        out, errors = process.communicate(timeout=60)
        assert (process.returncode, out) == (code, ""), errors
        assert errors.count("stopping after this step, with a checkpoint; a second signal stops immediately\n") == 1
        assert f"stopped; to resume: soundbench run --resume {cut} --trust-code\n" in errors
        assert "Traceback" not in errors
        assert steps(cut)[-1] % 7  # in mid-epoch, though the recipe saves at the ends of epochs alone
        arguments = ["run", "--resume", cut, "--trust-code"]
    done(start(*arguments))
    assert weights(whole) == weights(cut)
    losses = [[float(row["validation_loss"]) for row in files.read_rows(run / "history.csv")] for run in (whole, cut)]
    assert losses[0] == losses[1]


@pytest.mark.slow
def test_a_second_ctrl_c_stops_at_once(recipe: Path, tmp_path: Path) -> None:
    process = start("run", recipe, "--out", tmp_path / "run", SOUNDBENCH_TOY_DELAY="60")
    log = tmp_path / "run" / "log.txt"
    while not (log.exists() and "clips: " in log.read_text()):
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    began = time.monotonic()
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert time.monotonic() - began < 30  # a step takes 60 s
    assert steps(tmp_path / "run") == []
    assert "stopped; to resume: " in errors
    assert "Traceback" not in errors


@pytest.mark.slow
def test_two_processes_stop_together(recipe: Path, tmp_path: Path) -> None:
    """Only one of them gets the signal; both save and end."""
    run = tmp_path / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runs, "command", start)
        processes = runs.pair("run", recipe, "--out", run, "--set", "train.epochs=400")
    wait_for_checkpoint(processes[0], run)
    processes[1].send_signal(signal.SIGTERM)
    for process in processes:
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 143, errors
    assert steps(run)


@pytest.mark.slow
def test_a_stopped_fold_says_how_to_go_on_with_all(recipe: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    process = start("run", recipe, "--folds", "all", "--out", run, **SLOW)
    wait_for_checkpoint(process, run / "fold-01", 7)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    said = errors.splitlines()
    assert f"stopped; to resume: soundbench run --resume {run / 'fold-01'} --trust-code" in said
    assert f"to resume with the other folds, too: soundbench run --resume {run} --trust-code" in said


def test_signals_are_the_programs_own_again_afterwards() -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with Stop().handling():
        assert signal.getsignal(signal.SIGTERM) != before[1]
        with pytest.raises(SystemExit) as ended:
            os.kill(os.getpid(), signal.SIGTERM)
        assert ended.value.code == 143
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_a_signal_that_came_too_late_for_a_step_is_obeyed_at_the_end() -> None:
    stop = Stop()
    with pytest.raises(KeyboardInterrupt), stop.handling(), stop.deferred():
        stop.signal = signal.SIGINT
    assert not stop.signal


def test_what_is_ignored_stays_ignored_and_other_threads_change_nothing() -> None:
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        with Stop().handling():
            assert signal.getsignal(signal.SIGTERM) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGTERM, before)
    seen = []

    def look() -> None:
        with Stop().handling():
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    assert seen == [signal.getsignal(signal.SIGINT)]
