"""Sound from a device, by PortAudio: opened at its own rate where it refuses another, waited for when it goes.

`sounddevice` is imported when a device is asked for, since its import fails where PortAudio is missing.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from types import ModuleType
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from soundbench.audio.capture import LONGEST_WAIT, Block, Waiting
from soundbench.errors import CallError, DeviceError

__all__ = ["Microphone", "list_devices"]

# Seconds without a sample after which a device counts as gone.
SILENT = 3.0
# Seconds until it is looked for, doubled from time to time up to the longest.
FIRST_LOOK, LONGEST_LOOK = 0.5, 30.0


def _portaudio() -> ModuleType:
    """The module `sounddevice`.

    Raises:
        DeviceError: it, or the library that it needs, is not installed.
    """
    try:
        import sounddevice
    except ImportError:
        raise DeviceError("no sound can be recorded: pip install sounddevice") from None
    except OSError:
        reason = "no sound can be recorded: PortAudio is not installed; on Debian and Ubuntu: apt install libportaudio2"
        raise DeviceError(reason) from None
    module: ModuleType = sounddevice
    return module


def list_devices() -> list[dict[str, Any]]:
    """The devices that sound can be recorded from: index, name, channels, rate, and which is the default."""
    portaudio = _portaudio()
    default = portaudio.default.device[0]
    return [
        {
            "index": index,
            "name": device["name"],
            "channels": device["max_input_channels"],
            "rate": round(device["default_samplerate"]),
            "default": index == default,
        }
        for index, device in enumerate(portaudio.query_devices())
        if device["max_input_channels"]
    ]


@attrs.frozen
class _Opened:
    """A device's stream, its rate and channels, and whom it brings its samples to."""

    stream: Any
    rate: int
    channels: int


class Microphone:
    """A source of what a device hears; what is not taken in time is lost, and counted.

    The device itself may change while it is listened to: one that goes is waited for, and the time without it counts
    as lost samples.

    Args:
        device: its number, or a part of its name; None for the default one.
        rate: samples a second that are wanted; where the device refuses it, `rate` is another.
        channels: that are wanted; one is the mean of all where the device refuses one.
        say: is told that the device has gone or come back.

    Raises:
        DeviceError: there is none, or it cannot be opened.
        CallError: more channels are wanted than it has.
    """

    def __init__(
        self,
        device: str | None = None,
        rate: int = 16000,
        channels: int = 1,
        say: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._portaudio = _portaudio()
        self._wanted: int | str | None = int(device) if device and device.isdecimal() else device
        self.channels, self._say = channels, say
        self._name = ""
        self._opened = self._open(rate)
        self.rate = self._opened.rate
        self._waiting = Waiting(LONGEST_WAIT * self.rate)
        self._heard = time.perf_counter()  # when its last sample came
        self._due: float | None = None  # on the device's clock, when its next one does
        self._gone: tuple[float, float] | None = None  # when it is looked for next, and how long it was waited before
        self._start()

    def take(self, seconds: float) -> list[Block] | None:
        """All blocks that wait, once there is one or the time is over; never None."""
        if self._gone:
            self._look(seconds)
        found = self._waiting.take(seconds) if not self._gone else []
        if found:
            self._heard = found[-1].at
        elif not self._gone and not self._alive():
            self._let_go()
            self._say("the device has gone; waiting for it")
            self._gone = time.perf_counter() + FIRST_LOOK, FIRST_LOOK
        return found

    def close(self) -> None:
        """Let go of the device."""
        if not self._gone:
            self._let_go()

    def _open(self, rate: int | None) -> _Opened:
        """The device at the wanted rate and channels, or at its own."""
        portaudio = self._portaudio
        try:
            found = portaudio.query_devices(self._wanted, "input")
        except (ValueError, portaudio.PortAudioError):
            raise DeviceError(self._missing()) from None
        if isinstance(self._wanted, int) and self._name and found["name"] != self._name:
            raise DeviceError(f"another device has its number now: {found['name']}")
        self._name = found["name"]
        most, own = found["max_input_channels"], round(found["default_samplerate"])
        if self.channels > most:
            raise CallError(f"--channels {self.channels}: {found['name']} has {most}")
        counts = dict.fromkeys([self.channels, most] if self.channels == 1 else [self.channels])
        reason = ""
        for samples in dict.fromkeys([rate or own, own]):
            for channels in counts:
                try:
                    stream = portaudio.InputStream(
                        samplerate=samples,
                        device=self._wanted,
                        channels=channels,
                        dtype="float32",
                        callback=self._bring,
                    )
                except portaudio.PortAudioError as error:
                    reason = reason or str(error)
                else:
                    return _Opened(stream, samples, channels)
        raise DeviceError(f"{found['name']} cannot be opened: {reason}")

    def _missing(self) -> str:
        names = [f"{device['index']} {device['name']}" for device in list_devices()]
        if not names:
            return "no microphone: this machine has no device that sound can be recorded from"
        if self._wanted is None:
            return f"no device is the default one; name one by --device: {', '.join(names)}"
        return f"no one device that records is {self._wanted!r}; there are: {', '.join(names)}"

    def _start(self) -> None:
        try:
            self._opened.stream.start()
        except self._portaudio.PortAudioError as error:
            self._opened.stream.close()
            raise DeviceError(f"the device cannot be started: {error}") from None

    def _alive(self) -> bool:
        return self._opened.stream.active and time.perf_counter() - self._heard < SILENT

    def _let_go(self) -> None:
        try:
            self._opened.stream.abort()
            self._opened.stream.close()
        except self._portaudio.PortAudioError:
            pass  # it is gone

    def _look(self, seconds: float) -> None:
        """Wait for as long as one may, and open the device again if it is there."""
        assert self._gone
        due, waited = self._gone
        time.sleep(max(min(due - time.perf_counter(), seconds), 0))
        now = time.perf_counter()
        if now < due:
            return
        # PortAudio knows the devices that there were when it was initialised.
        self._portaudio._terminate()
        self._portaudio._initialize()
        try:
            opened = self._open(self.rate)
            if opened.rate != self.rate:
                opened.stream.close()
                raise DeviceError(f"it is another: {opened.rate} samples a second instead of {self.rate}")
            self._opened, self._due = opened, None
            self._start()
        except (DeviceError, CallError):
            waited = min(2 * waited, LONGEST_LOOK)
            self._gone = now + waited, waited
            return
        self._gone = None
        self._waiting.offer(np.empty((0, self.channels), np.float32), now, round((now - self._heard) * self.rate))
        self._heard = now
        self._say("the device is back")

    def _bring(self, samples: NDArray[np.float32], count: int, clock: Any, status: Any) -> None:
        """Called by PortAudio, in its own thread, with samples `(S, C)` that it will overwrite."""
        begun = clock.inputBufferAdcTime
        lost = 0
        if status.input_overflow:
            lost = max(round((begun - self._due) * self.rate), 1) if self._due and begun else count
        self._due = begun + count / self.rate
        mixed = samples.mean(axis=1, keepdims=True) if samples.shape[1] != self.channels else samples.copy()
        self._waiting.offer(mixed, time.perf_counter(), lost)
