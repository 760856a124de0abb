"""Classification of endless sound as it arrives: window by window, and events as they begin and end.

A stream of a file's blocks, of any sizes, is scored in the same windows as the file; memory does not grow with time.
What a stream lacks is the sound as a whole: its ends are not trimmed, and each window is rounded to 16 bits relative to
its own peak, as in long files. `stream_file` has the whole sound, and gives exactly what classifying the file gives.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

import attrs
import numpy as np
import soxr
from numpy.typing import NDArray

from soundbench.audio.capture import Ring, decibels
from soundbench.data.windowing.grid import Grid
from soundbench.data.windowing.packing import pack
from soundbench.data.windowing.quantizing import quantize
from soundbench.errors import CallError
from soundbench.inference.events import Event, EventFinder, EventRules
from soundbench.inference.predictions import Prediction, WindowPrediction
from soundbench.model import windows
from soundbench.model.windows import Window

if TYPE_CHECKING:
    from soundbench.model.scoring import Scorer

__all__ = ["EventBegun", "Figures", "Scoring", "Stream", "StreamedWindow", "named", "stream_file", "stream"]

Samples = NDArray[np.float32]

# A gate compares the loudest stretch of a window, of so many seconds.
STRETCH = 0.1
# Latency is taken over the last so many windows.
LATENCIES = 4096


class Scoring(Protocol):
    """What a stream needs from a classifier."""

    @property
    def scorer(self) -> Scorer:
        """The scorer of batches of windows."""

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes, in the order of the scores."""

    @property
    def rate(self) -> int:
        """The model's sample rate in Hz."""

    def grid_of(self, window: float | None, hop: float | None) -> Grid:
        """How sound is cut into windows of `window` seconds, `hop` seconds apart."""

    def event_rules(self) -> EventRules:
        """The default event rules."""

    def prediction(self, values: Samples, per: Literal["clip", "window"]) -> Prediction:
        """Scores and evidence `(K + 2,)` as the prediction of a window."""

    def event_scores(self, values: Samples) -> Samples:
        """Scores and evidence `(K + 2,)` as the scores `(K,)` that events are found in."""


@attrs.frozen(repr=False)
class StreamedWindow(WindowPrediction):
    """The prediction for one window of a stream.

    Attributes:
        level: the level of its loudest tenth of a second, in dB of full scale.
        latency: seconds from the arrival of its last sample to its scores.
    """

    level: float
    latency: float

    def to_dict(self) -> dict[str, Any]:
        """As plain data."""
        return super().to_dict() | {"level": round(self.level, 1), "latency": round(self.latency, 4)}


@attrs.frozen
class EventBegun:
    """The beginning of an event that is certain and goes on.

    Attributes:
        event: the event so far; it follows again, with its final end and score, when it is over.
    """

    event: Event


Item = StreamedWindow | EventBegun | Event


def named(item: Item) -> tuple[str, StreamedWindow | Event]:
    """What JSON calls an item, `window`, `begin` or `event`, and the window or event that it describes."""
    if isinstance(item, EventBegun):
        return "begin", item.event
    return ("window" if isinstance(item, StreamedWindow) else "event"), item


