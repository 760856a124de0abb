"""A bound on the time of what must end at once: generous, since no test measures speed, but far below "for ever"."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager


class TooLong(BaseException):
    """The body took longer than it may."""


@contextmanager
def within(seconds: float = 10.0) -> Iterator[None]:
    """Raise `TooLong` if the body takes more seconds of this thread's processor time; another program may be at work.

    Args:
        seconds: the limit, several times what a slow machine takes. After ten times as much by the clock, the body is
            interrupted.
    """

    def interrupt(*_: object) -> None:
        raise TooLong(f"more than {10 * seconds} s")

    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, 10 * seconds)
    began = time.thread_time()
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    if (took := time.thread_time() - began) > seconds:
        raise TooLong(f"{took:.1f} s of processor time")
