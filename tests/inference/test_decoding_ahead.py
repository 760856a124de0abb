"""Sounds decoded ahead of the scoring: their order, how far ahead, and what becomes of those that fail or hang."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import suppress
from inspect import CO_GENERATOR
from pathlib import Path
from queue import SimpleQueue
from types import FrameType

import numpy as np
import pytest
import soundfile

from soundbench import audio
from soundbench.data.windowing.grid import Grid
from soundbench.inference.batching import ahead
from soundbench.inference.batching.ahead import cut_all
from soundbench.inference.predictions import EndOfSound
from soundbench.model.windows import cut_windows

GRID = Grid(800, 800)


@pytest.fixture(autouse=True)
def four_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ahead, "auto_threads", lambda _processes: 4)


@pytest.fixture
def paths(tmp_path: Path) -> list[Path]:
    """Forty sounds of 0.05 to 2 s, and one of 11."""
    noise = 0.1 * np.random.default_rng(0).standard_normal(88_000)
    found = [tmp_path / f"{number:02}.wav" for number in range(41)]
    for number, path in enumerate(found):
        soundfile.write(path, noise[number * 100 :][: 88_000 if number == 7 else 400 * (number + 1)], 8000)
    return found


def decoding() -> int:
    return sum(thread.name == "decoding" for thread in threading.enumerate())


def test_windows_are_those_of_each_sound_alone_in_order(paths: list[Path]) -> None:
    paths[20].unlink()  # since it was listed
    paths[30].write_text("no sound")
    rest = cut_all(paths, None, 8000, GRID)
    for number, path in enumerate(paths):
        if number not in (20, 30):
            for wanted in cut_windows(path, None, 8000, GRID):
                sound, cut = next(rest)  # type: ignore[misc]
                assert (sound, cut.start, cut.scale) == (number, wanted.start, wanted.scale)
                np.testing.assert_array_equal(cut.samples, wanted.samples)
        end = next(rest)
        assert isinstance(end, EndOfSound)
        assert end.sound == number
        if number in (20, 30):
            assert end.error is not None
            assert end.error.reason.startswith("no such file" if number == 20 else "is not a sound file")
        else:
            assert (end.error, end.seconds) == (None, pytest.approx(soundfile.info(path).frames / 8000))
    assert list(rest) == []
    assert decoding() == 0


def test_sounds_are_decoded_while_nobody_waits_but_not_all(paths: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[str] = []
    four = threading.Event()
    blocks = audio.blocks

    def noted(path: Path, *more: object) -> Iterator[np.ndarray]:
        begun.append(path.name)
        if len(begun) >= 5:
            four.set()
        return blocks(path, *more)  # type: ignore[arg-type]

    monkeypatch.setattr(audio, "blocks", noted)
    monkeypatch.setattr(ahead, "_SOUNDS", 5)
    cuts = cut_all(paths, None, 8000, GRID)
    next(cuts)
    assert four.wait(20)
    time.sleep(0.2)
    assert sorted(begun) == [path.name for path in paths[:5]]
    monkeypatch.setattr(ahead, "_SOUNDS", 100)
    monkeypatch.setattr(ahead, "_SECONDS", 0)  # what waits holds enough
    for one in cuts:
        if isinstance(one, EndOfSound):
            assert len(begun) <= max(5, one.sound + 1)
    assert sorted(begun) == [path.name for path in paths]


def test_half_of_the_threads_work_ahead_while_windows_are_scored_and_all_where_the_scores_wait(
    paths: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    at_work: list[int] = []
    seen: list[int] = []

    def slowly(*args: object) -> Iterator[object]:
        at_work.append(1)
        seen.append(len(at_work))
        time.sleep(0.01)
        at_work.pop()
        yield from ()

    monkeypatch.setattr(ahead, "cut_windows", slowly)
    rest = cut_all(paths * 4, None, 8000, GRID)
    next(rest)  # the threads have begun, perhaps several sounds
    time.sleep(0.05)
    seen.clear()
    until = time.monotonic() + 20
    while len(seen) < 5 and time.monotonic() < until:  # what scoring would take
        time.sleep(0.01)
    assert len(seen) >= 5
    assert max(seen) <= 2
    list(rest)
    seen.clear()
    assert len(list(cut_all(paths, None, 8000, GRID))) == len(paths)
    assert max(seen) > 2


@pytest.mark.parametrize("hop", [25, 8000])
def test_sounds_that_wait_count_as_a_whole_though_windows_are_short(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hop: int
) -> None:
    """The first windows are a tenth of a second; all of the sound is in memory."""
    path = tmp_path / "long.wav"
    soundfile.write(path, np.zeros(30 * 8000), 8000)
    begun: list[str] = []
    blocks = audio.blocks

    def noted(path: Path, *more: object) -> Iterator[np.ndarray]:
        begun.append(path.name)
        return blocks(path, *more)  # type: ignore[arg-type]

    monkeypatch.setattr(audio, "blocks", noted)
    cuts = cut_all([path] * 60, None, 8000, Grid(25, hop))
    next(cuts)
    time.sleep(0.5)
    assert len(begun) <= 1 + 240 // 30 + 4  # the first, those that wait, and one for each thread
    cuts.close()  # type: ignore[attr-defined]


def test_a_list_may_change_while_its_files_are_scored(paths: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ahead, "_SOUNDS", 2)
    ends = []
    for one in cut_all(paths, None, 8000, GRID):
        if isinstance(one, EndOfSound):
            ends.append(one.sound)
            paths.clear()
    assert ends == list(range(41))


def test_many_bad_files_have_their_errors_in_their_places(tmp_path: Path) -> None:
    """More than are read ahead."""
    bad = tmp_path / "bad.wav"
    bad.write_text("no sound")
    good = tmp_path / "good.wav"
    soundfile.write(good, np.zeros(400), 8000)
    ends = [one for one in cut_all([good, *[bad] * 1500, good], None, 8000, GRID) if isinstance(one, EndOfSound)]
    assert [one.error is None for one in ends] == [True] + [False] * 1500 + [True]


def test_what_is_odd_is_said_in_the_order_of_the_sounds(
    tmp_path: Path, paths: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    blocks = audio.blocks

    def slow_at_first(path: Path, *more: object) -> Iterator[np.ndarray]:
        time.sleep(0.1 if path == paths[0] else 0)
        return blocks(path, *more)  # type: ignore[arg-type]

    monkeypatch.setattr(audio, "blocks", slow_at_first)
    for path in paths[:3]:
        soundfile.write(path, np.full(800, 1e5), 8000, subtype="FLOAT")
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        list(cut_all(paths, None, 8000, GRID))
    assert [str(one.message).split(":")[0] for one in said] == [str(path) for path in paths[:3]]


def test_what_else_fails_is_raised_when_its_turn_comes(paths: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = audio.blocks

    def failing(path: Path, *more: object) -> Iterator[np.ndarray]:
        if path == paths[3]:
            raise ZeroDivisionError("a mistake in a decoder")
        return blocks(path, *more)  # type: ignore[arg-type]

    monkeypatch.setattr(audio, "blocks", failing)
    cuts = cut_all(paths, None, 8000, GRID)
    while not isinstance(one := next(cuts), EndOfSound) or one.sound < 2:
        pass
    with pytest.raises(ZeroDivisionError, match="a mistake in a decoder"):
        next(cuts)
    assert decoding() == 0


def test_nothing_is_left_at_work_when_the_rest_is_not_wanted(paths: list[Path]) -> None:
    cuts = cut_all(paths, None, 8000, GRID)
    next(cuts)
    assert decoding() == 4
    cuts.close()  # type: ignore[attr-defined]
    assert decoding() == 0


def test_ctrl_c_ends_it_at_whichever_moment_it_comes(paths: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """Python calls a signal's handler where functions begin and after they have returned: here at each of these."""
    monkeypatch.setattr(ahead, "cut_windows", lambda *_: time.sleep(0.0002) or iter(()))
    ended = ahead._Work.end.__code__
    for moment in range(200):
        left = moment

        def tracing(frame: FrameType, event: str, _: object) -> object:
            nonlocal left
            code = frame.f_code
            if code is ended:
                sys.settrace(None)
            elif code.co_filename not in (ahead.__file__, threading.__file__):
                return None
            elif event == "call" or (event == "return" and not code.co_flags & CO_GENERATOR):
                left -= 1
                if left < 0:
                    sys.settrace(None)
                    raise KeyboardInterrupt
            return tracing

        cuts = cut_all(paths[:2], None, 8000, GRID)
        next(cuts)
        with suppress(KeyboardInterrupt):
            sys.settrace(tracing)
            try:
                list(cuts)
            finally:
                sys.settrace(None)
        assert decoding() == 0, moment
        if left >= 0:  # all came to its end before
            break
    assert 10 < moment < 100


