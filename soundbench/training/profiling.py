"""Where the time of training steps goes: the phases of every step; with `--profile`, layers and operations of a few.

The phases cost a few readings of the clock for each step. On a GPU the readings are events in its stream, which are
read together with the losses, so that nothing waits for them. "Waiting for data" is then the time for which the GPU was
idle because of it.

A GPU may also be idle because Python launches its work more slowly than the GPU does it. Events alone cannot show that:
they say how long a phase took, not what it waited for. So each is compared with the time at which Python recorded it.
If the GPU comes to the end of a phase when Python does, it has done all that was launched, and Python sets the pace; if
it comes later, it had work enough. How long it is idle at Python's pace, up to the whole phase, only `--profile` knows,
from the beginning and the end of each kernel. Other runs do without: recording kernels slows steps down, and with older
CUDA all that follow (https://github.com/pytorch/pytorch/issues/144455). None of this has been run on a GPU yet.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import pairwise
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

# The share of a step from which advice is given: for waiting for data, for other phases, and for Python's pace.
WAITING, LARGE, PACED = 0.1, 0.25, 0.5
# Fewer steps say nothing about waiting: the first ones wait for the disk, for workers to start, and for libraries.
ENOUGH = 50
# A GPU waits for Python if it comes to the end of a phase later by no more than this share of the phase, such as the
# time of its last kernel, or than this many seconds, to which the clocks of GPU and host can be compared.
_LATER, _CLOCKS = 0.05, 50e-6


class StepTimes:
    """Seconds of each phase of the steps so far; on a GPU, also of those at Python's pace.

    Python sets the pace of a phase if the GPU comes to its end hardly later than Python, which has then launched all of
    its work. It is an estimate: a phase in which the GPU falls behind is at its own pace, though it may have waited at
    the beginning. Waiting for other processes is at the GPU's pace. As on a CPU, the time between steps does not count.

    Args:
        device: the device that trains.

    Attributes:
        seconds: of each phase.
        paced: seconds of phases, other than waiting for data, in which the GPU kept up with Python.
        steps: how many there were.
        compiled: whether steps are compiled, for advice.
        gpu: whether the device is one whose time is measured by events.
    """

    def __init__(self, device: torch.device) -> None:
        self.seconds = dict.fromkeys(PHASES, 0.0)
        self.paced = 0.0
        self.steps = 0
        self.compiled = False
        self.gpu = device.type == "cuda"
        self._last = 0.0
        self._pending: list[tuple[str, float, Any]] = []
        self._profiled: tuple[float, int, float, float] | None = None

    def start(self) -> None:
        """A step begins; the time since the step before does not count."""
        self.steps += 1
        self.skip()

    def skip(self) -> None:
        """The time since the last mark does not count."""
        if self.gpu:
            self._record("")
        else:
            self._last = time.perf_counter()

    def mark(self, phase: str) -> None:
        """A phase of a step ends."""
        if self.gpu:
            self._record(phase)
            return
        now = time.perf_counter()
        self.seconds[phase] += now - self._last
        self._last = now

    def _record(self, phase: str) -> None:
        now = time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        event.record()
        self._pending.append((phase, now, event))

    def collect(self) -> None:
        """Read what was recorded; the device must have finished the steps, and nothing is waited for."""
        if not self._pending:
            return
        # An idle device comes to an event when it is recorded, which makes its clock comparable with the host's.
        last = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        last.record()
        last.synchronize()
        reached = time.perf_counter()
        events = [event for _, _, event in self._pending] + [last]
        spans = [before.elapsed_time(after) / 1000 for before, after in pairwise(events)]
        reached -= spans.pop()
        for (phase, launched, _), span in zip(self._pending[:0:-1], reversed(spans), strict=True):
            if phase:
                self.seconds[phase] += span
                if phase != "data" and reached - launched <= max(_LATER * span, _CLOCKS):
                    self.paced += span
            reached -= span
        self._pending.clear()

    def profiled(self, busy: float) -> None:
        """How long a GPU is busy in a step, in seconds, is known; some of the steps so far were slower for it."""
        self._profiled = (busy, self.steps, self._whole, self.seconds["data"])

    @property
    def _whole(self) -> float:
        return sum(self.seconds.values())

    @property
    def shares(self) -> dict[str, float]:
        """The share of each phase in all time."""
        whole = self._whole
        return {phase: seconds / whole if whole else 0.0 for phase, seconds in self.seconds.items()}

    @property
    def pace(self) -> float:
        """The share of phases in which the GPU kept up with Python; 0 on a CPU."""
        return self.paced / self._whole if self._whole else 0.0

    @property
    def idle(self) -> float | None:
        """The share of a step in which the GPU was idle though it had data; None if no step since was profiled."""
        if self._profiled is None or self.steps == self._profiled[1]:
            return None
        busy, steps, whole, data = self._profiled
        whole, data = self._whole - whole, self.seconds["data"] - data
        return max(0.0, whole - data - busy * (self.steps - steps)) / whole if whole else None

    def line(self) -> str:
        """A line for the log: `time of a step: 1% waiting for data, ...`."""
        named = ", ".join(f"{share:.0%} {PHASES[phase]}" for phase, share in self.shares.items())
        whole = 1000 * self._whole / max(self.steps, 1)
        line = f"time of a step: {named}; {whole:.4g} ms in all, mean of {self.steps}"
        if self.gpu:
            line += f"; {self.pace:.0%} of it at the pace of Python, which launches the GPU's work"
        return line if self.idle is None else f"{line}; the GPU idle in {self.idle:.0%}, beside waiting for data"


def advice(times: StepTimes, workers: int, threads: int) -> list[str]:
    """What would make steps faster.

    A worker hides the waiting for data, and on a CPU takes one of the cores that train: with two cores it doubles the
    rest of a step, so that less than half of waiting is not worth it.

    Args:
        times: those of enough steps; of few, only the shares of phases are looked at.
        workers: `train.num_workers`.
        threads: CPU threads of training.
    """
    shares, enough, gpu = times.shares, times.steps >= ENOUGH, times.gpu
    found = []
    if enough and shares["data"] >= (WAITING if gpu else max(WAITING, 1 / threads)):
        remedy = (
            "raise train.num_workers, or put the cache on a faster disk"
            if workers
            else "set train.num_workers to 1 or 2"
        )
        found.append(f"steps wait for data ({shares['data']:.0%}): {remedy}")
    if enough and (times.pace >= PACED if times.idle is None else times.idle >= LARGE):
        remedy = "raise train.batch_size" + ("" if times.compiled else ", or set train.compile to 'on'")
        found.append(f"the GPU waits for Python to launch its work: {remedy}")
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
            self.times.collect()
        self.profiler.stop()
        for hook in self.hooks:
            hook.remove()
        busy = _busy(self.profiler.events()) / (self.last - self.first + 1)  # type: ignore[no-untyped-call]
        files.write_text(self.path, "\n".join(self._page(busy)) + "\n")
        if busy:
            self.times.profiled(busy)
        self.say(f"profile: {self.path}")

    def _page(self, busy: float) -> Iterator[str]:
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
        if self.cuda:
            yield ""
            yield f"The GPU was busy for {1000 * busy:.4g} ms of a step." if busy else "No kernel was recorded."
            yield "Profiling made Python slower: what a step takes without it is in the last line of the log."
            return
        yield from ("", self.times.line(), "")
        helps = advice(self.times, self.workers, torch.get_num_threads())
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


def _busy(events: Iterable[Any]) -> float:
    """Seconds in which a GPU did anything but copy from the host; its streams may do so at the same time."""
    busy = until = 0.0
    spans = [
        (event.time_range.start, event.time_range.end)
        for event in events
        if event.device_type.name == "CUDA"
        and not event.is_user_annotation  # such as a layer, from its first kernel to its last
        and not event.name.startswith("Memcpy HtoD")
    ]
    for start, end in sorted(spans):
        busy += max(0.0, end - max(start, until))
        until = max(until, end)
    return busy / 1e6


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
