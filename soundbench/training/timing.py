"""Where the time of training steps goes: a few readings of a clock a step, which cost microseconds.

On a GPU the readings are events in its own stream, read when the losses are: nothing waits for them. What is then
called waiting for data is the time in which the GPU had nothing to do because of it.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import torch

__all__ = ["PHASES", "StepTimes", "advice"]

PHASES = {
    "data": "waiting for data",
    "move": "moving it",
    "augment": "augmentations",
    "forward": "forward",
    "backward": "backward",
    "update": "optimizer",
}
"""The phases of a step, in their order, and what they are called."""

# From which share on a phase of a step is worth a word.
WAITING, LARGE = 0.05, 0.25


class StepTimes:
    """Seconds of each phase of the steps so far.

    Args:
        device: that computes.
    """

    def __init__(self, device: torch.device) -> None:
        self.seconds = dict.fromkeys(PHASES, 0.0)
        self.steps = 0
        self._events = device.type == "cuda"
        self._last = 0.0
        self._pending: list[tuple[str, Any]] = []

    def start(self) -> None:
        """A step begins: what was between it and the one before does not count."""
        self.steps += 1
        if self._events:
            self._record("")
        else:
            self._last = time.perf_counter()

    def mark(self, phase: str) -> None:
        """A phase of a step ends."""
        if self._events:
            self._record(phase)
            return
        now = time.perf_counter()
        self.seconds[phase] += now - self._last
        self._last = now

    def _record(self, phase: str) -> None:
        event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        event.record()
        self._pending.append((phase, event))

    def collect(self) -> None:
        """Read what was recorded; the device has been waited for."""
        for (_, before), (phase, after) in zip(self._pending, self._pending[1:], strict=False):
            if phase:
                self.seconds[phase] += before.elapsed_time(after) / 1000
        self._pending.clear()

    @property
    def shares(self) -> dict[str, float]:
        """The share of each phase."""
        whole = sum(self.seconds.values())
        return {phase: seconds / whole if whole else 0.0 for phase, seconds in self.seconds.items()}

    def line(self) -> str:
        """In one line: `time of a step: 1% waiting for data, ...`."""
        named = ", ".join(f"{share:.0%} {PHASES[phase]}" for phase, share in self.shares.items())
        whole = 1000 * sum(self.seconds.values()) / max(self.steps, 1)
        return f"time of a step: {named}; {whole:.4g} ms in all, mean of {self.steps}"


def advice(shares: Mapping[str, float], workers: int) -> list[str]:
    """What would make steps faster, as far as the shares show.

    Args:
        shares: of each phase of a step.
        workers: `train.workers`.
    """
    found = []
    if shares["data"] >= WAITING:
        remedy = "more train.workers, or a faster disk under the cache" if workers else "train.workers = 1 or 2"
        found.append(f"steps wait for data ({shares['data']:.0%}): {remedy}")
    if shares["augment"] >= LARGE:
        found.append(f"augmentations take {shares['augment']:.0%}: fewer of them, or with a smaller chance")
    if shares["update"] >= LARGE:
        found.append(f"the optimizer takes {shares['update']:.0%}: a larger train.batch")
    return found
