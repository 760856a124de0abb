"""Microphones, through PortAudio: opened at their own rate if another is not supported, reopened after a disconnect.

`sounddevice` is imported on first use, because its import fails if PortAudio is missing.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from soundbench.audio.capture import LONGEST_WAIT, Block, BlockQueue
from soundbench.errors import CallError, DeviceError

__all__ = ["Microphone", "Pauses", "list_devices", "portaudio"]

# Seconds without a sample after which a device counts as disconnected.
SILENT = 3.0
# Seconds between two tries to reopen it: doubled each time, up to the longest.
FIRST_LOOK, LONGEST_LOOK = 0.5, 30.0
# Seconds without a block that are a pause. After it, what is still missing was lost if it has stayed the same for so
# long, but for the jitter of blocks, and at the latest after so long.
PAUSE, SETTLED, JITTER, LATEST = 0.25, 0.5, 0.05, 2.0


def portaudio() -> ModuleType:
    """The module `sounddevice`.

    Raises:
        DeviceError: it, or PortAudio, is not installed.
    """
    try:
        import sounddevice
    except ImportError:
        raise DeviceError("recording needs the package sounddevice: pip install sounddevice") from None
    except OSError:
        reason = "recording needs PortAudio, which is not installed; on Debian and Ubuntu: apt install libportaudio2"
        raise DeviceError(reason) from None
    module: ModuleType = sounddevice
    return module


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep PortAudio and ALSA from writing to standard error about a device that is not there."""
    with open(os.devnull, "wb") as nowhere:
        kept = os.dup(2)
        os.dup2(nowhere.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)


def list_devices() -> list[dict[str, Any]]:
    """The input devices: index, name, channels, rate, and whether it is the default."""
    library = portaudio()
    default = library.default.device[0]
    return [
        {
            "index": index,
            "name": device["name"],
            "channels": device["max_input_channels"],
            "rate": round(device["default_samplerate"]),
            "default": index == default,
        }
        for index, device in enumerate(library.query_devices())
        if device["max_input_channels"]
    ]


@attrs.frozen
class _Opened:
    """The open stream of a device, with its rate and channels."""

    stream: Any
    rate: int
    channels: int


class Pauses:
    """Counts what was lost in pauses that the device itself says nothing of.

    After a pause, either the sound that has waited meanwhile arrives at once (this process was stopped), or the sound
    goes on as it is now (the device was suspended). Blocks are held after a pause until it is clear which.

    Args:
        rate: sample rate in Hz.
        give: takes the blocks.
    """

    def __init__(self, rate: int, give: Callable[[Block], None]) -> None:
        self._rate, self._give = rate, give
        self._last: float | None = None  # the time of the last block
        self._reopened = False
        self._held: list[Block] = []
        self._missing = 0.0  # seconds of sound since the pause began
        self._before = 0.0  # as many were missing when that last changed
        self._settled = self._latest = 0.0  # the times at which it is clear

    def add(self, block: Block) -> None:
        """Give the block, or hold it."""
        missing = 0.0
        if self._last is not None:
            missing = block.at - self._last - (len(block.samples) + block.lost) / self._rate
        self._last = block.at
        if self._held:
            self._held.append(block)
            self._missing += missing
            self._look(block.at)
        elif self._reopened or missing > PAUSE:
            self._held, self._missing = [block], missing
            self._before = missing
            self._settled, self._latest = block.at + SETTLED, block.at + LATEST
            if self._reopened:  # by a device without a past
                self._reopened = False
                self.end()
        else:
            self._give(block)

    def reopen(self) -> None:
        """The next block is the first one of a device that has been opened again."""
        self._reopened = True

    def end(self) -> None:
        """Give the blocks that are held; what is missing now is lost."""
        lost = round(self._missing * self._rate) if self._missing > JITTER else 0
        for block in self._held:
            self._give(block._replace(lost=block.lost + lost))
            lost = 0
        self._held = []

    def _look(self, now: float) -> None:
        if self._missing <= JITTER or now >= self._latest:
            self.end()
        elif abs(self._missing - self._before) > JITTER:  # sound that waited still arrives, or there was another pause
            self._before, self._settled = self._missing, now + SETTLED
        elif now >= self._settled:
            self.end()


