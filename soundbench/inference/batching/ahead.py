"""Sounds cut into windows, by threads ahead of the one that scores them; the windows come in the order of the sounds.

Where the one that scores waits, all of them work, else half of them. How far ahead is limited by what the windows hold,
so that memory grows neither with the number of sounds nor with their length. A thread that hangs in a decoder holds up
the sounds after it, but not the end of the process.
"""

from __future__ import annotations

import atexit
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import islice, takewhile
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import TypeAlias

import attrs

from soundbench import audio
from soundbench.data.windowing.grid import Grid
from soundbench.errors import SoundError, SoundWarning
from soundbench.inference.predictions import EndOfSound
from soundbench.machine import auto_threads, local_processes
from soundbench.model.windows import WHOLE, Sound, Window, cut_windows

__all__ = ["cut_all"]

Cut: TypeAlias = tuple[int, Window] | EndOfSound

# The most threads; the most sounds ahead; seconds of sound from which no other sound is begun; the seconds that the
# threads get to end what they are at when nobody waits for it any more.
_THREADS, _SOUNDS, _SECONDS, _PATIENCE = 8, 512, 240, 3.0
# Windows that a thread cuts from a sound at a time.
_WINDOWS = 32
# Seconds after which the one that waits looks about: on Windows, Ctrl-C is heeded only between two waits.
_GLANCE = 0.5


def cut_all(sounds: Iterable[Sound], rate: int | None, target: int, grid: Grid) -> Iterator[Cut]:
    """The windows of each sound with its number, followed by its end.

    Several sounds in files are decoded ahead, by as many threads as there are cores for this process, at most 8. Other
    sounds are each read when their turn comes, in this thread.

    Args:
        sounds: the sounds, as for `Classifier.predict`.
        rate: sample rate in Hz, if the sounds are samples.
        target: the model's sample rate in Hz.
        grid: how they are cut.

    Raises:
        CallError: what is no sound.
    """
    if isinstance(sounds, Sequence) and len(sounds) > 1 and all(isinstance(one, str | Path | bytes) for one in sounds):
        yield from _cut_ahead(tuple(sounds), target, grid)
        return
    for number, sound in enumerate(sounds):
        last, error = 0, None
        try:
            for cut in cut_windows(sound, rate, target, grid):
                last = cut.start + len(cut.samples)
                yield number, cut
        except SoundError as wrong:
            error = wrong
        yield EndOfSound(number, last / target, error)


def _cut_ahead(sounds: Sequence[Sound], target: int, grid: Grid) -> Iterator[Cut]:
    """The same of sounds in files, decoded by threads."""
    work = _Work(sounds, target, grid)
    # Python ends threads that are still at work when it ends; inside a resampler, that would abort the process.
    atexit.register(work.end)
    try:
        work.start(min(auto_threads(local_processes()), _THREADS, len(sounds)))
        for number in range(len(sounds)):
            last, error = 0, None
            for part in work.parts_of(number):
                for cut in part.windows:
                    last = cut.start + len(cut.samples)
                    yield number, cut
                error = part.error
            yield EndOfSound(number, last / target, error)
    finally:
        atexit.unregister(work.end)
        work.end()


@attrs.frozen(eq=False)
class _Part:
    """The next windows of a sound.

    Attributes:
        windows: at most `_WINDOWS`.
        warnings: what is odd about the sound.
        more: whether more windows may follow.
        size: the samples that it holds.
        error: why the sound could not be read to its end.
        failure: what else ended the work on it.
    """

    windows: list[Window]
    warnings: list[SoundWarning]
    more: bool
    size: int
    error: SoundError | None = None
    failure: BaseException | None = None


