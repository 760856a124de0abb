"""A `sounddevice` without devices, for tests: what it hears, and when it goes, is said by the test."""

from __future__ import annotations

import threading
import time
from types import SimpleNamespace
from typing import Any

import numpy as np

BLOCK = 80


class PortAudioError(Exception):
    """What PortAudio answers."""


class FakeAudio:
    """The part of the module `sounddevice` that is used.

    Args:
        samples: `(S, C)` that the device hears, then silence.
        rate: the one rate that it knows.
        pace: seconds between two blocks of 10 ms.
    """

    PortAudioError = PortAudioError

    def __init__(self, samples: np.ndarray, rate: int = 8000, pace: float = 0.0005) -> None:
        self.samples, self.rate, self.pace = samples, rate, pace
        self.names = ["Fake Mic"]  # that there are now
        self.known = list(self.names)  # when PortAudio was initialised
        self.channels = samples.shape[1]
        self.least = 1  # channels that it can be opened with
        self.at = 0
        self.lose: dict[int, int] = {}  # before which sample how many are lost
        self.default = SimpleNamespace(device=(0, 1))
        self.streams: list[FakeStream] = []
        self.looks = 0

    def query_devices(self, device: int | str | None = None, kind: str | None = None) -> Any:
        speaker = {"name": "Speaker", "max_input_channels": 0, "default_samplerate": 48000.0}
        inputs = [
            {"name": name, "max_input_channels": self.channels, "default_samplerate": float(self.rate)}
            for name in self.known
        ]
        if kind is None:
            return [*inputs, speaker]
        if isinstance(device, int):
            if device >= len(inputs):
                raise PortAudioError("Error querying device")
            return inputs[device]
        found = [one for one in inputs if device is None or device in str(one["name"])]
        if not found:
            raise ValueError(f"No input device matching {device!r}")
        return found[0]

    def InputStream(self, **options: Any) -> FakeStream:
        if options["samplerate"] != self.rate:
            raise PortAudioError("Invalid sample rate")
        if not self.least <= options["channels"] <= self.channels:
            raise PortAudioError("Invalid number of channels")
        self.streams.append(FakeStream(self, options["callback"], options["channels"]))
        return self.streams[-1]

    def _terminate(self) -> None:
        self.known = []

    def _initialize(self) -> None:
        self.looks += 1
        self.known = list(self.names)

    def vanish(self) -> None:
        """Pull the plug."""
        self.names = []
        self.streams[-1].active = False


class FakeStream:
    """A stream that calls back from a thread of its own, until it is stopped."""

    def __init__(self, audio: FakeAudio, callback: Any, channels: int) -> None:
        self.audio, self.callback, self.channels = audio, callback, channels
        self.active = self.closed = False
        self._buffer = np.zeros((BLOCK, channels), np.float32)  # used again and again, as PortAudio does
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        self.active = True
        self._thread.start()

    def abort(self) -> None:
        self.active = False
        self._thread.join()

    def close(self) -> None:
        self.closed = True

    def _run(self) -> None:
        clock = 100.0
        while self.active:
            time.sleep(self.audio.pace)
            lost = self.audio.lose.pop(self.audio.at, 0)
            clock += lost / self.audio.rate
            self.audio.at += lost
            self._buffer[:] = 0
            heard = self.audio.samples[self.audio.at : self.audio.at + BLOCK, : self.channels]
            self._buffer[: len(heard)] = heard
            self.audio.at += BLOCK
            times = SimpleNamespace(inputBufferAdcTime=clock)
            self.callback(self._buffer, BLOCK, times, SimpleNamespace(input_overflow=bool(lost)))
            clock += BLOCK / self.audio.rate
