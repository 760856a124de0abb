"""Microphones that are not there, that refuse a rate, lose samples, go and come back; by a fake `sounddevice`."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

import numpy as np
import pytest
from helpers.fake_sounddevice import FakeAudio

from soundbench.audio import microphone
from soundbench.audio.capture import Block
from soundbench.audio.microphone import Microphone, Pauses, list_devices
from soundbench.errors import CallError, DeviceError

Make = Callable[..., FakeAudio]


@pytest.fixture
def make(monkeypatch: pytest.MonkeyPatch) -> Make:
    def make(samples: np.ndarray | None = None, rate: int = 8000) -> FakeAudio:
        heard = np.random.default_rng(0).uniform(-1, 1, (4000, 1)).astype(np.float32) if samples is None else samples
        audio = FakeAudio(heard, rate)
        monkeypatch.setitem(sys.modules, "sounddevice", audio)
        return audio

    return make


def take(mic: Microphone, count: int) -> list[Block]:
    """Blocks until so many samples have come."""
    found: list[Block] = []
    until = time.monotonic() + 20
    while sum(len(block.samples) for block in found) < count:
        assert time.monotonic() < until
        found += mic.take(0.2) or []
    return found


def test_what_a_device_hears_is_given_to_the_sample(make: Make) -> None:
    audio = make()
    mic = Microphone(rate=8000)
    blocks = take(mic, 4000)
    mic.close()
    assert (mic.rate, mic.channels) == (8000, 1)
    np.testing.assert_array_equal(np.concatenate([block.samples for block in blocks])[:4000], audio.samples)
    assert all(block.lost == 0 for block in blocks)
    assert audio.streams[0].closed
    assert not audio.streams[0].active


def test_a_refused_rate_and_a_refused_single_channel_are_made_up_for(make: Make) -> None:
    stereo = np.random.default_rng(0).uniform(-1, 1, (4000, 2)).astype(np.float32)
    make(stereo, 44100).least = 2
    mic = Microphone(rate=16000)
    blocks = take(mic, 4000)
    mic.close()
    assert (mic.rate, mic.channels) == (44100, 1)
    found = np.concatenate([block.samples for block in blocks])[:4000]
    np.testing.assert_allclose(found, stereo.mean(axis=1, keepdims=True), atol=1e-6)


def test_lost_samples_are_counted_where_they_were_lost(make: Make) -> None:
    audio = make()
    audio.lose = {800: 123, 1963: 60}
    mic = Microphone(rate=8000)
    blocks = take(mic, 3000)
    mic.close()
    assert [block.lost for block in blocks if block.lost] == [123, 60]
    at = 0
    for block in blocks:
        at += block.lost
        np.testing.assert_array_equal(block.samples[: 4000 - at], audio.samples[at : at + len(block.samples)])
        at += len(block.samples)


def test_what_is_not_taken_in_time_is_lost_and_counted(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(microphone, "LONGEST_WAIT", 0.1)
    audio = make()
    mic = Microphone(rate=8000)
    while audio.at < 1700:
        time.sleep(0.01)
    blocks = take(mic, 900)
    mic.close()
    assert sum(len(block.samples) + block.lost for block in blocks) >= 1700
    assert sum(len(block.samples) for block in blocks[:10]) == 800
    assert sum(block.lost for block in blocks) >= 800


def test_a_device_that_goes_is_waited_for_ever_longer(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(microphone, "FIRST_LOOK", 0.02)
    audio, said = make(), list[str]()
    mic = Microphone("Fake", 8000, say=said.append)
    before = take(mic, 800)
    audio.vanish()
    began = time.monotonic()
    while audio.looks < 4:
        mic.take(0.05)
    assert time.monotonic() - began > 0.02 + 0.04 + 0.08 + 0.16
    assert said == ["the device is disconnected; waiting for it"]
    audio.names = ["Fake Mic"]
    after = take(mic, 160)
    gone = after[0].at - before[-1].at
    lost = sum(block.lost for block in after)
    assert 0.2 * 8000 < lost <= gone * 8000 + 1
    assert said[1:] == ["the device is connected again"]
    mic.close()
    audio.vanish()
    mic.close()


def test_a_device_that_falls_silent_has_gone_too(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(microphone, "SILENT", 0.2)
    monkeypatch.setattr(microphone, "FIRST_LOOK", 0.01)
    audio, said = make(), list[str]()
    mic = Microphone(None, 8000, say=said.append)
    take(mic, 80)
    audio.pace = 0.6
    while not said:
        mic.take(0.05)
    audio.pace = 0.001
    take(mic, 800)
    assert said == ["the device is disconnected; waiting for it", "the device is connected again"]
    mic.close()


def test_another_device_under_its_number_is_not_taken_for_it(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(microphone, "FIRST_LOOK", 0.001)
    audio = make()
    mic = Microphone("0", 8000)
    audio.vanish()
    audio.names = ["Webcam"]
    while audio.looks < 4:
        mic.take(0.05)
    assert len(audio.streams) == 1
    audio.names = ["Fake Mic"]
    take(mic, 80)
    mic.close()


def paused(waited: float, loaded: float = 0.0) -> list[Block]:
    """Blocks of 10 ms for a second, none for a second, then sound that has `waited` seconds, then a second's blocks.

    The sound that has waited arrives within `loaded` seconds.
    """
    given: list[Block] = []
    pauses = Pauses(8000, given.append)
    times = [0.01 * number for number in range(100)]
    count = round(100 * waited)
    times += [1.99 + loaded * (number + 1) / count for number in range(count)]
    times += [1.99 + loaded + 0.01 * (number + 1) for number in range(200)]
    for number, at in enumerate(times):
        pauses.add(Block(np.full((80, 1), number, np.float32), at))
    assert [int(block.samples[0, 0]) for block in given] == list(range(len(times)))
    return given


@pytest.mark.parametrize(("waited", "lost"), [(0.0, 1.0), (0.4, 0.6), (1.0, None)])
def test_what_a_device_did_not_hear_in_a_pause_is_counted_after_it(waited: float, lost: float | None) -> None:
    counted = {number: block.lost for number, block in enumerate(paused(waited)) if block.lost}
    assert counted == ({100: pytest.approx(lost * 8000, abs=1)} if lost else {})


def test_sound_that_waited_and_arrives_slowly_is_not_lost() -> None:
    assert not any(block.lost for block in paused(2.5, loaded=1.51))


def test_a_second_pause_before_the_sound_that_waited_arrives_loses_nothing() -> None:
    given: list[Block] = []
    pauses = Pauses(8000, given.append)
    for at in [0.0, 0.01, 1.01, 1.02, *([1.9] * 200), 1.91]:
        pauses.add(Block(np.zeros((80, 1), np.float32), at))
    assert len(given) == 205
    assert not any(block.lost for block in given)


def test_a_device_that_ends_after_a_pause_has_lost_what_is_missing() -> None:
    given: list[Block] = []
    pauses = Pauses(8000, given.append)
    for at in (0.0, 0.01, 1.01, 1.02):
        pauses.add(Block(np.zeros((80, 1), np.float32), at))
    assert len(given) == 2
    pauses.end()
    assert [block.lost for block in given] == [0, 0, pytest.approx(0.99 * 8000, abs=1), 0]
    pauses.reopen()
    pauses.add(Block(np.zeros((80, 1), np.float32), 3.02))
    assert given[-1].lost == pytest.approx(1.99 * 8000, abs=1)


def test_a_process_that_was_stopped_does_not_take_its_device_for_disconnected(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    make()
    said = list[str]()
    mic = Microphone(None, 8000, say=said.append)
    take(mic, 80)
    monkeypatch.setattr(microphone, "SILENT", 0.2)
    monkeypatch.setattr(mic, "_queue", Asleep())
    mic.take(0.05)
    assert not said
    mic.close()


class Asleep:
    """A queue in which the process is stopped while it waits for a block."""

    def take(self, seconds: float) -> list[Block]:
        time.sleep(seconds + 0.4)
        return []

    def offer(self, samples: np.ndarray, at: float, lost: int = 0) -> None:
        pass


def test_devices_are_listed(make: Make) -> None:
    make()
    assert list_devices() == [{"index": 0, "name": "Fake Mic", "channels": 1, "rate": 8000, "default": True}]


def test_a_machine_without_a_microphone_is_one_line(make: Make) -> None:
    audio = make()
    with pytest.raises(DeviceError, match="no single microphone matches 'USB'; known: 0 Fake Mic"):
        Microphone("USB")
    with pytest.raises(CallError, match="--channels 2: Fake Mic has 1"):
        Microphone(channels=2)
    audio.least = 2
    with pytest.raises(DeviceError, match="Fake Mic cannot be opened: Invalid sample rate"):
        Microphone(rate=16000)
    audio.known = []
    with pytest.raises(DeviceError) as caught:
        Microphone()
    assert str(caught.value) == "no microphone: this machine has no audio input device"


def test_what_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    with pytest.raises(DeviceError, match="pip install sounddevice"):
        Microphone()

    class Finder:
        def find_spec(self, name: str, path: object = None, target: object = None) -> None:
            if name == "sounddevice":
                raise OSError("PortAudio library not found")

    monkeypatch.delitem(sys.modules, "sounddevice")
    monkeypatch.setattr(sys, "meta_path", [Finder(), *sys.meta_path])
    with pytest.raises(DeviceError, match=r"PortAudio, which is not installed; .*: apt install libportaudio2"):
        list_devices()