class _Cutting:
    """A sound that is being cut into windows, by one thread at a time."""

    def __init__(self, number: int, sound: Sound, target: int, grid: Grid) -> None:
        self.number = number
        self._whole = WHOLE * target
        self._warnings: list[SoundWarning] = []
        self._cuts = cut_windows(sound, None, target, grid, self._warnings.append)

    def next(self, ended: Callable[[], bool]) -> _Part:
        """The next windows; fewer if nobody wants them any more, which `ended` says."""
        windows: list[Window] = []
        error: SoundError | None = None
        failure: BaseException | None = None
        try:
            windows.extend(takewhile(lambda _: not ended(), islice(self._cuts, _WINDOWS)))
        except SoundError as wrong:
            error = wrong
        except BaseException as wrong:  # for the thread that scores, as if it had read the sound itself
            failure = wrong
        warnings = self._warnings.copy()
        self._warnings.clear()
        more = len(windows) == _WINDOWS
        return _Part(windows, warnings, more, self._held(windows, more), error, failure)

    def _held(self, windows: list[Window], more: bool) -> int:
        """The most samples that these windows and the rest of the sound hold: windows may be views of all of it."""
        if not windows:
            return 0
        first, last = windows[0], windows[-1]
        span = last.start + len(last.samples) - first.start
        return max(span, sum(len(one.samples) for one in windows)) + (self._whole if more else 0)


class _Work:
    """What the threads and the one that scores share: which sounds are begun, and the windows that wait."""

    def __init__(self, sounds: Sequence[Sound], target: int, grid: Grid) -> None:
        self._sounds, self._target, self._grid = sounds, target, grid
        # Ctrl-C may interrupt the one that scores anywhere in Python code, such as that of a condition. So it takes the
        # lock itself, and waits for a queue: both are in C, and it neither keeps the lock nor frees that of another.
        self._lock = threading.Lock()
        self._room, self._arrived = threading.Condition(self._lock), SimpleQueue[None]()
        self._begun = self._at = 0  # sounds that a thread has begun, and the one that is waited for
        self._parts: dict[int, _Part] = {}
        self._held = 0  # samples in them
        self._rest: _Cutting | None = None  # of the sound that is waited for
        self._cutting: dict[int, _Cutting] = {}
        self._closed = False
        self._busy = 0  # threads that are at a sound
        self._waited = False  # whether the one that scores waits for a sound
        self._threads: list[threading.Thread] = []

    def _run(self) -> None:
        """The work of a thread."""
        while cutting := self._next():
            part = cutting.next(lambda: self._closed)
            with self._lock:
                self._parts[cutting.number] = part
                if part.more:
                    self._cutting[cutting.number] = cutting
                self._held += part.size
                if self._waited and cutting.number == self._at:
                    self._arrived.put(None)

    def parts_of(self, number: int) -> Iterator[_Part]:
        """The windows of a sound, once they are there; sounds are asked for in their order."""
        more = True
        while more:
            part = self._taken(number)
            more = part.more
            for warning in part.warnings:
                audio.warn(warning)
            yield part
            if part.failure:
                raise part.failure

    def _taken(self, number: int) -> _Part:
        with self._lock:
            self._at = number
            self._waited = number not in self._parts
            self._room.notify_all()
        while number not in self._parts:
            with suppress(Empty):
                self._arrived.get(timeout=_GLANCE)
        with self._lock:
            self._waited = False
            part = self._parts.pop(number)
            self._held -= part.size
            self._rest = self._cutting.pop(number, None)
            self._room.notify_all()
        return part

    def start(self, count: int) -> None:
        """Start so many threads."""
        self._busy = count
        for _ in range(count):
            thread = threading.Thread(target=self._run, name="decoding", daemon=True)
            thread.start()
            self._threads.append(thread)

    def end(self) -> None:
        """Let the threads end, and wait for them a moment."""
        with self._lock:
            self._closed = True
            self._room.notify_all()
        until = time.monotonic() + _PATIENCE
        for thread in self._threads:
            thread.join(max(until - time.monotonic(), 0))

    def _next(self) -> _Cutting | None:
        """What a thread does next, once there is something to do; None at the end."""
        with self._lock:
            self._busy -= 1
            while not (self._closed or self._rest or self._may_begin()):
                self._room.wait()
            self._busy += 1
            if self._closed:
                return None
            if found := self._rest:
                self._rest = None
                return found
            self._begun += 1
            return _Cutting(self._begun - 1, self._sounds[self._begun - 1], self._target, self._grid)

    def _may_begin(self) -> bool:
        """Whether there is another sound, and it is waited for, or there is room for more ahead.

        Half of the threads work ahead while windows are scored: more would take turns with those that score, and all be
        late.
        """
        room = self._begun - self._at < _SOUNDS and self._held < _SECONDS * self._target
        free = self._waited or self._busy < max(len(self._threads) // 2, 1)
        return self._begun < len(self._sounds) and (self._begun == self._at or (room and free))
