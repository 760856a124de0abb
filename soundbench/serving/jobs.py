"""Requests at work: some at a time in threads, the others in a queue of limited length, each with its time."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from soundbench.messages import out_of_memory
from soundbench.serving.refusals import BUSY, Gone, Limits, Refused

__all__ = ["Job", "Jobs"]

T = TypeVar("T")

# Requests that are processed at the same time. They mostly wait for each other's windows: a batch has up to 32.
WORKERS = 32


class Job:
    """One request at work: ends when its time is over, or its client has gone."""

    def __init__(self, timeout: float) -> None:
        self._until, self._timeout = time.monotonic() + timeout, timeout
        self._gone = threading.Event()

    def stop(self) -> None:
        """End the work at its next `check`."""
        self._gone.set()

    def check(self) -> None:
        """Raise if nobody waits for the answer any more.

        Raises:
            Gone: the client has gone.
            Refused: the time is over.
        """
        if self._gone.is_set():
            raise Gone
        if time.monotonic() > self._until:
            raise self.late()

    def late(self) -> Refused:
        """What a request is refused with when its time is over."""
        sentence = f"no answer within {self._timeout:g} s: send shorter sound, or fewer requests at a time"
        return Refused(504, sentence)


class Jobs:
    """Does the work of requests in threads.

    Args:
        limits: how many may wait, and for how long.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._pool = ThreadPoolExecutor(WORKERS, "request")
        self._lock = threading.Lock()
        self.waiting = 0

    async def run(self, work: Callable[[Job], T], gone: Callable[[], Awaitable[None]]) -> T:
        """The result of some work.

        Args:
            work: called in a thread; calls `check` of its argument now and then.
            gone: returns when the client has gone.

        Raises:
            Refused: too many wait already, it took too long, or the machine has no memory for it.
            Gone: the client has gone.
        """
        with self._lock:
            if self.waiting >= self._limits.queue:
                sentence = f"{self._limits.queue} requests are waiting already; try again in a moment"
                raise Refused(503, sentence, retry_after=str(BUSY))
            self.waiting += 1
        job = Job(self._limits.timeout)
        future = self._pool.submit(self._do, job, work)
        wrapped, left = asyncio.wrap_future(future), asyncio.ensure_future(gone())
        try:
            either: set[asyncio.Future[Any]] = {wrapped, left}
            await asyncio.wait(either, timeout=self._limits.timeout, return_when=asyncio.FIRST_COMPLETED)
            if not wrapped.done():
                raise Gone if left.done() else job.late()
            return wrapped.result()
        except Exception as error:
            if out_of_memory(error):
                raise Refused(503, "this machine has no memory left for it; send shorter sound") from None
            raise
        finally:
            job.stop()
            left.cancel()
            if future.cancel():
                self._begun()
            if not wrapped.done():
                wrapped.add_done_callback(lambda done: done.cancelled() or done.exception())  # nobody asks for it

    def _do(self, job: Job, work: Callable[[Job], T]) -> T:
        self._begun()
        job.check()
        return work(job)

    def _begun(self) -> None:
        with self._lock:
            self.waiting -= 1

    def close(self) -> None:
        """End the threads that are idle."""
        self._pool.shutdown(wait=False, cancel_futures=True)
