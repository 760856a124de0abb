"""Sound that goes on, judged as it comes: window by window on the judging grid, events as they begin and end.

A stream of a file's blocks, however they are cut, is judged by the windows that the file is judged by; memory does not
grow with time. What a stream cannot know is the sound as a whole: its ends are not trimmed, and each window is rounded
to 16 bits by its own peak, as those of long files are. `hear_file` has both, and gives what judging the file gives.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Protocol

import attrs
import numpy as np
import soxr
from numpy.typing import NDArray

from soundbench.audio.capture import Ring
from soundbench.audio.levels import decibels
from soundbench.data.batches import Grid, pack
from soundbench.data.store import quantize
from soundbench.errors import CallError
from soundbench.inference.events import Event, EventFinder, EventRules
from soundbench.inference.predictions import Prediction, WindowPrediction
from soundbench.model import windows
from soundbench.model.scoring import Scorer
from soundbench.model.windows import Window

__all__ = ["Begun", "Figures", "Scoring", "Stream", "StreamedWindow", "hear_file", "stream"]

Samples = NDArray[np.float32]

# Seconds of a window's stretches; the loudest of them is what a gate looks at.
STRETCH = 0.1
# How many windows' latencies are kept.
LATENCIES = 4096


class Scoring(Protocol):
    """What a stream needs of a classifier."""

    @property
    def scorer(self) -> Scorer:
        """Scores batches of windows."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Their names, in the order of the scores."""

    @property
    def rate(self) -> int:
        """Samples a second that the network takes."""

    def grid_of(self, window: float | None, hop: float | None) -> Grid:
        """How sound is cut with windows of so many seconds, and so many between them."""

    def event_rules(self) -> EventRules:
        """What makes an event, unless a caller says otherwise."""

    def prediction(self, scores: Samples) -> Prediction:
        """Scores `(K,)` as a prediction."""


@attrs.frozen
class StreamedWindow(WindowPrediction):
    """The judgement of one window of a stream.

    Attributes:
        level: of its loudest tenth of a second, in dB of full scale.
        latency: seconds from the arrival of its last sample to its scores.
    """

    level: float
    latency: float

    def to_dict(self) -> dict[str, Any]:
        """As plain data."""
        return super().to_dict() | {"level": round(self.level, 1), "latency": round(self.latency, 4)}


@attrs.frozen
class Begun:
    """An event that has begun, is certain, and goes on.

    Attributes:
        event: as it is so far; the same with its true end follows when it is over.
    """

    event: Event


Item = StreamedWindow | Begun | Event


@attrs.frozen
class Figures:
    """How a stream does.

    Attributes:
        seconds: of sound, lost samples among them.
        windows: that were judged.
        gated: that were too quiet to be.
        events: that are over.
        dropped: samples that were lost before they were heard.
        latency_p50: seconds from the arrival of a window's last sample to its scores: the median of the last windows.
        latency_p95: 95 in 100 of them are below.
        core: processor time over time; 1.0 is one core, all the time.
    """

    seconds: float
    windows: int
    gated: int
    events: int
    dropped: int
    latency_p50: float
    latency_p95: float
    core: float