@attrs.frozen
class Figures:
    """The figures of a stream so far.

    Attributes:
        seconds: duration of the sound, including lost samples.
        windows: number of windows scored.
        gated: number of windows not scored because they were too quiet.
        events: number of events that have ended.
        dropped: number of samples lost before they could be processed.
        latency_p50: seconds from the arrival of a window's last sample to its scores, the median of the last windows.
        latency_p95: the 95th percentile of the same.
        core: processor time per wall-clock time; 1.0 is one core, fully used.
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
    """Scores sound as it arrives.

    Args:
        classifier: scores the windows.
        rate: sample rate in Hz of the sound; None for the model's.
        window: length of a window in seconds; None for the model's.
        hop: seconds between the starts of windows; None for `window`, or the model's hop if that is None too.
        gate: dB of full scale; a window whose loudest tenth of a second is quieter than this is not scored, and holds
            no event. None scores all.
        rules: how scores become events; None for the classifier's.
        keep: seconds of past sound that `sound` can return.
        batch: the most windows scored together, when several are waiting.
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
            raise CallError(f"rate must be a sample rate in Hz, above 0, is {rate}")
        if gate is not None and math.isnan(gate):
            raise CallError("gate must be dB of full scale, such as -50, is nan")
        self._gate, self._batch = gate, batch
        self._finder = EventFinder(classifier.classes, rules or classifier.event_rules())
        self._ring = Ring(max(self.grid.window, round(keep * self._target)))
        self._begin_piece()
        self._given = 0  # samples that arrived or were lost, at their own rate
        self._pending: list[tuple[Window, float]] = []
        self._begun: dict[str, float] = {}  # the start of each class's last event that a `EventBegun` was yielded for
        self._latencies: deque[float] = deque(maxlen=LATENCIES)
        self._windows = self._gated = self._events = self._dropped = 0
        self._end = 0.0
        self._began = time.perf_counter(), time.process_time()

    def _begin_piece(self) -> None:
        """Begin a new grid of windows: at the first sample, and after each hole."""
        self._piece = self._ring.total
        self._next = 0  # the start of the next window within the piece
        self._last = -1  # and the start of the last one
        self._resampler: Any = None
        if self._rate != self._target:
            self._resampler = soxr.ResampleStream(self._rate, self._target, 1, dtype="float32", quality="HQ")

    def feed(self, samples: Samples, at: float | None = None, lost: int = 0) -> Iterator[Item]:
        """Add samples; yields the windows that are complete with them, and their events.

        Args:
            samples: `(S,)`, with any S.
            at: when the last of them arrived, by `time.perf_counter`; None for now.
            lost: number of samples lost before them. No window spans the hole; a new grid begins after it.
        """
        self.push(samples, at, lost)
        yield from self.score()

    def push(self, samples: Samples, at: float | None = None, lost: int = 0) -> None:
        """Add samples as `feed` does, without scoring yet."""
        if lost:
            self._given += lost
            self._dropped += lost
            hole = round(self._given * self._target / self._rate) - self._ring.total
            self._ring.skip(max(hole, 0))
            self._begin_piece()
        self._given += len(samples)
        mono = np.asarray(samples, np.float32)
        if self._resampler:
            mono = self._resampler.resample_chunk(mono)
        self._cut(mono, time.perf_counter() if at is None else at)

    def finish(self) -> Iterator[Item]:
        """What remains when no sample follows: a last window that ends at the end, and the events that still go on."""
        now = time.perf_counter()
        if self._resampler:
            self._cut(self._resampler.resample_chunk(np.empty(0, np.float32), last=True), now)
        length = self._ring.total - self._piece
        start = max(length - self.grid.window, 0)
        if start > self._last and length:
            self._add(self._piece + start, self._ring.span(self._piece + start, self._ring.total), now)
        yield from self.score()
        for event in self._finder.finish():
            yield from self._over(event)

    def take(self, window: Window) -> None:
        """Add a window that was cut elsewhere, without scoring yet."""
        self._pending.append((window, time.perf_counter()))

    def score(self) -> Iterator[Item]:
        """Score the complete windows; yields them and their events."""
        while self._pending:
            now, self._pending = self._pending[: self._batch], self._pending[self._batch :]
            levels = [self._level(window) for window, _ in now]
            loud = [number for number, level in enumerate(levels) if self._gate is None or level >= self._gate]
            rows = iter(self._scores([now[number][0] for number in loud]))
            done = time.perf_counter()
            for number, (window, at) in enumerate(now):
                values = next(rows) if number in loud else None
                yield from self._items(window, values, levels[number], done - at)

    def sound(self, start: float, end: float) -> Samples:
        """The sound between two times in seconds, as far as it is still kept, at the model's sample rate."""
        return self._ring.span(round(start * self._target), round(end * self._target))

    @property
    def seconds(self) -> float:
        """Seconds of sound so far, including lost samples."""
        return max(self._given / self._rate, self._end)

    @property
    def figures(self) -> Figures:
        """The figures so far."""
        wall, used = time.perf_counter() - self._began[0], time.process_time() - self._began[1]
        p50, p95 = np.percentile(self._latencies, [50, 95]).tolist() if self._latencies else (0.0, 0.0)
        core = used / max(wall, 1e-9)
        return Figures(self.seconds, self._windows, self._gated, self._events, self._dropped, p50, p95, core)

    def _cut(self, samples: Samples, at: float) -> None:
        """Write samples to the ring, and take each window from it as soon as it is complete."""
        done = 0
        while True:
            needed = self._next + self.grid.window - (self._ring.total - self._piece)
            if needed > len(samples) - done:
                break
            self._ring.write(samples[done : done + needed])
            done += needed
            start = self._piece + self._next
            self._add(start, self._ring.span(start, start + self.grid.window), at)
            self._last, self._next = self._next, self._next + self.grid.hop
        self._ring.write(samples[done:])

    def _add(self, start: int, samples: Samples, at: float) -> None:
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
        return self.classifier.scorer.rated(pack(rows, scales, list(range(len(rows))), len(self.classifier.classes)))

    def _items(self, window: Window, values: Samples | None, level: float, latency: float) -> Iterator[Item]:
        """The items of a window; `values` is None for one that was too quiet."""
        start, self._end = window.start / self._target, (window.start + len(window.samples)) / self._target
        if values is None:
            self._gated += 1
            scores = np.zeros(len(self.classifier.classes), np.float32)
        else:
            self._windows += 1
            self._latencies.append(latency)
            scores = self.classifier.event_scores(values)
            found = attrs.asdict(self.classifier.prediction(values, "window"), recurse=False)
            yield StreamedWindow(**found, start=start, end=self._end, level=level, latency=latency)
        for event in self._finder.feed(scores[None], [start], [self._end]):
            yield from self._over(event)
        for event in self._finder.under_way():
            if self._begun.get(event.label) != event.start:
                self._begun[event.label] = event.start
                yield EventBegun(event)

    def _over(self, event: Event) -> Iterator[Item]:
        """An event that is over, after its `EventBegun` if it was too short for one of its own."""
        if self._begun.get(event.label) != event.start:
            self._begun[event.label] = event.start
            yield EventBegun(event)
        self._events += 1
        yield event


def stream_file(stream: Stream, path: Path) -> Iterator[Item]:
    """Stream a file in exactly the windows that classifying it uses; call `finish` afterwards.

    Raises:
        SoundError: the file cannot be read; possibly raised after some windows.
    """
    for number, window in enumerate(windows.cut_windows(path, None, stream.classifier.rate, stream.grid), 1):
        stream.take(window)
        if number % 8 == 0:
            yield from stream.score()
    yield from stream.score()


def stream(classifier: Scoring, blocks: Iterable[Samples], rate: int | None = None, **options: Any) -> Iterator[Item]:
    """Classify blocks of samples `(S,)` as they arrive.

    Args:
        classifier: scores the windows.
        blocks: blocks of samples, of any sizes.
        rate: their sample rate in Hz; None for the model's.
        options: the options of `Stream`.
    """
    started = Stream(classifier, rate, **options)
    for block in blocks:
        yield from started.feed(block)
    yield from started.finish()
