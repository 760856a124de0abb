"""Stopping by Ctrl-C or SIGTERM: training goes on to the end of its step, and listening to the end of its block."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, NoReturn

import attrs

__all__ = ["Asked", "Stop", "outlast", "stoppable"]

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_NOTICE = "stopping at the end of this step, with a checkpoint; once more stops at once"
# Seconds that a loading process outlives a SIGTERM sent to all processes of a run.
_GRACE = 10.0


class Stop:
    """What was asked of this process by a signal.

    Args:
        aloud: whether to say that it was heard; one of several processes does.

    Attributes:
        signal: the signal that waits to be obeyed; 0 for none.
    """

    def __init__(self, aloud: bool = True) -> None:
        self.signal = 0
        self._aloud = aloud
        self._deferred = False

    @contextmanager
    def listening(self) -> Iterator[None]:
        """While signals raise here, or wait inside `deferred`. One that the process ignores stays ignored.

        Only the main thread of a program is told of signals: elsewhere nothing is changed.
        """
        before: dict[signal.Signals, Any] = {}
        if threading.current_thread() is threading.main_thread():
            before = {number: signal.getsignal(number) for number in _SIGNALS}
            before = {number: handler for number, handler in before.items() if handler != signal.SIG_IGN}
        for number in before:
            signal.signal(number, self._hear)
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler or signal.SIG_DFL)

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """While the first signal waits until it is asked for; a second one raises at once."""
        self._deferred = True
        try:
            yield
        finally:
            self._deferred = False
        if self.signal:
            self.obey(self.signal)

    def obey(self, number: int) -> NoReturn:
        """Raise what a signal means.

        Raises:
            KeyboardInterrupt: of Ctrl-C.
            SystemExit: of SIGTERM, with the exit code that a shell gives it.
        """
        self.signal = 0
        if number == signal.SIGTERM:
            raise SystemExit(128 + number)
        raise KeyboardInterrupt

    def _hear(self, number: int, _frame: Any) -> None:
        if not self._deferred or self.signal:
            self.obey(number)
        self.signal = number
        if self._aloud:
            # Not by print: a handler that interrupts a print may not print itself. A bar on a terminal ends here.
            os.write(2, f"{os.linesep * os.isatty(2)}{_NOTICE}\n".encode())


def outlast(_worker: int) -> None:
    """In a process that loads: leave stopping to the one that it loads for, which ends it when that is done."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "setitimer"):
        signal.signal(signal.SIGTERM, lambda *_: signal.setitimer(signal.ITIMER_REAL, _GRACE))


@attrs.define
class Asked:
    """Whether the program was asked to stop.

    Attributes:
        asked: it was.
    """

    asked: bool = False


@contextmanager
def stoppable() -> Iterator[Asked]:
    """While Ctrl-C and SIGTERM ask what goes on for ever to end, which is no failure; a second one stops at once."""
    stop = Asked()

    def ask(_number: int, _frame: FrameType | None) -> None:
        if stop.asked:
            raise KeyboardInterrupt
        stop.asked = True

    numbers = _SIGNALS if threading.current_thread() is threading.main_thread() else ()
    before = {number: signal.signal(number, ask) for number in numbers}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
