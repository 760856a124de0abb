"""Scores of windows become events: what sounded, from when to when.

A window speaks for the time around its middle: two that follow each other share the time where they overlap at the
midpoint of their middles, the first speaks from its beginning on and the last until its end. Windows that do not touch
leave a hole, in which nothing sounds.

An event is a stretch in which a class's score stays at or above its off threshold and somewhere reaches its on
threshold: it begins where the score rose, not where it was sure.

Files and streams take the same way: `find_events` feeds an `EventFinder` everything at once, a stream window by window,
and how windows are cut into blocks changes nothing. What is kept in memory does not grow with time.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs
import numpy as np
from numpy.typing import ArrayLike, NDArray

from soundbench.errors import CallError

__all__ = ["Event", "EventFinder", "EventRules", "find_events"]

PerClass = float | tuple[float, ...]

# Below its on threshold by this factor an event still goes on, unless an off threshold is given.
RELEASE = 0.8
# Seconds by which windows that touch may miss each other, by rounding.
TOUCH = 1e-6


@attrs.frozen
class Event:
    """Something that sounded.

    Attributes:
        label: its class.
        start: seconds.
        end: seconds.
        score: the highest (smoothed) score of its windows.
    """

    label: str
    start: float
    end: float
    score: float

    def to_dict(self) -> dict[str, Any]:
        """As plain data."""
        return attrs.asdict(self)


def _as_tuple(value: Any) -> Any:
    return tuple(float(one) for one in value) if isinstance(value, Sequence | np.ndarray) else value


@attrs.frozen
class EventRules:
    """What makes an event.

    Attributes:
        on: the score that one reaches; one for all classes, or one each.
        off: the score below which it ends, and from which on it began; None for 0.8 of `on`.
        smooth: how many windows a score is averaged over, itself in the middle; odd. An event is known later by half.
        shortest: seconds; shorter ones are dropped, after joining.
        gap: seconds; two of one class that are no further apart are one.
        refractory: seconds after an event's end in which no other of its class begins; one for all, or one each.
    """

    on: PerClass = attrs.field(default=0.5, converter=_as_tuple)
    off: PerClass | None = attrs.field(default=None, converter=_as_tuple)
    smooth: int = 1
    shortest: float = 0.0
    gap: float = 0.0
    refractory: PerClass = attrs.field(default=0.0, converter=_as_tuple)

    def __attrs_post_init__(self) -> None:
        if self.smooth < 1 or self.smooth % 2 == 0:
            raise CallError(f"smooth must be odd and at least 1, is {self.smooth}")
        for name in ("on", "off", "shortest", "gap", "refractory"):
            value = getattr(self, name)
            if value is not None and not bool(np.all(np.asarray(value) >= 0)):  # NaN is none of them
                raise CallError(f"{name} must be at least 0, is {value}")
        if self.off is not None and bool(np.any(np.asarray(self.off) > np.asarray(self.on))):
            raise CallError(f"off must be at most on ({self.on}), is {self.off}")


def find_events(
    scores: ArrayLike, starts: ArrayLike, ends: ArrayLike, classes: Sequence[str], rules: EventRules
) -> list[Event]:
    """The events of a whole sound, by their beginning.

    Args:
        scores: of each window and class, `(N, K)`.
        starts: seconds, `(N,)`, ascending.
        ends: seconds, `(N,)`.
        classes: the K names.
        rules: what makes an event.

    Raises:
        CallError: shapes that do not fit each other, or windows that are not in order.
    """
    finder = EventFinder(classes, rules)
    return sorted([*finder.feed(scores, starts, ends), *finder.finish()], key=lambda event: event.start)


class EventFinder:
    """Finds the events of windows that come little by little.

    Args:
        classes: the K names.
        rules: what makes an event.
    """

    def __init__(self, classes: Sequence[str], rules: EventRules) -> None:
        self.classes, self.rules = tuple(classes), rules
        count = len(self.classes)
        self._on_from = _each("on", rules.on, count)
        self._off_below = RELEASE * self._on_from if rules.off is None else _each("off", rules.off, count)
        self._refractory = _each("refractory", rules.refractory, count)
        self._heard: list[tuple[NDArray[np.float64], float, float]] = []  # windows that smoothing still needs
        self._smoothed = 0  # how many of them have been
        self._fed: tuple[float, float] | None = None  # the window that came last
        self._last: tuple[float, float] | None = None  # the window that was looked at last
        self._sounds = np.zeros(count, bool)  # in that window
        self._warm = np.zeros(count, bool)  # whether the score is from `off` on in that window
        self._rose = np.zeros(count)  # and since when
        self._pending = np.zeros(count, bool)  # whether start, end and peak are those of an event not yet told
        self._start, self._end, self._peak = np.zeros(count), np.zeros(count), np.zeros(count)
        self._free_from = np.full(count, -np.inf)

    def feed(self, scores: ArrayLike, starts: ArrayLike, ends: ArrayLike) -> list[Event]:
        """The events that these windows, which follow those before, make certain and complete.

        Args:
            scores: of each window and class, `(N, K)`.
            starts: seconds, `(N,)`.
            ends: seconds, `(N,)`.
        """
        rows = np.asarray(scores, np.float64)
        edges = np.asarray(starts, np.float64), np.asarray(ends, np.float64)
        if rows.ndim != 2 or rows.shape[1] != len(self.classes) or any(len(edge) != len(rows) for edge in edges):
            raise CallError(
                f"scores {rows.shape} of {len(edges[0])} windows and {len(self.classes)} classes do not fit"
            )
        found: list[Event] = []
        for row, start, end in zip(rows, *edges, strict=True):
            if self._fed and start + end <= sum(self._fed):
                raise CallError(f"windows must be in order: one from {start:g} s follows one from {self._fed[0]:g} s")
            self._fed = float(start), float(end)
            self._heard.append((row, *self._fed))
            if len(self._heard) - self._smoothed > self.rules.smooth // 2:
                found += self._smooth()
        return found

    def finish(self) -> list[Event]:
        """The events that are left, when no window follows."""
        found: list[Event] = []
        while self._smoothed < len(self._heard):
            found += self._smooth()
        if self._last is not None:
            self._end[self._sounds] = self._last[1]
            self._sounds[:] = False
        return found + self._tell(self._pending.copy())

    def under_way(self) -> list[Event]:
        """The events that have begun, will be told when they end, and sound now; each as far as it is certain."""
        if self._last is None:
            return []
        middle = sum(self._last) / 2
        certain = (middle - self._start >= self.rules.shortest) & (self._start >= self._free_from)
        return [self._event(number, middle) for number in np.flatnonzero(self._sounds & certain).tolist()]

    def _smooth(self) -> list[Event]:
        """Look at the next window, whose neighbours are all there."""
        half = self.rules.smooth // 2
        around = self._heard[max(self._smoothed - half, 0) : self._smoothed + half + 1]
        _, start, end = self._heard[self._smoothed]
        row = np.mean([scores for scores, _, _ in around], axis=0)
        done = max(self._smoothed + 1 - half, 0)  # what no later window has in its neighbourhood
        del self._heard[:done]
        self._smoothed += 1 - done
        return self._look(row, start, end)

    def _look(self, row: NDArray[np.float64], start: float, end: float) -> list[Event]:
        """Move on to a window: what ends with it, goes on or begins."""
        if self._last is None:
            edge = start
        elif start > self._last[1] + TOUCH:
            edge = start
            self._end[self._sounds] = self._last[1]
            self._sounds[:] = self._warm[:] = False
        else:
            edge = min(max((sum(self._last) + start + end) / 4, start), self._last[1])
            self._end[self._sounds] = edge
        self._last = start, end
        warm = row >= self._off_below
        self._rose = np.where(warm & self._warm, self._rose, edge)  # where the next event begins at the earliest
        self._warm = warm
        sounds = warm & (self._sounds | (row >= self._on_from))
        quiet = self._rose - self._end
        far = np.where(warm, quiet > self.rules.gap, quiet >= self.rules.gap)
        found = self._tell(self._pending & ~(warm & self._sounds) & far)
        new = sounds & ~self._sounds & ~self._pending
        self._start[new], self._peak[new] = self._rose[new], 0.0
        self._pending |= sounds
        self._peak[sounds] = np.maximum(self._peak[sounds], row[sounds])
        self._sounds = sounds
        return found

    def _tell(self, done: NDArray[np.bool_]) -> list[Event]:
        """The events of the classes that are `done` and keep to the rules."""
        found: list[Event] = []
        for number in np.flatnonzero(done).tolist():
            event = self._event(number, self._end[number])
            if event.end - event.start >= self.rules.shortest - TOUCH and event.start >= self._free_from[number]:
                found.append(event)
                self._free_from[number] = event.end + self._refractory[number]
        self._pending[done] = False
        return found

    def _event(self, number: int, end: float) -> Event:
        return Event(self.classes[number], float(self._start[number]), float(end), float(self._peak[number]))


def _each(name: str, value: PerClass, count: int) -> NDArray[np.float64]:
    """One number a class."""
    if isinstance(value, tuple) and len(value) != count:
        raise CallError(f"{name}: {len(value)} numbers for {count} classes; give one for all, or one each")
    return np.broadcast_to(np.asarray(value, np.float64), (count,)).copy()
