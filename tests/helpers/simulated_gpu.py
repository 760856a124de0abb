"""A GPU of which every moment is known: one stream, the thread that launches into it, and their clocks."""

from __future__ import annotations

from collections import deque
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from soundbench.training import profiling


class SimulatedGPU:
    """What is launched runs in order, each when it has been launched and what is before it has ended.

    Args:
        depth: how many launches may wait; one more makes the thread wait, as on a real GPU.

    Attributes:
        now: the time of the thread, in seconds.
        end: when the GPU has done all that was launched so far.
        idle: how long it has had nothing to do so far.
        busy: how long it has worked.
        waits: how often the thread has waited for it.
    """

    def __init__(self, depth: int = 1024) -> None:
        self.now = self.end = self.idle = self.busy = 0.0
        self.waits = 0
        self._ends: deque[float] = deque(maxlen=depth)

    def use(self, patch: pytest.MonkeyPatch) -> None:
        """The GPU of `StepTimes` in a test."""
        patch.setattr(torch.cuda, "Event", lambda enable_timing: SimulatedEvent(self))
        patch.setattr(profiling, "time", SimpleNamespace(perf_counter=lambda: self.now))

    def launch(self, host: float, device: float) -> float:
        """Something that takes the thread and the GPU so many seconds; gives when the GPU has done it."""
        self.now += host
        if len(self._ends) == self._ends.maxlen:
            self.now = max(self.now, self._ends[0])
        self.idle += max(0.0, self.now - self.end)
        self.end = max(self.now, self.end) + device
        self.busy += device
        self._ends.append(self.end)
        return self.end

    def wait(self) -> None:
        """Make the thread wait for all that was launched."""
        self.waits += 1
        self.now = max(self.now, self.end)


class SimulatedEvent:
    """As `torch.cuda.Event`; the GPU's clock is 50 millionths slow, and begins at another time."""

    def __init__(self, gpu: SimulatedGPU) -> None:
        self.gpu = gpu
        self.at: float | None = None

    def record(self) -> None:
        self.at = self.gpu.launch(2e-6, 1e-6)

    def synchronize(self) -> None:
        self.gpu.waits += 1
        assert self.at is not None
        self.gpu.now = max(self.gpu.now, self.at)

    def elapsed_time(self, other: Any) -> float:
        assert self.at is not None
        assert other.at is not None
        if max(self.at, other.at) > self.gpu.now:
            raise RuntimeError("device not ready")
        return (other.at - self.at) * 1000 * (1 - 50e-6)