class Microphone:
    """A source that records from a device; samples that are not taken in time are lost, and counted.

    If the device is disconnected, the source waits for it; the time without it counts as lost samples.

    Args:
        device: its number or a part of its name; None for the default device.
        rate: requested sample rate in Hz; if the device does not support it, the attribute `rate` is different.
        channels: requested channels; one is the mean of all if the device does not support one.
        say: called with a message when the device is disconnected or connected again.

    Raises:
        DeviceError: there is no such device, or it cannot be opened.
        CallError: the device has fewer channels than requested.
    """

    def __init__(
        self,
        device: str | None = None,
        rate: int = 16000,
        channels: int = 1,
        say: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._portaudio = portaudio()
        self._wanted: int | str | None = int(device) if device and device.isdecimal() else device
        self.channels, self._say = channels, say
        self._name = ""
        with _quiet():
            self._opened = self._open(rate)
        self.rate = self._opened.rate
        self._queue = BlockQueue(LONGEST_WAIT * self.rate)
        self._pauses = Pauses(self.rate, lambda block: self._queue.offer(*block))
        self._in_vain = 0.0  # seconds that `take` has waited in vain since the last sample
        self._due: float | None = None  # on the device's clock, the time of its next sample
        self._gone: tuple[float, float] | None = None  # the time of the next try, and the wait before
        self._start()

    def take(self, seconds: float) -> list[Block] | None:
        """Wait up to `seconds` for a block, and return all that are available; never None."""
        if self._gone:
            self._look(seconds)
        if self._gone:
            return []
        began = time.perf_counter()
        found = self._queue.take(seconds)
        # Where this process was stopped meanwhile, it has not waited longer.
        self._in_vain = 0.0 if found else self._in_vain + min(time.perf_counter() - began, seconds)
        if not found and not (self._opened.stream.active and self._in_vain < SILENT):
            self._release()
            self._say("the device is disconnected; waiting for it")
            self._gone = time.perf_counter() + FIRST_LOOK, FIRST_LOOK
        return found

    def close(self) -> None:
        """Release the device."""
        if not self._gone:
            self._release()

    def _open(self, rate: int | None) -> _Opened:
        """Open the device with the requested rate and channels, or with its own."""
        portaudio = self._portaudio
        try:
            found = portaudio.query_devices(self._wanted, "input")
        except (ValueError, portaudio.PortAudioError):
            raise DeviceError(self._missing()) from None
        if isinstance(self._wanted, int) and self._name and found["name"] != self._name:
            raise DeviceError(f"its number now belongs to another device: {found['name']}")
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
                        callback=self._callback,
                    )
                except portaudio.PortAudioError as error:
                    reason = reason or str(error)
                else:
                    return _Opened(stream, samples, channels)
        raise DeviceError(f"{found['name']} cannot be opened: {reason}")

    def _missing(self) -> str:
        names = [f"{device['index']} {device['name']}" for device in list_devices()]
        if not names:
            return "no microphone: this machine has no audio input device"
        if self._wanted is None:
            return f"there is no default microphone; choose one with --microphone: {', '.join(names)}"
        return f"no single microphone matches {self._wanted!r}; known: {', '.join(names)}"

    def _start(self) -> None:
        try:
            self._opened.stream.start()
        except self._portaudio.PortAudioError as error:
            self._opened.stream.close()
            raise DeviceError(f"the device cannot be started: {error}") from None

    def _release(self) -> None:
        try:
            self._opened.stream.abort()
            self._opened.stream.close()
        except self._portaudio.PortAudioError:
            pass  # it is disconnected
        self._pauses.end()

    def _look(self, seconds: float) -> None:
        """Wait for the next try, up to `seconds`, and open the device again if it is connected."""
        assert self._gone
        due, waited = self._gone
        time.sleep(max(min(due - time.perf_counter(), seconds), 0))
        now = time.perf_counter()
        if now < due:
            return
        try:
            with _quiet():
                self._reopen()
        except (DeviceError, CallError):
            waited = min(2 * waited, LONGEST_LOOK)
            self._gone = now + waited, waited
            return
        self._gone = None
        self._say("the device is connected again")

    def _reopen(self) -> None:
        # PortAudio lists the devices only when it is initialised.
        self._portaudio._terminate()
        self._portaudio._initialize()
        opened = self._open(self.rate)
        if opened.rate != self.rate:
            opened.stream.close()
            raise DeviceError(f"its sample rate is now {opened.rate} Hz instead of {self.rate} Hz")
        self._opened, self._due, self._in_vain = opened, None, 0.0
        self._pauses.reopen()
        self._start()

    def _callback(self, samples: NDArray[np.float32], count: int, clock: Any, status: Any) -> None:
        """Called by PortAudio, in its own thread, with samples `(S, C)` that it overwrites afterwards."""
        begun = clock.inputBufferAdcTime
        lost = 0
        if status.input_overflow:
            lost = max(round((begun - self._due) * self.rate), 1) if self._due and begun else count
        self._due = begun + count / self.rate
        mixed = samples.mean(axis=1, keepdims=True) if samples.shape[1] != self.channels else samples.copy()
        self._pauses.add(Block(mixed, time.perf_counter(), lost))