HANGING = """
import os, signal, threading
from soundbench import audio
from soundbench.data.windowing.grid import Grid
from soundbench.inference.batching.ahead import cut_all

def hang(path, *more):
    os.write(1, b"hangs\\n")  # at once: the threads' lines must not mix
    threading.Event().wait()

audio.blocks = hang
signal.signal(signal.SIGINT, signal.default_int_handler)  # a program in the background may be started without it
list(cut_all(["a.wav", "b.wav"], None, 8000, Grid(800, 800)))
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_decoder_that_hangs_does_not_hold_a_process_that_is_stopped(number: signal.Signals) -> None:
    with subprocess.Popen([sys.executable, "-c", HANGING], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"hangs\n"
            process.send_signal(number)
            _, errors = process.communicate(timeout=30)
        finally:
            process.kill()
    assert process.returncode == -number
    assert (b"KeyboardInterrupt" in errors) == (number == signal.SIGINT)


LEFT = """
import sys
from soundbench.data.windowing.grid import Grid
from soundbench.inference.batching import ahead

ahead._SECONDS = 1e9
ahead.auto_threads = lambda _processes: 8
cuts = ahead.cut_all([sys.argv[1]] * 400, None, 16000, Grid(16000, 16000))
next(cuts)
"""


class QueueOfWindows(SimpleQueue[None]):
    """A queue at which Ctrl-C cannot interrupt the main thread, as on Windows: it may wait only for a while."""

    def get(self, block: bool = True, timeout: float | None = None) -> None:
        assert timeout is not None or threading.current_thread() is not threading.main_thread()
        return super().get(block, timeout)


def test_the_one_that_scores_waits_only_for_a_while_at_a_time(
    paths: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ahead, "SimpleQueue", QueueOfWindows)
    monkeypatch.setattr(ahead, "_GLANCE", 0.0005)  # it often ends before anything has come
    ends = [one.sound for one in cut_all(paths, None, 8000, GRID) if isinstance(one, EndOfSound)]
    assert ends == list(range(len(paths)))


def test_a_program_may_end_while_sounds_are_decoded(tmp_path: Path) -> None:
    path = tmp_path / "noise.wav"
    soundfile.write(path, 0.1 * np.random.default_rng(0).standard_normal(20 * 44_100), 44_100)
    done = subprocess.run([sys.executable, "-c", LEFT, path], capture_output=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, b"")
