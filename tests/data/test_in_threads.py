"""Work done by threads: its results come in order, few are ahead, and what it raises is raised here."""

from __future__ import annotations

import subprocess
import sys
import threading
import time

import pytest

from soundbench.data.shards.threads import in_threads


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


@pytest.mark.parametrize("way", ["in_threads", "interleaved"])
def test_ctrl_c_ends_the_process_while_a_thread_waits_for_ever(way: str) -> None:
    program = f"""
import os, signal, threading, time
from soundbench.data.shards import threads
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
