"""Work that threads do for an iterator: results in the order of the items, or as they come."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from queue import SimpleQueue
from threading import Event, Semaphore
from typing import NamedTuple, TypeVar

__all__ = ["in_threads", "interleaved"]

Item = TypeVar("Item")
Result = TypeVar("Result")


def in_threads(work: Callable[[Item], Result], items: Iterable[Item], workers: int) -> Generator[Result, None, None]:
    """Yield the result of `work` for each item, in order, computed in threads.

    At most two results per thread are computed ahead, so that memory does not grow with the number of items.
    """
    pool = ThreadPoolExecutor(workers)
    ahead: deque[Future[Result]] = deque()
    try:
        for item in items:
            ahead.append(pool.submit(work, item))
            if len(ahead) > 2 * workers:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


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

    left, at_work, pool = iter(items), 0, ThreadPoolExecutor(workers)
    try:
        while True:
            for item in islice(left, workers - at_work):
                pool.submit(run, item)
                at_work += 1
            if not at_work:
                return
            result = found.get()
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
        pool.shutdown(cancel_futures=True)
