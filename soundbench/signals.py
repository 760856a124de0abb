"""Stop on Ctrl-C or SIGTERM: training after its current step, live audio after its current block; signals to processes.

What only POSIX systems have is used here alone, and each function says what it does elsewhere.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any, NoReturn

import attrs

__all__ = [
    "POSIX",
    "Stop",
    "StopRequest",
    "death",
    "has_gone",
    "held_back",
    "kill",
    "lead_a_session",
    "let_through",
    "outlast",
    "send",
    "stop_this_process",
    "stoppable",
]

POSIX = sys.platform != "win32"
"""Whether the system has signals between processes, and sessions of them. Windows has neither."""

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_NOTICE = "stopping after this step, with a checkpoint; a second signal stops immediately"
# Seconds that a data loading process continues after a SIGTERM sent to all processes of a run.
_GRACE = 10.0


class Stop:
    """The signal, if any, that asked this process to stop.

    Args:
        notice: print a notice when a signal arrives; one of several processes does.

    Attributes:
        signal: the signal that is waiting for `obey`; 0 for none.
    """

    def __init__(self, notice: bool = True) -> None:
        self.signal = 0
        self._notice = notice
        self._deferred = False

    @contextmanager
    def handling(self) -> Iterator[None]:
        """Handle signals in the body: they raise, or wait inside `deferred`. A signal that is ignored stays ignored.

        Only the main thread can handle signals: in other threads this changes nothing.
        """
        before: dict[signal.Signals, Any] = {}
        if threading.current_thread() is threading.main_thread():
            before = {number: signal.getsignal(number) for number in _SIGNALS}
            before = {number: handler for number, handler in before.items() if handler != signal.SIG_IGN}
        for number in before:
            signal.signal(number, self._handle)
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler or signal.SIG_DFL)

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """In the body the first signal waits until its end, or until `obey`; a second one raises immediately."""
        self._deferred = True
        try:
            yield
        finally:
            self._deferred = False
        if self.signal:
            self.obey(self.signal)

    def obey(self, number: int) -> NoReturn:
        """Raise the exception that stands for a signal.

        Raises:
            KeyboardInterrupt: for Ctrl-C.
            SystemExit: for SIGTERM, with exit code 143, as a shell has it.
        """
        self.signal = 0
        if number == signal.SIGTERM:
            raise SystemExit(128 + number)
        raise KeyboardInterrupt

    def _handle(self, number: int, _frame: Any) -> None:
        if not self._deferred or self.signal:
            self.obey(number)
        self.signal = number
        if self._notice:
            # Not with print: a handler may interrupt another print. On a terminal, a progress bar's line ends here.
            os.write(2, f"{os.linesep * os.isatty(2)}{_NOTICE}\n".encode())


def outlast(_worker: int) -> None:
    """In a data loading process: ignore Ctrl-C and delay SIGTERM, so that the main process can finish its step."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if sys.platform != "win32":
        signal.signal(signal.SIGTERM, lambda *_: signal.setitimer(signal.ITIMER_REAL, _GRACE))


@attrs.define
class StopRequest:
    """Whether the user asked to stop.

    Attributes:
        asked: whether a signal has arrived.
    """

    asked: bool = False


@contextmanager
def stoppable() -> Iterator[StopRequest]:
    """In the body, the first Ctrl-C or SIGTERM sets `asked`, a second one raises; for work without a natural end."""
    stop = StopRequest()

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


# To processes -------------------------------------------------------------------------------------------------------


def send(process: int, number: int) -> None:
    """Send Ctrl-C (SIGINT) or SIGTERM to a process that leads a session; nothing if it has gone.

    Without sessions, Ctrl-C has reached the process from the console already, and a SIGTERM ends it at once.
    """
    if POSIX or number != signal.SIGINT:
        with suppress(ProcessLookupError if POSIX else OSError):
            os.kill(process, number)


def kill(process: int) -> None:
    """End a process at once, and those of the session that it leads; nothing if it has gone."""
    with suppress(ProcessLookupError if POSIX else OSError):
        if sys.platform != "win32":
            try:
                os.killpg(process, signal.SIGKILL)
            except ProcessLookupError:  # it leads none, or none yet
                os.kill(process, signal.SIGKILL)
        else:
            os.kill(process, signal.SIGTERM)


def has_gone(process: int) -> bool:
    """Whether a process of this machine is known to have ended; where signals cannot ask, it is not known."""
    if sys.platform == "win32":  # there `os.kill` ends a process, whatever the number
        return False
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return True
    except (OSError, OverflowError):
        return False
    return False


def stop_this_process() -> None:
    """Stop this process as a SIGTERM from outside does; for any of its threads."""
    if sys.platform != "win32":
        os.kill(os.getpid(), signal.SIGTERM)  # to the process, so that it ends a wait of the main thread
    else:
        signal.raise_signal(signal.SIGTERM)


def death(code: int) -> str:
    """What became of a process that has left no message, by its exit code."""
    if code >= 0:
        return f"ended with exit code {code} and no message"
    name = signal.Signals(-code).name
    if name == "SIGKILL":
        return "was killed (SIGKILL), probably because the system ran out of memory"
    return f"died of {name}"


def lead_a_session() -> None:
    """Take this process out of its terminal's reach, as the leader of a session; nothing where there are none."""
    if sys.platform != "win32":
        os.setsid()


@contextmanager
def held_back() -> Iterator[None]:
    """Let signals wait in the body, also for the processes that it starts, until they `let_through`."""
    if sys.platform == "win32":
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def let_through() -> None:
    """Receive the signals that waited since this process was started."""
    if sys.platform != "win32":
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
