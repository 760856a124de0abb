"""Batches that a thread sends ahead: the same ones in order, from buffers filled when their copies are done."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from soundbench.data.batches import on_device
from soundbench.data.transfer.ahead import DEPTH, ahead, ahead_on
from soundbench.data.windowing.packing import RawBatch


class Slow:
    """A device that copies late: when somebody waits for it, or when a while has passed."""

    def __init__(self) -> None:
        self.buffers = 0
        self.used: list[Any] = []

    def buffer(self, like: Tensor) -> Tensor:
        self.buffers += 1
        return torch.full_like(like, -1)

    def copy(self, tensors: Sequence[Tensor]) -> tuple[list[Tensor], Any]:
        there = [torch.full_like(tensor, -2) for tensor in tensors]

        def late() -> None:
            for goal, tensor in zip(there, tensors, strict=True):
                goal.copy_(tensor)

        timer = threading.Timer(0.02, late)
        timer.start()
        return there, timer

    def finish(self, copied: Any) -> None:
        copied.join()

    def use(self, tensors: Sequence[Tensor], copied: Any) -> None:
        copied.join()
        self.used.append(copied)


def raw(number: int, rows: int = 3) -> RawBatch:
    samples = torch.full((rows, 5), number, dtype=torch.int16)
    whole = torch.full((rows,), number)
    return RawBatch(samples, torch.ones(rows), torch.full((rows,), 5), torch.ones(rows, 2), whole, whole + 1000)


def test_batches_arrive_in_order_and_whole() -> None:
    device, sizes = Slow(), [3, 3, 2, 3, 3, 2, 3, 3, 3, 1]
    with ahead_on((raw(number, rows) for number, rows in enumerate(sizes)), device) as sent:
        for number, got in enumerate(sent):
            wanted = raw(number, sizes[number])
            assert all(torch.equal(one, other) for one, other in zip(got, wanted, strict=True)), number
            batch = on_device(got, torch.device("cpu"), "off")
            assert batch.host_position is not batch.position
            assert torch.equal(batch.host_position, wanted.position)
    assert len(device.used) == len(sizes)


def test_buffers_are_used_again_and_no_more_than_a_few_batches_are_read_ahead() -> None:
    device, read = Slow(), []

    def batches() -> Iterator[RawBatch]:
        for number in range(20):
            read.append(number)
            yield raw(number)

    with ahead_on(batches(), device) as sent:
        for number, _ in enumerate(sent):
            assert len(read) <= number + DEPTH + 3
    assert len(read) == 20
    assert device.buffers == 6 * (DEPTH + 1)


def test_what_reading_raises_is_raised_where_the_batch_would_be() -> None:
    def batches() -> Iterator[RawBatch]:
        yield raw(0)
        raise ValueError("the disk is gone")

    with ahead_on(batches(), Slow()) as sent:
        assert torch.equal(next(sent).index, raw(0).index)
        with pytest.raises(ValueError, match="the disk is gone"):
            next(sent)


def test_the_thread_ends_with_the_body_whatever_ends_it() -> None:
    def batches() -> Iterator[RawBatch]:
        while True:
            yield raw(0)

    def interrupted() -> None:
        with ahead_on(batches(), Slow()) as sent:
            next(sent)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    deadline = time.monotonic() + 5
    while any(thread.name == "batches" for thread in threading.enumerate()):
        assert time.monotonic() < deadline


def test_on_a_cpu_batches_are_left_as_they_are() -> None:
    given = [raw(0)]
    with ahead(given, torch.device("cpu")) as sent:
        assert sent is given
