"""Work that threads do for an iterator: results in the order of the items, or as they come.

Whoever stops early waits for work that has begun, but not for long: a thread may be waiting for a silent server. Such a
thread is left behind, and ends with the process at the latest.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, wait
from functools import partial
from itertools import islice
from queue import Empty, SimpleQueue
from threading import Event, Semaphore, Thread
from typing import NamedTuple, TypeVar

__all__ = ["in_threads", "interleaved"]

Item = TypeVar("Item")
Result = TypeVar("Result")

# Seconds that work which has begun has to end when nobody wants its result any more.
GRACE = 5.0
# Seconds after which the one that waits for a result looks about: on Windows, Ctrl-C is heeded only between two waits.
_GLANCE = 0.5


class _Threads:
    """At most `count` threads, which the end of the process does not wait for."""

    def __init__(self, count: int) -> None:
        self._count, self._ended = count, False
        self._tasks: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._threads: list[Thread] = []

    def do(self, work: Callable[[], Result]) -> Future[Result]:
        """Let the next thread that is free do this."""
        future: Future[Result] = Future()
        self._tasks.put(partial(_settle, future, work))
        if len(self._threads) < self._count:
            self._threads.append(Thread(target=self._run, daemon=True))
            self._threads[-1].start()
        return future

    def _run(self) -> None:
        while (task := self._tasks.get()) is not None:
            if not self._ended:
                task()

    def end(self) -> None:
        """Begin no more work, and wait for what has begun, but not for long."""
        self._ended, until = True, time.monotonic() + GRACE
        for _ in self._threads:
            self._tasks.put(None)
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))


def _settle(future: Future[Result], work: Callable[[], Result]) -> None:
    try:
        future.set_result(work())
    except BaseException as error:
        future.set_exception(error)


def _result(future: Future[Result]) -> Result:
    while not future.done():
        wait([future], _GLANCE)
    return future.result()


def in_threads(work: Callable[[Item], Result], items: Iterable[Item], workers: int) -> Generator[Result, None, None]:
    """Yield the result of `work` for each item, in order, computed in threads.

    At most two results per thread are computed ahead, so that memory does not grow with the number of items.
    """
    threads = _Threads(workers)
    ahead: deque[Future[Result]] = deque()
    try:
        for item in items:
            ahead.append(threads.do(partial(work, item)))
            if len(ahead) > 2 * workers:
                yield _result(ahead.popleft())
        while ahead:
            yield _result(ahead.popleft())
    finally:
        threads.end()


class _Ended(NamedTuple):
    """An iterator has ended, by an error if there is one."""

    error: BaseException | None = None


def interleaved(
    work: Callable[[Item], Iterator[Result]], items: Iterable[Item], workers: int
) -> Generator[Result, None, None]:
    """Yield what the iterators of `work` give, as it comes: each in a thread, at most `workers` of them at once.

    At most two results per thread wait, so that memory does not grow with their number.

    Args:
        work: called with an item.
        items: taken in this thread, when there is a thread for the next.
        workers: the number of threads.
    """
    found: SimpleQueue[Result | _Ended] = SimpleQueue()
    places, stopped = Semaphore(2 * workers), Event()

    def run(item: Item) -> None:
        error = None
        try:
            for result in work(item):
                places.acquire()
                if stopped.is_set():
                    break
                found.put(result)
        except BaseException as raised:
            error = raised
        found.put(_Ended(error))

    left, at_work, threads = iter(items), 0, _Threads(workers)
    try:
        while True:
            for item in islice(left, workers - at_work):
                threads.do(partial(run, item))
                at_work += 1
            if not at_work:
                return
            try:
                result = found.get(timeout=_GLANCE)
            except Empty:
                continue
            if not isinstance(result, _Ended):
                places.release()
                yield result
            elif result.error is not None:
                raise result.error
            else:
                at_work -= 1
    finally:
        stopped.set()
        places.release(workers)
        threads.end()
