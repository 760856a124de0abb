"""What is written on standard error: byte for byte, on a terminal and elsewhere."""

from __future__ import annotations

import io
import math
import os
import re
import sys
import time
from types import SimpleNamespace

import pytest

from soundbench import terminal
from soundbench.terminal import StatusLine, Throttle, bar, clock, columns, on_terminal


class Screen(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> Screen:
    """A terminal of twelve columns."""
    screen = Screen()
    monkeypatch.setattr(terminal, "sys", SimpleNamespace(stderr=screen))
    monkeypatch.setattr(terminal, "columns", lambda: 12)
    return screen


def test_a_line_is_drawn_over_the_last_one_and_erased(screen: Screen) -> None:
    line = StatusLine()
    line.show("first one")
    line.show("second")
    line.erase()
    line.erase()
    assert screen.getvalue() == "\rfirst one\rsecond   \r      \r"


def test_a_line_that_stays_takes_its_place(screen: Screen) -> None:
    line = StatusLine()
    line.say("before")
    line.show("moves")
    line.say("a line that stays is not cut")
    line.show("moves")
    line.leave()
    line.leave()
    assert screen.getvalue() == "before\n\rmoves\r     \ra line that stays is not cut\n\rmoves\n"


def test_a_line_that_moves_is_cut_to_the_terminal(screen: Screen) -> None:
    line = StatusLine()
    line.show("longer than twelve")
    line.show("short")
    line.erase()
    assert screen.getvalue() == "\rlonger than\rshort      \r     \r"


def test_elsewhere_each_is_a_line_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    line = StatusLine()
    line.show("longer than the eighty columns of a terminal that is none " * 2)
    line.show("second")
    line.erase()
    line.say("third")
    line.leave()
    out, err = capsys.readouterr()
    assert out == ""
    assert err == "longer than the eighty columns of a terminal that is none " * 2 + "\nsecond\nthird\n"


def test_no_standard_error_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", None)
    line = StatusLine()
    line.show("first")
    line.say("second")
    line.erase()
    line.leave()
    assert not on_terminal()
    assert columns() == 80


def test_a_terminal_that_reports_no_width_has_eighty_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", sys.__stderr__)
    monkeypatch.setattr(os, "get_terminal_size", lambda _: os.terminal_size((0, 0)))
    assert columns() == 80


def test_a_throttle_lets_pass_once_in_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    throttle, at_once = Throttle(), Throttle(-math.inf)
    assert (throttle.due(20), at_once.due(20)) == (False, True)
    now = 119.0
    assert (throttle.due(20), at_once.due(20)) == (False, False)
    now = 120.0
    assert (throttle.due(20), throttle.due(20)) == (True, False)
    now = 139.0
    throttle.restart()
    now = 141.0
    assert not throttle.due(20)
    assert throttle.due(2)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-3, "0:00"), (0, "0:00"), (41.6, "0:42"), (754, "12:34"), (3599.7, "1:00:00"), (3723, "1:02:03")],
)
def test_times(seconds: float, text: str) -> None:
    assert clock(seconds) == text


@pytest.mark.parametrize(
    ("share", "text"), [(-1.0, "[--------]"), (0.5, "[####----]"), (0.9, "[#######-]"), (1.05, "[########]")]
)
def test_bars(share: float, text: str) -> None:
    assert bar(share, 8) == text


def shown_by_jupyter(text: str) -> str:
    """What a cell shows: JupyterLab's `fixCarriageReturn`, @jupyterlab/rendermime."""
    text = re.sub(r"\r+\n", "\n", text)
    while found := re.search(r"^([^\r\n]*)\r+([^\r\n]*)", text, re.MULTILINE):
        base, insert = found.groups()
        text = text[: found.start()] + insert + base[len(insert) :] + text[found.end() :]
    return text


def test_in_a_notebook_one_line_is_redrawn_and_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The stream of a notebook is no terminal by its own account; its class is in ipykernel."""
    stream = type("OutStream", (io.StringIO,), {"__module__": "ipykernel.iostream"})()
    monkeypatch.setattr(sys, "stderr", stream)
    assert on_terminal()
    assert columns() == 80
    line = StatusLine()
    line.show("epoch 1/2 [##----]  30%")
    line.show("epoch 1/2 [####--]  7%")
    assert shown_by_jupyter(stream.getvalue()).split("\n") == ["epoch 1/2 [####--]  7% "]
    line.say("epoch 1/2 loss 1.0")
    line.show("epoch 2/2 [#-----]")
    line.say("epoch 2/2 loss 0.5")
    line.show("over")
    line.erase()
    cell = [one.rstrip() for one in shown_by_jupyter(stream.getvalue()).split("\n")]
    assert cell == ["epoch 1/2 loss 1.0", "epoch 2/2 loss 0.5", ""]
    assert not re.search("[\x00-\x09\x0b\x0c\x0e-\x1f]", stream.getvalue())
