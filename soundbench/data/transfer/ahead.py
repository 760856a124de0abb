"""Batches on a GPU before a step needs them: a thread reads them into pinned memory, a stream of their own copies them.

A copy from ordinary memory makes the host wait; one from pinned memory goes on beside the steps. Pinned memory is slow
to get, so that a few buffers are used in turn. A buffer is filled again only when its copy is done.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from torch import Tensor

from soundbench.data.batches import RawBatch, keep_on_host

__all__ = ["DEPTH", "Cuda", "Device", "ahead", "ahead_on"]

DEPTH = 2
"""How many batches are kept ready."""

_PATIENCE = 0.2  # seconds between looks at whether nobody wants batches any more


class Device(Protocol):
    """What copying takes; tests have one without a GPU."""

    def buffer(self, like: Tensor) -> Tensor:
        """Memory of the host that copies to the device are made from."""
        ...

    def copy(self, tensors: Sequence[Tensor]) -> tuple[list[Tensor], Any]:
        """Begin to copy tensors; gives those on the device, and what the ends of the copies are known by."""
        ...

    def finish(self, copied: Any) -> None:
        """Make the host wait until copies are done."""
        ...

    def use(self, tensors: Sequence[Tensor], copied: Any) -> None:
        """Make the device wait with what follows until copies are done; the host does not wait."""
        ...


class Cuda:
    """A GPU, with a stream for copies."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    def buffer(self, like: Tensor) -> Tensor:
        """Pinned memory."""
        with torch.cuda.device(self.device):  # a new thread's own device is the first GPU
            return torch.empty_like(like, pin_memory=True)

    def copy(self, tensors: Sequence[Tensor]) -> tuple[list[Tensor], Any]:
        """Begin to copy, in the stream for copies."""
        with torch.cuda.stream(self.stream):
            return [tensor.to(self.device, non_blocking=True) for tensor in tensors], self.stream.record_event()

    def finish(self, copied: Any) -> None:
        """Wait until copies are done."""
        copied.synchronize()

    def use(self, tensors: Sequence[Tensor], copied: Any) -> None:
        """Make the current stream wait; its work keeps the memory of the tensors."""
        current = torch.cuda.current_stream(self.device)
        current.wait_event(copied)
        for tensor in tensors:
            tensor.record_stream(current)


@contextmanager
def ahead(batches: Iterable[RawBatch], device: torch.device) -> Iterator[Iterable[RawBatch]]:
    """The same batches, on a GPU some steps before they are needed; on a CPU they are left as they are."""
    if device.type != "cuda":
        yield batches
        return
    with ahead_on(batches, Cuda(device)) as copied:
        yield copied


@contextmanager
def ahead_on(batches: Iterable[RawBatch], device: Device) -> Iterator[Iterable[RawBatch]]:
    """The same batches on a device, read by a thread that ends with the body."""
    reader = _Reader(iter(batches), device)  # whose worker processes start here, not in a thread
    reader.start()
    try:
        yield reader.read()
    finally:
        reader.stopped.set()
        reader.join()


class _Reader(threading.Thread):
    def __init__(self, batches: Iterator[RawBatch], device: Device) -> None:
        super().__init__(name="batches", daemon=True)
        self.batches, self.device = batches, device
        self.ready: queue.Queue[Any] = queue.Queue(DEPTH)
        self.stopped = threading.Event()
        # One more than are ready: the one that is being filled.
        self.rings: list[_Buffers] = [_Buffers(device) for _ in range(DEPTH + 1)]

    def run(self) -> None:
        """Read batches until there are no more, or nobody wants them; an error is for the reader of `read`."""
        try:
            for number, raw in enumerate(self.batches):
                if not self._put(self.rings[number % len(self.rings)].sent(raw)):
                    return
            self._put(None)
        except BaseException as error:
            self._put(error)

    def _put(self, item: Any) -> bool:
        while not self.stopped.is_set():
            try:
                self.ready.put(item, timeout=_PATIENCE)
                return True
            except queue.Full:
                continue
        return False

    def read(self) -> Iterator[RawBatch]:
        """The batches, in order.

        Raises:
            BaseException: what reading them raised.
        """
        while (item := self.ready.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            raw, copied = item
            self.device.use(raw, copied)
            yield raw


class _Buffers:
    """Memory that a batch is copied from, again and again."""

    def __init__(self, device: Device) -> None:
        self.device = device
        self.buffers: list[Tensor] = []
        self.copied: Any = None

    def sent(self, raw: RawBatch) -> tuple[RawBatch, Any]:
        """The batch on the device, and what the end of its copy is known by."""
        if self.copied is not None:
            self.device.finish(self.copied)
        parts = [torch.as_tensor(part) for part in raw]
        if [(one.shape, one.dtype) for one in self.buffers] != [(part.shape, part.dtype) for part in parts]:
            self.buffers = [self.device.buffer(part) for part in parts]
        for buffer, part in zip(self.buffers, parts, strict=True):
            buffer.copy_(part)
        tensors, self.copied = self.device.copy(self.buffers)
        sent = RawBatch(*tensors)
        keep_on_host(sent.position, parts[-1])
        return sent, self.copied
