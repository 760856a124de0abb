"""Rows computed in several threads: as all together, with every setting of the process left as it was."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from soundbench.model.rows import by_rows, on_one_core


@pytest.fixture(autouse=True)
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


class Noted:
    """The sum of each row's valid samples, and in which threads, with how many threads, it was computed."""

    def __init__(self) -> None:
        self.rows: list[int] = []
        self.threads: set[str] = set()
        self.inside: set[int] = set()

    def __call__(self, data: Tensor, lengths: Tensor) -> Tensor:
        assert torch.is_inference_mode_enabled()
        self.rows.append(len(data))
        self.threads.add(threading.current_thread().name)
        self.inside.add(torch.get_num_threads())
        return torch.stack([row[:length].sum()[None] for row, length in zip(data, lengths.tolist(), strict=True)])


@pytest.mark.parametrize(("count", "rows"), [(12, [6, 6]), (33, [16, 17])])
def test_each_thread_computes_rows_of_its_own(count: int, rows: list[int]) -> None:
    noted = Noted()
    data, lengths = torch.randn(count, 50, dtype=torch.float64), torch.arange(count) + 1

    found = by_rows(noted, data, lengths)

    expected = torch.tensor([[data[row, : row + 1].sum()] for row in range(count)])
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)
    assert sorted(noted.rows) == rows
    assert noted.inside == {1}


def test_work_on_one_core_uses_one_thread_and_leaves_the_others_theirs() -> None:
    seen = on_one_core(lambda: (torch.get_num_threads(), torch.get_num_threads()))
    later: list[int] = []
    other = threading.Thread(target=lambda: later.append(torch.get_num_threads()))
    other.start()
    other.join()
    assert (seen, torch.get_num_threads(), later) == ((1, 1), 2, [2])
    with pytest.raises(ZeroDivisionError):
        on_one_core(lambda: 1 // 0)


def test_a_thread_keeps_its_number_though_its_first_rows_need_no_other_thread() -> None:
    code = """
import torch
from soundbench.model.rows import by_rows
seen = set()
def compute(data, lengths):
    seen.add(torch.get_num_threads())
    return data
torch.set_num_threads(2)
by_rows(lambda data, lengths: data, torch.zeros(12, 1), torch.ones(12))
by_rows(compute, torch.zeros(12, 1), torch.ones(12))
print(seen)
"""
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "{1}\n"


def test_threads_work_at_the_same_time() -> None:
    both = threading.Barrier(2)

    def meet(data: Tensor, lengths: Tensor) -> Tensor:
        both.wait(timeout=20)
        return data

    by_rows(meet, torch.zeros(12, 1), torch.ones(12, dtype=torch.long))


def test_few_rows_or_one_thread_are_computed_at_once_and_here() -> None:
    noted, data, lengths = Noted(), torch.zeros(11, 2), torch.ones(11, dtype=torch.long)
    by_rows(noted, data, lengths)
    torch.set_num_threads(1)
    by_rows(noted, data.repeat(4, 1), lengths.repeat(4))
    assert noted.rows == [11, 44]
    assert noted.threads == {threading.current_thread().name}


def test_the_process_keeps_its_threads() -> None:
    by_rows(Noted(), torch.zeros(12, 1), torch.ones(12, dtype=torch.long))

    counted: list[int] = []
    other = threading.Thread(target=lambda: counted.append(torch.get_num_threads()))
    other.start()
    other.join()
    assert (torch.get_num_threads(), counted) == (2, [2])


def test_an_error_in_a_thread_is_raised() -> None:
    def fail(data: Tensor, lengths: Tensor) -> Tensor:
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        by_rows(fail, torch.zeros(12, 1), torch.ones(12, dtype=torch.long))


FORKED = """
import os, torch
from soundbench.model.rows import by_rows

torch.set_num_threads(2)
def score():
    return by_rows(lambda data, lengths: data + 1, torch.zeros(12, 1), torch.ones(12)).sum().item()
assert score() == 12
if not (child := os.fork()):
    os._exit(int(score() != 12))
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system does not fork")
def test_a_forked_process_has_threads_of_its_own() -> None:
    done = subprocess.run([sys.executable, "-c", FORKED], capture_output=True, text=True, timeout=60)
    assert done.stdout == "0\n", done.stderr
