"""Events from the scores of windows: which class sounded, from when to when.

A window's scores apply to the time around its middle: the time that two consecutive windows share is divided at the
midpoint between their middles; the first window applies from its start, the last until its end. Between windows that do
not touch there is a hole, which belongs to no event.

An event is a stretch in which a class's score stays at or above its off threshold and reaches its on threshold at least
once. It begins where the score rose above the off threshold.

Files and streams give the same events: `find_events` feeds an `EventFinder` all windows at once, a stream feeds it one
window after the other, and how windows are grouped into calls changes nothing. Memory does not grow with time.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs
import numpy as np
from numpy.typing import ArrayLike, NDArray

from soundbench.errors import CallError
from soundbench.recipe.tables import keyed

__all__ = ["Event", "EventFinder", "EventRules", "find_events"]

PerClass = float | tuple[float, ...]

# The default off threshold, as a factor of the on threshold.
RELEASE = 0.8
# Windows that are at most so many seconds apart touch; covers rounding.
TOUCH = 1e-6


@attrs.frozen
class Event:
    """A stretch of time in which a class sounds.

    Attributes:
        label: the class.
        start: seconds from the beginning of the sound.
        end: seconds from the beginning of the sound.
        score: the highest (smoothed) score among its windows.
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


@keyed
@attrs.frozen
class EventRules:
    """How scores become events.

    Attributes:
        on: the score that an event must reach; one for all classes, or one per class.
        off: the score at which an event begins and below which it ends; None for 0.8 x `on`.
        smooth: the number of windows that scores are averaged over, centred; odd. Delays events by half of them.
        shortest: seconds; shorter events are dropped, after joining.
        gap: seconds; events of one class that are no further apart are joined.
        refractory: seconds after an event's end in which no other event of its class begins; one for all classes, or
            one per class.
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
    """The events of a whole sound, ordered by their start.

    Args:
        scores: `(N, K)`, of N windows and K classes.
        starts: start of each window in seconds, `(N,)`, ascending.
        ends: end of each window in seconds, `(N,)`.
        classes: the K names.
        rules: how scores become events.

    Raises:
        CallError: the shapes do not fit each other, or the windows are not in order.
    """
    finder = EventFinder(classes, rules)
    return sorted([*finder.feed(scores, starts, ends), *finder.finish()], key=lambda event: event.start)


class EventFinder:
    """Finds events in windows that arrive one after the other.

    Args:
        classes: the K names.
        rules: how scores become events.
    """

    def __init__(self, classes: Sequence[str], rules: EventRules) -> None:
        self.classes, self.rules = tuple(classes), rules
        count = len(self.classes)
        self._on_from = _each("on", rules.on, count)
        self._off_below = RELEASE * self._on_from if rules.off is None else _each("off", rules.off, count)
        self._refractory = _each("refractory", rules.refractory, count)
        self._windows: list[tuple[NDArray[np.float64], float, float]] = []  # those that smoothing still needs
        self._smoothed = 0  # how many of them are smoothed already
        self._fed: tuple[float, float] | None = None  # the window that arrived last
        self._last: tuple[float, float] | None = None  # the window that was processed last
        self._sounds = np.zeros(count, bool)  # whether an event of the class goes on in that window
        self._warm = np.zeros(count, bool)  # whether the score is at least `off` in that window
        self._rose = np.zeros(count)  # and since when
        self._pending = np.zeros(count, bool)  # whether start, end and peak are of an event not yet returned
        self._start, self._end, self._peak = np.zeros(count), np.zeros(count), np.zeros(count)
        self._free_from = np.full(count, -np.inf)

    def feed(self, scores: ArrayLike, starts: ArrayLike, ends: ArrayLike) -> list[Event]:
        """Add windows that follow the earlier ones; returns the events that are complete with them.

        Args:
            scores: `(N, K)`, of N windows and K classes.
            starts: start of each window in seconds, `(N,)`.
            ends: end of each window in seconds, `(N,)`.
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
                raise CallError(f"windows must be in order: one at {start:g} s follows one at {self._fed[0]:g} s")
            self._fed = float(start), float(end)
            self._windows.append((row, *self._fed))
            if len(self._windows) - self._smoothed > self.rules.smooth // 2:
                found += self._smooth()
        return found

    def finish(self) -> list[Event]:
        """The remaining events, when no window follows."""
        found: list[Event] = []
        while self._smoothed < len(self._windows):
            found += self._smooth()
        if self._last is not None:
            self._end[self._sounds] = self._last[1]
            self._sounds[:] = False
        return found + self._complete(self._pending.copy())

    def under_way(self) -> list[Event]:
        """The events that go on now and are certain to be returned when they end; each with its end so far."""
        if self._last is None:
            return []
        middle = sum(self._last) / 2
        certain = (middle - self._start >= self.rules.shortest) & (self._start >= self._free_from)
        return [self._event(number, middle) for number in np.flatnonzero(self._sounds & certain).tolist()]

    def _smooth(self) -> list[Event]:
        """Smooth the next window, whose neighbours have all arrived, and process it."""
        half = self.rules.smooth // 2
        around = self._windows[max(self._smoothed - half, 0) : self._smoothed + half + 1]
        _, start, end = self._windows[self._smoothed]
        row = np.mean([scores for scores, _, _ in around], axis=0)
        done = max(self._smoothed + 1 - half, 0)  # windows that no later one is averaged with
        del self._windows[:done]
        self._smoothed += 1 - done
        return self._process(row, start, end)

    def _process(self, row: NDArray[np.float64], start: float, end: float) -> list[Event]:
        """Begin, continue and end events with the next window; returns the complete ones."""
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
        found = self._complete(self._pending & ~(warm & self._sounds) & far)
        new = sounds & ~self._sounds & ~self._pending
        self._start[new], self._peak[new] = self._rose[new], 0.0
        self._pending |= sounds
        self._peak[sounds] = np.maximum(self._peak[sounds], row[sounds])
        self._sounds = sounds
        return found

    def _complete(self, done: NDArray[np.bool_]) -> list[Event]:
        """The pending events of the classes in `done` that meet the rules."""
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
    """One number per class, `(K,)`."""
    if isinstance(value, tuple) and len(value) != count:
        raise CallError(f"{name}: {len(value)} numbers for {count} classes; give one for all classes, or one per class")
    return np.broadcast_to(np.asarray(value, np.float64), (count,)).copy()