class Stream:
    """Judges sound as it comes.

    Args:
        classifier: judges.
        rate: samples a second of what comes; None for the classifier's own.
        window: seconds of a window; None for the model's own.
        hop: seconds between the beginnings of windows; None for the window, or the model's own where that is too.
        gate: dB of full scale; a window whose loudest tenth of a second is below is not judged, and nothing sounds in
            it. None judges all.
        rules: what makes an event; None for the classifier's.
        keep: seconds of sound that `sound` can give again.
        batch: windows judged together at most, where several are there.
    """

    def __init__(
        self,
        classifier: Scoring,
        rate: int | None = None,
        *,
        window: float | None = None,
        hop: float | None = None,
        gate: float | None = None,
        rules: EventRules | None = None,
        keep: float = 0.0,
        batch: int = 32,
    ) -> None:
        self.classifier, self.grid = classifier, classifier.grid_of(window, hop)
        self._rate, self._target = rate or classifier.rate, classifier.rate
        if not self._rate > 0:
            raise CallError(f"rate: {rate} is no rate; it is samples a second")
        if gate is not None and math.isnan(gate):
            raise CallError("gate must be dB of full scale, such as -50, is nan")
        self._gate, self._batch = gate, batch
        self._finder = EventFinder(classifier.classes, rules or classifier.event_rules())
        self._ring = Ring(max(self.grid.window, round(keep * self._target)))
        self._begin_piece()
        self._given = 0  # samples that came, lost ones among them, at their rate
        self._pending: list[tuple[Window, float]] = []
        self._told: dict[str, float] = {}  # of each class the start of the event whose begin was told last
        self._latencies: deque[float] = deque(maxlen=LATENCIES)
        self._windows = self._gated = self._events = self._dropped = 0
        self._end = 0.0
        self._began = time.perf_counter(), time.process_time()

    def _begin_piece(self) -> None:
        """The grid begins anew: at the first sample, and behind each hole."""
        self._piece = self._ring.total
        self._next = 0  # where in the piece the next window begins
        self._last = -1  # and where the last one did
        self._resampler: Any = None
        if self._rate != self._target:
            self._resampler = soxr.ResampleStream(self._rate, self._target, 1, dtype="float32", quality="HQ")

    def feed(self, samples: Samples, at: float | None = None, lost: int = 0) -> Iterator[Item]:
        """What samples `(S,)` make known: the windows that are complete with them, and events.

        Args:
            samples: any number of them.
            at: when the last of them was there, by `time.perf_counter`; None for now.
            lost: samples that were lost before them. No window spans the hole; behind it the grid begins anew.
        """
        self.hear(samples, at, lost)
        yield from self.judge()

    def hear(self, samples: Samples, at: float | None = None, lost: int = 0) -> None:
        """Take samples, as `feed` does, and judge nothing yet."""
        if lost:
            self._given += lost
            self._dropped += lost
            hole = round(self._given * self._target / self._rate) - self._ring.total
            self._ring.skip(max(hole, 0))
            self._begin_piece()
        self._given += len(samples)
        heard = np.asarray(samples, np.float32)
        if self._resampler:
            heard = self._resampler.resample_chunk(heard)
        self._cut(heard, time.perf_counter() if at is None else at)

    def finish(self) -> Iterator[Item]:
        """What is left when no sample follows: the window that ends at the end, and the events that go on."""
        now = time.perf_counter()
        if self._resampler:
            self._cut(self._resampler.resample_chunk(np.empty(0, np.float32), last=True), now)
        length = self._ring.total - self._piece
        start = max(length - self.grid.window, 0)
        if start > self._last and length:
            self._wait_for(self._piece + start, self._ring.span(self._piece + start, self._ring.total), now)
        yield from self.judge()
        for event in self._finder.finish():
            yield from self._over(event)

    def take(self, window: Window) -> None:
        """Take a window that was cut elsewhere, and judge nothing yet."""
        self._pending.append((window, time.perf_counter()))

    def judge(self) -> Iterator[Item]:
        """Judge the windows that are complete."""
        while self._pending:
            now, self._pending = self._pending[: self._batch], self._pending[self._batch :]
            levels = [self._level(window) for window, _ in now]
            loud = [number for number, level in enumerate(levels) if self._gate is None or level >= self._gate]
            rows = iter(self._scores([now[number][0] for number in loud]))
            done = time.perf_counter()
            for number, (window, at) in enumerate(now):
                scores = next(rows) if number in loud else None
                yield from self._known(window, scores, levels[number], done - at)

    def sound(self, start: float, end: float) -> Samples:
        """What is still kept of the sound between two times, at the classifier's rate."""
        return self._ring.span(round(start * self._target), round(end * self._target))

    @property
    def seconds(self) -> float:
        """Of sound, lost samples among them."""
        return max(self._given / self._rate, self._end)

    @property
    def figures(self) -> Figures:
        """How it does."""
        wall, used = time.perf_counter() - self._began[0], time.process_time() - self._began[1]
        p50, p95 = np.percentile(self._latencies, [50, 95]).tolist() if self._latencies else (0.0, 0.0)
        core = used / max(wall, 1e-9)
        return Figures(self.seconds, self._windows, self._gated, self._events, self._dropped, p50, p95, core)

    def _cut(self, heard: Samples, at: float) -> None:
        """Write samples to the ring, stopping where a window is complete to take it."""
        done = 0
        while True:
            needed = self._next + self.grid.window - (self._ring.total - self._piece)
            if needed > len(heard) - done:
                break
            self._ring.write(heard[done : done + needed])
            done += needed
            start = self._piece + self._next
            self._wait_for(start, self._ring.span(start, start + self.grid.window), at)
            self._last, self._next = self._next, self._next + self.grid.hop
        self._ring.write(heard[done:])

    def _wait_for(self, start: int, samples: Samples, at: float) -> None:
        self._pending.append((Window(start, *quantize(samples)), at))

    def _level(self, window: Window) -> float:
        size = max(round(STRETCH * self._target), 1)
        power = np.square(window.samples, dtype=np.float64)
        whole = len(power) // size * size
        means = [*power[:whole].reshape(-1, size).mean(axis=1), *([power[whole:].mean()] if whole < len(power) else [])]
        return decibels(float(max(means)) * window.scale**2)

    def _scores(self, windows: list[Window]) -> Iterable[Samples]:
        if not windows:
            return []
        rows, scales = [window.samples for window in windows], [window.scale for window in windows]
        return self.classifier.scorer.scores(pack(rows, scales, list(range(len(rows))), len(self.classifier.classes)))

    def _known(self, window: Window, scores: Samples | None, level: float, latency: float) -> Iterator[Item]:
        """What a window makes known; `scores` are None of one that was too quiet."""
        start, self._end = window.start / self._target, (window.start + len(window.samples)) / self._target
        if scores is None:
            self._gated += 1
            scores = np.zeros(len(self.classifier.classes), np.float32)
        else:
            self._windows += 1
            self._latencies.append(latency)
            told = self.classifier.prediction(scores)
            yield StreamedWindow(told.label, told.score, told.scores, told.labels, start, self._end, level, latency)
        for event in self._finder.feed(scores[None], [start], [self._end]):
            yield from self._over(event)
        for event in self._finder.under_way():
            if self._told.get(event.label) != event.start:
                self._told[event.label] = event.start
                yield Begun(event)

    def _over(self, event: Event) -> Iterator[Item]:
        """An event that is over; its begin is told before it, where it was too short to be told alone."""
        if self._told.get(event.label) != event.start:
            self._told[event.label] = event.start
            yield Begun(event)
        self._events += 1
        yield event


def hear_file(stream: Stream, path: Path) -> Iterator[Item]:
    """A file, by the very windows that judging it gives; `finish` has to follow.

    Raises:
        SoundError: it cannot be read, maybe after some windows.
    """
    for number, window in enumerate(windows.cut_windows(path, None, stream.classifier.rate, stream.grid), 1):
        stream.take(window)
        if number % 8 == 0:
            yield from stream.judge()
    yield from stream.judge()


def stream(classifier: Scoring, blocks: Iterable[Samples], rate: int | None = None, **options: Any) -> Iterator[Item]:
    """Judge blocks of samples `(S,)` as they come.

    Args:
        classifier: judges.
        blocks: of any size.
        rate: samples a second; None for the classifier's own.
        options: those of `Stream`.
    """
    judging = Stream(classifier, rate, **options)
    for block in blocks:
        yield from judging.feed(block)
    yield from judging.finish()
