"""Where the time of training steps goes: the phases of every step; with `--profile`, layers and operations of a few.

The phases cost a few readings of the clock for each step. On a GPU the readings are events in its stream, which are
read together with the losses, so that nothing waits for them. "Waiting for data" is then the time for which the GPU was
idle because of it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Engine, Events
from torch import nn
from torch.profiler import ProfilerActivity, profile, record_function

from soundbench import files

__all__ = ["PHASES", "Profile", "StepTimes", "advice"]

# Phases of steps ------------------------------------------------------------------------------------------------------

PHASES = {
    "data": "waiting for data",
    "move": "moving it",
    "augment": "augmentations",
    "forward": "forward",
    "backward": "backward",
    "update": "optimizer",
}
"""The phases of a step, in order, with the names that are shown."""

# The share of a step from which advice is given: for waiting for data, and for other phases.
WAITING, LARGE = 0.1, 0.25
# Fewer steps say nothing about waiting for data: the first ones wait for the disk, and for workers to start.
ENOUGH = 50


class StepTimes:
    """Seconds of each phase of the steps so far.

    Args:
        device: the device that trains.
    """

    def __init__(self, device: torch.device) -> None:
        self.seconds = dict.fromkeys(PHASES, 0.0)
        self.steps = 0
        self._events = device.type == "cuda"
        self._last = 0.0
        self._pending: list[tuple[str, Any]] = []

    def start(self) -> None:
        """A step begins; the time since the step before does not count."""
        self.steps += 1
        self.skip()

    def skip(self) -> None:
        """The time since the last mark does not count."""
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
        """Read what was recorded; the device must have finished the steps."""
        for (_, before), (phase, after) in zip(self._pending, self._pending[1:], strict=False):
            if phase:
                self.seconds[phase] += before.elapsed_time(after) / 1000
        self._pending.clear()

    def waiting(self, threads: int) -> float:
        """The share of waiting for data from which another worker saves time; above 1 if that is not known.

        A worker hides the waiting, and on a CPU takes one of the cores that train: with two cores it doubles the rest
        of a step, so that less than half of waiting is not worth it.

        Args:
            threads: CPU threads of training.
        """
        if self.steps < ENOUGH:
            return 2.0
        return WAITING if self._events else max(WAITING, 1 / threads)

    @property
    def shares(self) -> dict[str, float]:
        """The share of each phase in all time."""
        whole = sum(self.seconds.values())
        return {phase: seconds / whole if whole else 0.0 for phase, seconds in self.seconds.items()}

    def line(self) -> str:
        """A line for the log: `time of a step: 1% waiting for data, ...`."""
        named = ", ".join(f"{share:.0%} {PHASES[phase]}" for phase, share in self.shares.items())
        whole = 1000 * sum(self.seconds.values()) / max(self.steps, 1)
        return f"time of a step: {named}; {whole:.4g} ms in all, mean of {self.steps}"


def advice(shares: Mapping[str, float], workers: int, waiting: float = WAITING) -> list[str]:
    """What would make steps faster, by the shares of their phases.

    Args:
        shares: the share of each phase of a step.
        workers: `train.num_workers`.
        waiting: the share of waiting for data from which a worker helps; see `StepTimes.waiting`.
    """
    found = []
    if shares["data"] >= waiting:
        remedy = (
            "raise train.num_workers, or put the cache on a faster disk"
            if workers
            else "set train.num_workers to 1 or 2"
        )
        found.append(f"steps wait for data ({shares['data']:.0%}): {remedy}")
    if shares["augment"] >= LARGE:
        found.append(f"augmentations take {shares['augment']:.0%}: use fewer, or apply them less often")
    if shares["update"] >= LARGE:
        found.append(f"the optimizer takes {shares['update']:.0%}: raise train.batch_size")
    return found


# Layers and operations of a few steps ---------------------------------------------------------------------------------

# Steps that are skipped, since the first ones are slower, and steps that are profiled.
WARM, STEPS = 3, 5
# The most rows that a table has.
SHOWN = 20

_LAYER = "layer: "


class Profile:
    """Profiles a few steps of a trainer and writes a page about them.

    Args:
        network: the network, whose layers are listed.
        device: the device that it is on.
        times: the times of the trainer's steps.
        workers: `train.num_workers`, for advice.
        path: the file to write.
        say: receives a line that says where the file is.
    """

    def __init__(
        self,
        network: nn.Module,
        device: torch.device,
        times: StepTimes,
        workers: int,
        path: Path,
        say: Callable[[str], None],
    ) -> None:
        self.network, self.cuda, self.times, self.workers = network, device.type == "cuda", times, workers
        self.path, self.say = path, say
        self.types = {name: type(module).__name__ for name, module in network.named_modules()}
        self.first = self.last = 0
        self.hooks: list[Any] = []
        os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # or torch prints a line at each start and stop
        activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if self.cuda else [])]
        self.profiler = profile(activities=activities)

    def attach(self, engine: Engine) -> None:
        """Profile a trainer that is about to run."""
        engine.add_event_handler(Events.STARTED, self._choose_steps)
        engine.add_event_handler(Events.ITERATION_STARTED, self._begin)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._end)

    def _choose_steps(self, engine: Engine) -> None:
        """Choose steps after the first few, if there are enough, and in one epoch: between epochs is validation."""
        done, epoch = engine.state.iteration, engine.state.epoch_length
        whole = epoch * engine.state.max_epochs
        self.first = done + 1 + max(0, min(WARM, whole - done - STEPS))
        end = -(-self.first // epoch) * epoch
        if end - self.first + 1 < min(STEPS, epoch) and end < whole:
            self.first, end = end + 1, end + epoch
        self.last = min(end, self.first + STEPS - 1)

    def _begin(self, engine: Engine) -> None:
        if engine.state.iteration == self.first:
            self.hooks = list(_marked(self.network))
            self.profiler.start()

    def _end(self, engine: Engine) -> None:
        if engine.state.iteration != self.last:
            return
        if self.cuda:
            torch.cuda.synchronize()
        self.profiler.stop()
        for hook in self.hooks:
            hook.remove()
        files.write_text(self.path, "\n".join(self._page()) + "\n")
        self.say(f"profile: {self.path}")

    def _page(self) -> Iterator[str]:
        averages = self.profiler.key_averages()
        steps = self.last - self.first + 1
        taken = {
            event.key.removeprefix(_LAYER): (self._total(event) / steps, event.count / steps)
            for event in averages
            if event.key.startswith(_LAYER)
        }
        forward = sum(whole for name, (whole, _) in taken.items() if "." not in name) or 1.0
        yield f"Steps {self.first} to {self.last} of training on {'a GPU' if self.cuda else 'the CPU'}, profiled."
        yield "Profiling slows small operations down. Milliseconds and calls are per step."
        parts = [(name, *found) for name, found in taken.items() if "." not in name]
        yield from ("", "Forward, by part", *_ranked(("part", "calls", "ms", "of forward"), parts, forward))
        own = _without_parts(taken)
        kinds: dict[str, tuple[float, float]] = {}
        for name, (spent, calls) in own.items():
            before = kinds.get(self.types[name], (0.0, 0.0))
            kinds[self.types[name]] = (before[0] + spent, before[1] + calls)
        head = ("calls", "ms", "of forward")
        scope = "each without the layers inside it"
        rows = [(kind, *found) for kind, found in kinds.items()]
        yield from ("", f"Forward, by type of layer, {scope}", *_ranked(("type", *head), rows, forward))
        rows = [(f"{name} ({self.types[name]})", *found) for name, found in own.items()]
        yield from ("", f"Forward, by layer, {scope}", *_ranked(("layer", *head), rows, forward))
        yield from ("", "Forward, backward and optimizer, by operation", *self._operations(averages, steps))
        yield from ("", self.times.line(), "")
        helps = advice(self.times.shares, self.workers, self.times.waiting(torch.get_num_threads()))
        yield "To train faster: " + (
            "; ".join(helps) if helps else "use a faster network; nothing else takes much time."
        )

    def _operations(self, averages: Any, steps: int) -> Iterator[str]:
        own = [
            (event.key[:60], self._own(event) / steps, event.count / steps)
            for event in averages
            if not event.key.startswith(_LAYER)
        ]
        return _ranked(("operation", "calls", "ms", "of a step"), own, sum(spent for _, spent, _ in own) or 1.0)

    def _total(self, event: Any) -> float:
        """Microseconds of an event, including what is inside it."""
        return float(event.device_time_total if self.cuda else event.cpu_time_total)

    def _own(self, event: Any) -> float:
        """Microseconds of an event, without what is inside it."""
        return float(event.self_device_time_total if self.cuda else event.self_cpu_time_total)


def _marked(network: nn.Module) -> Iterator[Any]:
    """Name each layer of a network in the profile; gives the hooks that do so."""
    for name, module in network.named_modules():
        if name:
            yield from _mark(name, module)


def _mark(name: str, module: nn.Module) -> Iterator[Any]:
    running: list[Any] = []

    def before(_module: nn.Module, _given: Any) -> None:
        running.append(record_function(_LAYER + name))
        running[-1].__enter__()

    def after(_module: nn.Module, _given: Any, _result: Any) -> None:
        running.pop().__exit__(None, None, None)

    yield module.register_forward_pre_hook(before)
    yield module.register_forward_hook(after)


def _without_parts(taken: dict[str, tuple[float, float]]) -> dict[str, tuple[float, float]]:
    """The time of each layer, less that of the layers inside it."""
    own = dict(taken)
    for name, (spent, _) in taken.items():
        above = name.rpartition(".")[0]
        while above and above not in taken:
            above = above.rpartition(".")[0]
        if above:
            own[above] = (own[above][0] - spent, own[above][1])
    return own


def _ranked(head: Sequence[str], found: Sequence[tuple[str, float, float]], whole: float) -> Iterator[str]:
    """A table of the largest of (name, microseconds, calls), as columns of text."""
    ranked = sorted(found, key=lambda row: -row[1])[:SHOWN]
    rows = [(name, f"{calls:.0f}", f"{spent / 1000:.2f}", f"{spent / whole:.1%}") for name, spent, calls in ranked]
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    for row in (head, *rows):
        cells = (f"{cell:>{width}}" for cell, width in zip(row[1:], widths[1:], strict=True))
        yield "  ".join([f"{row[0]:<{widths[0]}}", *cells])
