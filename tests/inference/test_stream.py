"""A stream gives what classifying the file gives, however it is cut; holes, gates, figures."""

from __future__ import annotations

import gc
import time
import tracemalloc
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from helpers.networks import toy_network
from helpers.toys import ToyLoss

from soundbench.data.batches import Grid
from soundbench.errors import CallError
from soundbench.inference.classifier import Classifier
from soundbench.inference.events import Event, EventRules
from soundbench.inference.stream import EventBegun, Item, Stream, StreamedWindow, stream_file
from soundbench.machine import Machine
from soundbench.model import windows
from soundbench.model.scoring import Scorer

CLASSES = ("dog", "猫", "a, b", 'say "x"', "🐦")
RULES = EventRules(on=0.22, gap=0.1)


def make(grid: Grid) -> Classifier:
    machine = Machine(torch.device("cpu"), "fp32", 1, False)
    return Classifier(Scorer(toy_network().eval(), ToyLoss(5), machine, "off"), CLASSES, 8000, grid)


@pytest.fixture(scope="module")
def classifier() -> Classifier:
    return make(Grid(1600, 1600))


def bursts(rate: int, seconds: float = 4.3) -> np.ndarray:
    """Noises of many colours and loudnesses."""
    draws = np.random.default_rng(1)
    parts = [draws.uniform(0.01, 0.3) * np.cumsum(draws.standard_normal(rate // 7)) % 1 - 0.5 for _ in range(40)]
    return np.concatenate(parts)[: round(seconds * rate)].astype(np.float32)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    soundfile.write(tmp_path / "a.wav", bursts(8000), 8000)
    return tmp_path / "a.wav"


def cut(samples: np.ndarray, sizes: int | str) -> Iterator[np.ndarray]:
    draws, at = np.random.default_rng(2), 0
    while at < len(samples):
        size = int(draws.integers(0, 4000)) if sizes == "any" else int(sizes)
        yield samples[at : at + size]
        at += size


def windows_of(items: list[Item]) -> list[StreamedWindow]:
    return [item for item in items if isinstance(item, StreamedWindow)]


def events_of(items: list[Item]) -> list[Event]:
    return sorted((item for item in items if isinstance(item, Event)), key=lambda event: (event.start, event.label))


def same_events(found: list[Event], wanted: list[Event]) -> bool:
    wanted = sorted(wanted, key=lambda event: (event.start, event.label))
    told = [(event.label, event.start, event.end) for event in found]
    return told == [(event.label, event.start, event.end) for event in wanted] and [e.score for e in found] == (
        pytest.approx([e.score for e in wanted], abs=1e-5)
    )


@pytest.mark.parametrize(
    ("sizes", "hop"), [(1, 0.13), *product([160, 999, 20000, 40000, "any"], [None, 0.05, 0.13, 0.31])]
)
def test_a_stream_gives_the_windows_scores_and_events_of_the_file(
    classifier: Classifier, path: Path, sizes: int | str, hop: float | None
) -> None:
    samples = soundfile.read(path, dtype="float32")[0]
    found = list(classifier.stream(cut(samples, sizes), hop=hop, rules=RULES))
    wanted = list(classifier.windows(path, hop=hop))
    assert [(w.start, w.end) for w in windows_of(found)] == [(w.start, w.end) for w in wanted]
    for one, other in zip(windows_of(found), wanted, strict=True):
        assert one.scores == pytest.approx(other.scores, abs=1e-5)
    events = classifier.events(path, rules=RULES, hop=hop)
    assert events
    assert same_events(events_of(found), events)


@pytest.mark.parametrize(("window", "hop"), [(0.1, None), (0.1, 0.03), (0.5, 0.2), (9.0, None)])
def test_windows_of_another_length_are_the_same_too(
    classifier: Classifier, path: Path, window: float, hop: float | None
) -> None:
    wanted = list(classifier.windows(path, window=window, hop=hop))
    events = classifier.events(path, rules=RULES, window=window, hop=hop)
    assert events or window > 4
    blocks = cut(soundfile.read(path, dtype="float32")[0], "any")
    stream = Stream(classifier, rules=RULES, window=window, hop=hop)
    for found in (
        list(classifier.stream(blocks, rules=RULES, window=window, hop=hop)),
        [*stream_file(stream, path), *stream.finish()],
    ):
        assert [(w.start, w.end) for w in windows_of(found)] == [(w.start, w.end) for w in wanted]
        assert same_events(events_of(found), events)


@pytest.mark.parametrize("trim", ["off", 25.0])
@pytest.mark.parametrize("rate", [8000, 11025])
def test_a_file_of_any_rate_and_trimmed_is_the_same(tmp_path: Path, trim: float, rate: int) -> None:
    quiet = np.zeros(rate // 2, np.float32)
    soundfile.write(tmp_path / "b.flac", np.concatenate([quiet, bursts(rate), quiet]), rate)
    classifier = make(Grid(1600, 1000, trim))  # type: ignore[arg-type]
    stream = Stream(classifier, rules=RULES)
    found = [*stream_file(stream, tmp_path / "b.flac"), *stream.finish()]
    wanted = list(classifier.windows(tmp_path / "b.flac"))
    assert [(w.start, w.end) for w in windows_of(found)] == [(w.start, w.end) for w in wanted]
    for one, other in zip(windows_of(found), wanted, strict=True):
        assert one.scores == pytest.approx(other.scores, abs=1e-5)
    assert same_events(events_of(found), classifier.events(tmp_path / "b.flac", rules=RULES))


def test_another_rate_is_resampled_little_by_little(
    classifier: Classifier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    samples = bursts(44100)
    soundfile.write(tmp_path / "c.wav", samples, 44100, subtype="FLOAT")
    monkeypatch.setattr(windows, "WHOLE", 1)  # as a long file is
    wanted = list(classifier.windows(tmp_path / "c.wav", hop=0.1))
    for sizes in (441, "any"):
        found = windows_of(list(classifier.stream(cut(samples, sizes), 44100, hop=0.1)))
        assert [(w.start, w.end) for w in found] == [(w.start, w.end) for w in wanted]
        for one, other in zip(found, wanted, strict=True):
            assert one.scores == pytest.approx(other.scores, abs=1e-4)


def test_short_and_empty_streams(classifier: Classifier) -> None:
    assert list(classifier.stream([])) == []
    (window,) = windows_of(list(classifier.stream([np.full(50, 0.1, np.float32)])))
    assert (window.start, window.end) == (0, 50 / 8000)
    with pytest.raises(CallError, match="rate must be a sample rate in Hz, above 0, is -1"):
        Stream(classifier, -1)


def test_every_event_is_begun_once_before_it_is_over(classifier: Classifier) -> None:
    found = list(classifier.stream(cut(bursts(8000), 500), hop=0.05, rules=EventRules(on=0.23, shortest=0.15)))
    begun: dict[tuple[str, float], int] = {}
    over = 0
    for item in found:
        if isinstance(item, EventBegun):
            key = item.event.label, item.event.start
            assert key not in begun
            begun[key] = 1
        elif isinstance(item, Event):
            assert (item.label, item.start) in begun
            over += 1
    assert over == len(begun) > 0


def test_the_gate_leaves_quiet_windows_unscored(classifier: Classifier, monkeypatch: pytest.MonkeyPatch) -> None:
    rows: list[int] = []
    scored = Scorer.rated

    def count(self: Classifier, raw: object) -> np.ndarray:
        found: np.ndarray = scored(self, raw)  # type: ignore[arg-type]
        rows.append(len(found))
        return found

    monkeypatch.setattr(Scorer, "rated", count)
    loud, quiet = bursts(8000, 1.0), np.full(8000, 1e-3, np.float32)
    stream = Stream(classifier, gate=-50, rules=EventRules(on=0.0))
    found = [*stream.feed(np.concatenate([quiet, loud, quiet])), *stream.finish()]
    assert [window.start for window in windows_of(found)] == pytest.approx([1.0, 1.2, 1.4, 1.6, 1.8])
    assert (stream.figures.windows, stream.figures.gated, sum(rows)) == (5, 10, 5)
    assert all(window.level > -50 for window in windows_of(found))
    plain = Stream(classifier, gate=-70)
    assert len(windows_of(list(plain.feed(quiet)))) == 5


def test_no_window_spans_a_hole_and_times_go_on_behind_it(classifier: Classifier) -> None:
    samples = bursts(8000)
    stream = Stream(classifier)
    found = list(stream.feed(samples[:2000]))
    found += stream.feed(samples[10000:13500], lost=8000)
    found += stream.feed(samples[:100], lost=8000 * 86400)
    found += stream.finish()
    assert [window.start for window in windows_of(found)] == pytest.approx([0, 1.25, 1.45, 86400 + 13500 / 8000])
    alone = classifier.predict(samples[11600:13200], 8000)
    assert windows_of(found)[2].scores == pytest.approx(alone.scores, abs=1e-3)
    assert stream.figures.dropped == 8000 + 8000 * 86400


def test_sound_that_was_kept_is_given_again(classifier: Classifier) -> None:
    samples = bursts(8000)
    stream = Stream(classifier, keep=1.0)
    for block in cut(samples, 700):
        list(stream.feed(block))
    np.testing.assert_array_equal(stream.sound(3.5, 4.0), samples[28000:32000])
    assert len(stream.sound(0, 100)) == 8000


def test_figures_of_a_stream(classifier: Classifier, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "perf_counter", iter(np.arange(1000.0)).__next__)
    stream = Stream(classifier)
    for block in cut(bursts(8000, 2.0), 1600):
        list(stream.feed(block, at=0.0))
    figures = stream.figures
    assert (figures.seconds, figures.windows, figures.dropped) == (2.0, 10, 0)
    assert 1 <= figures.latency_p50 <= figures.latency_p95 <= 1000
    assert figures.core >= 0


def test_memory_does_not_grow_with_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is computed is left out: it is what is kept that could grow."""
    monkeypatch.setattr(Scorer, "rated", lambda self, raw: np.full((len(raw.index), 5), 0.2, np.float32))
    monkeypatch.setattr("soundbench.inference.stream.LATENCIES", 64)
    stream, stretch = Stream(make(Grid(8000, 8000)), 16000, keep=2.0), np.zeros(16000 * 10, np.float32)
    peaks = []
    tracemalloc.start()
    for number in range(60):
        for _ in stream.feed(stretch):
            pass
        if number in (2, 59):
            gc.collect()
            peaks.append(tracemalloc.get_traced_memory()[0])
    tracemalloc.stop()
    assert stream.figures.windows + 1 >= 60 * 10
    assert peaks[1] < peaks[0] + 500_000  # of 38 MB that were processed
