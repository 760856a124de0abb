"""Work done by threads: its results come in order, few are ahead, and what it raises is raised here."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Any

import pytest

from soundbench.sources import threads
from soundbench.sources.threads import in_threads, interleaved


def test_results_come_in_the_order_of_the_items() -> None:
    def slow_at_first(number: int) -> int:
        time.sleep(0.002 * (20 - number))
        return number * number

    assert list(in_threads(slow_at_first, range(20), 4)) == [number * number for number in range(20)]


def test_few_are_ahead_of_the_one_that_is_asked_for() -> None:
    begun: list[int] = []
    stream = in_threads(begun.append, range(1000), 2)
    for number in range(10):
        next(stream)
        assert len(begun) <= number + 5
    stream.close()
    assert len(begun) < 20


def test_what_the_work_raises_ends_it_and_its_threads() -> None:
    before = threading.active_count()
    with pytest.raises(ZeroDivisionError):
        list(in_threads(lambda number: 1 // number, [2, 1, 0, 1], 2))
    assert threading.active_count() == before


class QueueOfWindows(SimpleQueue[Any]):
    """A queue at which Ctrl-C cannot interrupt the main thread, as on Windows: it may wait only for a while."""

    def get(self, block: bool = True, timeout: float | None = None) -> Any:
        assert timeout is not None or threading.current_thread() is not threading.main_thread()
        return super().get(block, timeout)


@pytest.mark.parametrize("way", [in_threads, lambda work, *more: interleaved(lambda item: iter([work(item)]), *more)])
def test_whoever_waits_for_a_result_waits_only_for_a_while_at_a_time(
    way: Callable[..., Iterator[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def result(future: Future[int], timeout: float | None = None) -> int:
        assert future.done()
        return plain(future, timeout)

    plain = Future.result
    monkeypatch.setattr(Future, "result", result)
    monkeypatch.setattr(threads, "SimpleQueue", QueueOfWindows)
    monkeypatch.setattr(threads, "_GLANCE", 0.0005)  # it often ends before there is a result

    def slow(number: int) -> int:
        time.sleep(0.003)
        return number

    assert sorted(way(slow, range(20), 2)) == list(range(20))


@pytest.mark.parametrize("way", ["in_threads", "interleaved"])
def test_ctrl_c_ends_the_process_while_a_thread_waits_for_ever(way: str) -> None:
    program = f"""
import os, signal, threading, time
from soundbench.sources import threads
signal.signal(signal.SIGINT, signal.default_int_handler)
threads.GRACE = 0.2
def hang(item):
    os.kill(os.getpid(), signal.SIGINT)
    threading.Event().wait()
    yield
work = (lambda item: list(hang(item))) if "{way}" == "in_threads" else hang
list(threads.{way}(work, [1, 2, 3], 2))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30)
    assert done.stderr.rstrip().endswith("KeyboardInterrupt")
