"""Live classification: reads a source until it ends or is stopped; reports, saves and acts on its events."""

from __future__ import annotations

import io
import math
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from numpy.typing import NDArray

from soundbench import audio, files
from soundbench.audio.capture import Source, level_of
from soundbench.errors import CallError, SoundError
from soundbench.inference.events import Event
from soundbench.inference.stream import EventBegun, Item, Stream, stream_file
from soundbench.messages import nearest, normal, printable
from soundbench.signals import stoppable

__all__ = ["KEPT", "EventRecorder", "EventPrograms", "listen", "sound_of", "summary"]

Samples = NDArray[np.float32]

# Seconds of sound that a stream keeps for saving events; and the seconds saved before and after an event.
KEPT, AROUND = 60.0, 1.0
# The most seconds until a stop is noticed while no sound arrives.
WAIT = 0.2


def listen(
    stream: Stream,
    source: Source | Path,
    on_item: Callable[[Item], None],
    on_level: Callable[[float], None],
    keeper: EventRecorder | None = None,
    starter: EventPrograms | None = None,
) -> None:
    """Classify the sound of a source until it ends or Ctrl-C is pressed.

    Args:
        stream: scores the sound.
        source: a device, a pipe, or the path of a file.
        on_item: called with each window and event.
        on_level: called with the level of each block, in dB of full scale; not for files.
        keeper: saves the sound of events.
        starter: starts programs at events.

    Raises:
        SoundError: the sound cannot be read any further; raised after the items before it.
    """
    whole = isinstance(source, Path)
    error: SoundError | None = None
    with stoppable() as stop:

        def act(items: Iterator[Item]) -> None:
            for item in items:
                on_item(item)
                if starter and isinstance(item, EventBegun):
                    starter.start(item.event)
                if keeper and isinstance(item, Event):
                    keeper.add(item)
                    keeper.write(math.inf if whole else stream.seconds)
                if whole and stop.asked:
                    return

        try:
            if isinstance(source, Path):
                act(stream_file(stream, source))
            else:
                while not stop.asked and (blocks := source.take(WAIT)) is not None:
                    for block in blocks:
                        mono = block.samples.mean(axis=1)
                        stream.push(mono, block.at, block.lost)
                        on_level(level_of(mono))
                    act(stream.score())
                    if keeper:
                        keeper.write(stream.seconds)
        except SoundError as wrong:
            error = wrong
        act(stream.finish())
        if keeper:
            keeper.write(math.inf)
    if error:
        raise error


class EventPrograms:
    """Starts a program, without a shell, at the beginning of each event of a class.

    The program's environment describes the event: `SOUNDBENCH_LABEL`, `SOUNDBENCH_SCORE`, and in seconds
    `SOUNDBENCH_START` and `SOUNDBENCH_END`, the end so far. Its output goes to standard error.

    Args:
        commands: pairs of a class and a command line.
        classes: the model's classes.

    Raises:
        CallError: an unknown class, or a program that cannot be found.
    """

    def __init__(self, commands: Sequence[tuple[str, str]], classes: Sequence[str]) -> None:
        self._commands: dict[str, list[list[str]]] = {}
        self._running: list[subprocess.Popen[bytes]] = []
        for given, line in commands:
            label = normal(given)
            if label not in classes:
                hint = nearest(label, classes) or ";"
                raise CallError(f"--on: the model has no class {label!r}{hint} known: {', '.join(classes)}")
            try:
                words = shlex.split(line)
            except ValueError as error:
                raise CallError(f"--on {label}: {line!r}: {error}") from None
            if not words or shutil.which(words[0]) is None:
                raise CallError(f"--on {label}: {(words or [line])[0]!r}: no such program")
            self._commands.setdefault(label, []).append(words)

    def start(self, event: Event) -> None:
        """Start the programs of the event's class."""
        self._running = [one for one in self._running if one.poll() is None]
        variables = {f"SOUNDBENCH_{name.upper()}": str(value) for name, value in event.to_dict().items()}
        for words in self._commands.get(event.label, []):
            try:
                self._running.append(
                    subprocess.Popen(
                        words, env=os.environ | variables, stdin=subprocess.DEVNULL, stdout=sys.stderr.fileno()
                    )
                )
            except OSError as error:
                print(printable(f"--on {event.label}: {words[0]}: {error.strerror}"), file=sys.stderr)


class EventRecorder:
    """Saves the sound of each event, from a second before it to a second after it, in a folder per class.

    Of an event longer than a minute only its end is saved.

    Args:
        folder: the folder of the class folders.
        sound: returns the sound between two times, in seconds, at `rate`.
        rate: sample rate in Hz.
    """

    def __init__(self, folder: Path, sound: Callable[[float, float], Samples], rate: int) -> None:
        with files.explain_os_errors(folder):  # fails now, not at the first event
            folder.mkdir(parents=True, exist_ok=True)
        self.folder, self._sound, self._rate = folder, sound, rate
        self._due: list[Event] = []

    def add(self, event: Event) -> None:
        """Add an event that has ended."""
        self._due.append(event)

    def write(self, seconds: float) -> None:
        """Write the events whose second after has arrived, given the seconds of sound so far."""
        for event in [event for event in self._due if event.end + AROUND <= seconds]:
            self._due.remove(event)
            samples = self._sound(max(event.start - AROUND, 0), event.end + AROUND)
            file = io.BytesIO()
            soundfile.write(file, samples, self._rate, format="WAV", subtype="PCM_16")
            files.write_bytes(self._place(event), file.getvalue())

    def _place(self, event: Event) -> Path:
        """A path that does not exist yet."""
        label = re.sub(r'[\x00-\x1f/\\:*?"<>|]', "_", event.label).strip(". ") or "_"
        name = f"{datetime.now():%Y%m%d-%H%M%S}-{event.start:.2f}s"
        numbers = ("" if number == 1 else f"-{number}" for number in range(1, 1 << 30))
        return next(path for number in numbers if not (path := self.folder / label / f"{name}{number}.wav").exists())


def sound_of(path: Path, rate: int) -> Callable[[float, float], Samples]:
    """A function that returns a file's sound between two times, at `rate`."""
    return lambda start, end: audio.load(path, rate, start, end)


def summary(figures: Mapping[str, Any]) -> str:
    """The figures of a stream, in one line."""
    return (
        f"{figures['seconds']:.1f} s of sound, {figures['windows']:,} windows scored, {figures['gated']:,} too quiet, "
        f"{figures['events']:,} events, {figures['dropped']:,} samples dropped; latency "
        f"{1000 * figures['latency_p50']:.0f} ms (p50), {1000 * figures['latency_p95']:.0f} ms (p95) from a window's "
        f"last sample to its scores; {figures['core']:.2f} cores used"
    )
