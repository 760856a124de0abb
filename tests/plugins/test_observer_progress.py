from __future__ import annotations

import io
import os
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pluggy
import pytest
from soundbench_plugins.observer.progress import Progress

from soundbench import terminal as terminals
from soundbench.contracts import Hooks, RunInfo

# A terminal to draw on, which POSIX systems have.
fcntl, pty, termios = (pytest.importorskip(name) for name in ("fcntl", "pty", "termios"))

ROW = {
    "epoch": 1,
    "step": 4,
    "train_loss": 1.25,
    "rate": 0.001,
    "clips_per_second": 151.7,
    "seconds": 42.0,
    "validation_loss": 1.4,
    "validation_accuracy": 0.5625,
    "validation_macro_f1": 0.512,
}


VALIDATED = "validation loss 1.4000, accuracy 56.2%, macro-F1 51.2%"


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(time, "monotonic", clock)
    return clock


def attach(epochs: int = 12, start_step: int = 0, **options: float) -> pluggy.HookRelay:
    run = RunInfo(Path("."), "toy", {}, ("a", "b"), {"train": 8}, epochs, steps_per_epoch=4, start_step=start_step)
    manager = pluggy.PluginManager("soundbench")
    manager.add_hookspecs(Hooks)
    manager.register(Progress(run, **options))
    manager.check_pending()
    return manager.hook


def step(hook: pluggy.HookRelay, number: int) -> None:
    hook.progressed(epoch=(number - 1) // 4 + 1, step=number, loss=1.5, rate=1e-3, clips_per_second=152.4)


class Terminal:
    """A pseudo terminal that standard error is."""

    def __init__(self, columns: int) -> None:
        self.main, self.side = pty.openpty()
        fcntl.ioctl(self.side, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        self.stream = os.fdopen(self.side, "w")

    def read(self) -> str:
        self.stream.flush()
        os.set_blocking(self.main, False)
        text = b""
        try:
            while chunk := os.read(self.main, 65536):
                text += chunk
        except BlockingIOError:
            pass
        return text.decode()

    def screen(self) -> list[str]:
        """The lines as they stand after all that was written."""
        lines, column = [""], 0
        for character in self.read():
            if character == "\n":
                lines.append("")
            elif character == "\r":
                column = 0
            else:
                lines[-1] = lines[-1][:column].ljust(column) + character + lines[-1][column + 1 :]
            column = 0 if character in "\r\n" else column + 1
        return [line.rstrip() for line in lines]


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Iterator[Terminal]:
    terminal = Terminal(getattr(request, "param", 100))
    monkeypatch.setattr(terminals, "sys", SimpleNamespace(stderr=terminal.stream))
    yield terminal
    terminal.stream.close()
    os.close(terminal.main)


def test_a_terminal_gets_one_line_that_is_drawn_anew(terminal: Terminal, clock: Clock) -> None:
    hook = attach()
    hook.run_started()
    step(hook, 1)
    clock.now += 10
    step(hook, 2)

    assert terminal.screen() == [
        "epoch  1/12 [############------------]  50%  loss 1.5000  lr 1.0e-03  152 clips/s  7:40 left"
    ]


def test_an_epoch_replaces_the_bar_by_a_line_that_stays(terminal: Terminal, clock: Clock) -> None:
    hook = attach()
    hook.run_started()
    step(hook, 4)
    hook.epoch_completed(epoch=1, row=ROW)
    clock.now += 2
    step(hook, 5)

    assert terminal.screen() == [
        f"epoch  1/12  loss 1.2500  {VALIDATED}  lr 1.0e-03  152 clips/s  0:42",
        "epoch  2/12 [######------------------]  25%  loss 1.5000  lr 1.0e-03  152 clips/s  1:26 left",
    ]


def test_the_time_left_counts_the_steps_of_this_process_only(terminal: Terminal, clock: Clock) -> None:
    hook = attach(start_step=40)
    hook.run_started()
    step(hook, 41)
    clock.now += 3600
    step(hook, 42)

    assert "50%" in terminal.read()
    step(hook, 42)
    assert "6:00:00 left" in terminal.read()


def test_a_failure_leaves_the_bar_and_a_new_line(terminal: Terminal, clock: Clock) -> None:
    hook = attach()
    step(hook, 1)
    hook.run_failed(error=KeyboardInterrupt())
    hook.run_failed(error=KeyboardInterrupt())
    terminal.stream.write("stopped")

    lines = terminal.screen()
    assert lines[0].startswith("epoch  1/12 [######---")
    assert lines[1:] == ["stopped"]


def test_the_end_leaves_a_clean_line(terminal: Terminal, clock: Clock) -> None:
    hook = attach()
    step(hook, 1)
    hook.run_finished(report={})

    assert terminal.screen() == [""]


@pytest.mark.parametrize("terminal", [60, 20, 2, 0], indirect=True)
def test_a_narrow_terminal_is_never_wrapped(terminal: Terminal, clock: Clock) -> None:
    columns = os.get_terminal_size(terminal.side).columns or 80
    hook = attach()
    step(hook, 1)
    step(hook, 2)

    assert all(len(line) < columns for line in terminal.read().split("\r"))


def test_elsewhere_a_line_every_ten_seconds_at_most(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    hook = attach(epochs=100)
    hook.run_started()
    for number in range(1, 5):
        clock.now += 4
        step(hook, number)
    hook.epoch_completed(epoch=1, row=ROW)

    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [
        "epoch   1/100  75%  loss 1.5000  lr 1.0e-03  152 clips/s  26:28 left",
        f"epoch   1/100  loss 1.2500  {VALIDATED}  lr 1.0e-03  152 clips/s  0:42",
    ]


def test_every_figure_of_validation_is_shown(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    row = {name: value for name, value in ROW.items() if not name.startswith("validation")}
    several = {"loss": 0.25, "mean_average_precision": 0.875, "macro_f1": float("nan"), "top_3": 1.0, "d_prime": 2.5}
    row |= {f"validation_{name}": value for name, value in several.items()}
    attach(epochs=2).epoch_completed(epoch=1, row=row)

    shown = "validation loss 0.2500, mAP 87.5%, macro-F1 nan, top 3 100.0%, d prime 2.5  lr"
    assert shown in capsys.readouterr().err


def test_without_validation_the_line_says_what_there_is(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    row = {name: value for name, value in ROW.items() if not name.startswith("validation")}
    attach(epochs=2).epoch_completed(epoch=1, row=row)

    assert capsys.readouterr().err == "epoch 1/2  loss 1.2500  lr 1.0e-03  152 clips/s  0:42\n"


def test_no_standard_error_is_no_error(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(terminals, "sys", SimpleNamespace(stderr=None))
    hook = attach(every=0)
    hook.run_started()
    step(hook, 1)
    hook.epoch_completed(epoch=1, row=ROW)
    hook.run_finished(report={})


def test_a_terminal_of_ascii_is_enough(monkeypatch: pytest.MonkeyPatch, clock: Clock) -> None:
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii", errors="strict")
    monkeypatch.setattr(stream, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(terminals, "sys", SimpleNamespace(stderr=stream))
    hook = attach()
    step(hook, 1)
    hook.epoch_completed(epoch=1, row=ROW)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"every": -1.0}, "every must be at least 0 seconds, is -1.0"),
        ({"width": 0}, "width must be at least 1 character, is 0"),
    ],
)
def test_an_option_out_of_range_is_refused(options: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        attach(**options)
