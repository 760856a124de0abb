"""Events of scores, against what a plain reading of the rules gives, and in any blocks."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from soundbench.errors import CallError
from soundbench.inference.events import Event, EventFinder, EventRules, find_events

CLASSES = ("dog", "猫", "bell")
SEEDS = range(60)


def times(count: int, window: float = 1.0, hop: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    starts = hop * np.arange(count)
    return starts, starts + window


def plain(scores: list[float], rules: EventRules | None = None, hop: float = 1.0) -> list[tuple[float, float]]:
    """The spans of one class's events in windows of 1 s."""
    found = find_events(np.array(scores)[:, None], *times(len(scores), hop=hop), ["a"], rules or EventRules())
    return [(event.start, event.end) for event in found]


def read(scores: np.ndarray, starts: np.ndarray, ends: np.ndarray, rules: EventRules) -> set[tuple[str, float, float]]:
    """The rules, read plainly: of each class its cells, its runs of cells, those joined, those kept."""
    half = rules.smooth // 2
    smooth = np.array([scores[max(i - half, 0) : i + half + 1].mean(axis=0) for i in range(len(scores))])
    middles = (starts + ends) / 2
    cells = [[start, end] for start, end in zip(starts, ends, strict=True)]
    for i in range(len(cells) - 1):
        if starts[i + 1] <= ends[i]:
            between = np.clip((middles[i] + middles[i + 1]) / 2, starts[i + 1], ends[i])
            cells[i][1] = cells[i + 1][0] = between
    found = set()
    off = 0.8 * np.asarray(rules.on) if rules.off is None else rules.off
    for number, label in enumerate(CLASSES):
        stretches: list[list[int]] = []  # of cells from `off` on that touch
        for i in np.flatnonzero(smooth[:, number] >= off).tolist():
            if stretches and stretches[-1][-1] == i - 1 and starts[i] <= ends[i - 1]:
                stretches[-1].append(i)
            else:
                stretches.append([i])
        runs: list[list[float]] = []
        for stretch in (one for one in stretches if smooth[one, number].max() >= rules.on):
            start, end = cells[stretch[0]][0], cells[stretch[-1]][1]
            if runs and start - runs[-1][1] <= rules.gap:
                runs[-1][1] = end
            else:
                runs.append([start, end])
        free = -np.inf
        for start, end in runs:
            if end - start >= rules.shortest and start >= free:
                found.add((label, round(start, 6), round(end, 6)))
                free = end + rules.refractory
    return found


def drawn(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, EventRules]:
    """Scores that wander, windows that overlap, touch or leave holes, and rules; times are no multiples of each other,
    so that no comparison is a matter of rounding."""
    draws = np.random.default_rng(seed)
    count = int(draws.integers(1, 80))
    wander = np.cumsum(draws.normal(0, 0.25, (count, 3)), axis=0)
    scores = (0.5 + 0.5 * np.sin(wander)).astype(np.float32)
    hop, window = draws.uniform(0.3, 2), draws.uniform(0.3, 2)
    starts = hop * np.arange(count) + np.cumsum(draws.random(count) < 0.05) * draws.uniform(0, 3)
    on = draws.uniform(0.3, 0.9)
    rules = EventRules(
        on=on,
        off=draws.choice([None, on * draws.uniform(0.3, 1)]),
        smooth=int(draws.choice([1, 3, 5, 9])),
        shortest=draws.choice([0, draws.uniform(0, 4)]),
        gap=draws.choice([0, draws.uniform(0, 4)]),
        refractory=draws.choice([0, draws.uniform(0, 8)]),
    )
    return scores, starts, starts + window, rules


@pytest.mark.parametrize("seed", SEEDS)
def test_events_are_what_a_plain_reading_of_the_rules_gives(seed: int) -> None:
    scores, starts, ends, rules = drawn(seed)
    found = find_events(scores, starts, ends, CLASSES, rules)
    told = {(event.label, round(event.start, 6), round(event.end, 6)) for event in found}
    assert told == read(scores, starts, ends, rules)
    assert len(told) == len(found)
    assert [event.start for event in found] == sorted(event.start for event in found)


@pytest.mark.parametrize("seed", SEEDS)
def test_how_windows_are_cut_into_blocks_changes_nothing(seed: int) -> None:
    scores, starts, ends, rules = drawn(seed)
    draws = np.random.default_rng([seed, 1])
    whole = find_events(scores, starts, ends, CLASSES, rules)
    for most in (1, 2, 7, 80):
        finder = EventFinder(CLASSES, rules)
        cuts = [0, *np.cumsum(draws.integers(0, most + 1, 5 * len(scores))).clip(max=len(scores)), len(scores)]
        told = [
            event for cut in pairwise(cuts) for event in finder.feed(*(x[slice(*cut)] for x in (scores, starts, ends)))
        ]
        told += finder.finish()
        assert sorted(told, key=lambda event: event.start) == whole
        assert len(finder._windows) <= rules.smooth


@pytest.mark.parametrize("seed", SEEDS)
def test_what_is_under_way_is_reported_in_the_end_and_each_event_was_under_way(seed: int) -> None:
    scores, starts, ends, rules = drawn(seed)
    finder = EventFinder(CLASSES, rules)
    going: set[tuple[str, float]] = set()
    told: list[Event] = []
    for window in zip(scores, starts, ends, strict=True):
        told += finder.feed(*([part] for part in window))
        going |= {(event.label, event.start) for event in finder.under_way()}
    told += finder.finish()
    assert not finder.under_way()
    begun = {(event.label, event.start) for event in told}
    assert going <= begun
    if rules.shortest == 0 and rules.smooth == 1:
        assert going == begun


def test_an_event_reaches_on_and_lasts_while_its_score_is_not_below_off() -> None:
    assert plain([0.3, 0.4, 0.5, 0.45, 0.4, 0.39, 0.49, 0.45]) == [(1, 5)]
    assert plain([0.3, 0.4, 0.5, 0.45, 0.4, 0.39, 0.49, 0.6, 0.1], EventRules(off=0.1)) == [(0, 9)]
    assert plain([0.4, 0.5, 0.45, 0.5], EventRules(off=0.5)) == [(1, 2), (3, 4)]


def test_an_event_is_known_when_it_reaches_on_and_began_where_it_rose() -> None:
    finder = EventFinder(["a"], EventRules(off=0.2))
    going = []
    for at, score in enumerate([0.1, 0.3, 0.3, 0.6, 0.3]):
        finder.feed([[score]], [at], [at + 1])
        going.append([event.start for event in finder.under_way()])
    assert going == [[], [], [], [1], [1]]


def test_an_event_waits_for_what_rises_within_its_gap() -> None:
    assert plain([0.6, 0.1, 0.3, 0.3, 0.3, 0.6], EventRules(off=0.2, gap=1)) == [(0, 6)]
    assert plain([0.6, 0.1, 0.1, 0.3, 0.3, 0.6], EventRules(off=0.2, gap=1)) == [(0, 1), (3, 6)]
    assert plain([0.6, 0.1, 0.3, 0.3, 0.3, 0.1], EventRules(off=0.2, gap=1)) == [(0, 1)]


def test_overlapping_windows_share_the_time_between_their_middles() -> None:
    assert plain([0, 0, 1, 1, 0, 0], hop=0.5) == [(1.25, 2.25)]
    assert plain([1, 0, 0, 0, 0, 1], hop=0.5) == [(0, 0.75), (2.75, 3.5)]
    last = find_events([[0], [0], [1]], [0, 1, 1.4], [1, 2, 2.4], ["a"], EventRules())
    assert [(event.start, event.end) for event in last] == [(pytest.approx(1.7), 2.4)]


def test_in_a_hole_between_windows_nothing_sounds() -> None:
    scores, starts, ends = [[1], [1]], [0, 5], [1, 6]
    spans = [(event.start, event.end) for event in find_events(scores, starts, ends, ["a"], EventRules())]
    assert spans == [(0, 1), (5, 6)]
    (joined,) = find_events(scores, starts, ends, ["a"], EventRules(gap=4))
    assert (joined.start, joined.end) == (0, 6)


def test_gaps_are_joined_before_short_ones_are_dropped() -> None:
    scores = [1, 0, 1, 0, 0, 0, 1, 0]
    assert plain(scores, EventRules(gap=1)) == [(0, 3), (6, 7)]
    assert plain(scores, EventRules(gap=1, shortest=2)) == [(0, 3)]
    assert plain(scores, EventRules(shortest=2)) == []


def test_within_the_refractory_time_of_a_class_none_of_it_begins_and_others_do() -> None:
    assert plain([1, 0, 1, 0, 1], EventRules(refractory=2)) == [(0, 1), (4, 5)]
    scores = np.array([[1, 0], [0, 1], [1, 0], [0, 1], [1, 0]])
    found = find_events(scores, *times(5), ["a", "b"], EventRules(refractory=(2, 0)))
    assert [(event.label, event.start) for event in found] == [("a", 0), ("b", 1), ("b", 3), ("a", 4)]


def test_smoothing_averages_over_neighbours_and_what_there_is_at_the_ends() -> None:
    scores = [0.0, 0.0, 0.9, 0.0, 0.0, 0.9, 0.6]
    assert plain(scores, EventRules(smooth=3, on=0.5)) == [(5, 7)]
    (event,) = find_events(np.array(scores)[:, None], *times(7), ["a"], EventRules(smooth=3))
    assert event.score == pytest.approx(0.75)


def test_each_class_has_its_own_threshold() -> None:
    found = find_events([[0.3, 0.3, 0.3]], [0], [2], CLASSES, EventRules(on=[0.3, 0.31, 0.1]))
    assert [event.to_dict() for event in found] == [
        {"label": "dog", "start": 0.0, "end": 2.0, "score": 0.3},
        {"label": "bell", "start": 0.0, "end": 2.0, "score": 0.3},
    ]


def test_an_event_is_reported_as_soon_as_nothing_can_change_it() -> None:
    finder = EventFinder(["a"], EventRules(gap=1))
    assert [finder.feed([[score]], [at], [at + 1]) for at, score in enumerate([1, 0])] == [[], []]
    assert finder.feed([[0]], [2], [3]) == [Event("a", 0, 1, 1)]
    assert EventFinder(["a"], EventRules()).feed([[1], [0]], [0, 1], [1, 2]) == [Event("a", 0, 1, 1)]


def test_of_no_windows_there_are_no_events() -> None:
    assert find_events(np.empty((0, 3)), [], [], CLASSES, EventRules()) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"smooth": 2}, "smooth must be odd and at least 1, is 2"),
        ({"smooth": 0}, "smooth must be odd and at least 1, is 0"),
        ({"gap": -1.0}, "gap must be at least 0, is -1.0"),
        ({"on": float("nan")}, "on must be at least 0, is nan"),
        ({"on": 0.5, "off": 0.6}, "off must be at most on (0.5), is 0.6"),
    ],
)
def test_rules_that_make_no_sense_are_refused(options: dict[str, float], message: str) -> None:
    with pytest.raises(CallError) as caught:
        EventRules(**options)  # type: ignore[arg-type]
    assert str(caught.value) == message


def test_windows_that_do_not_fit_are_refused() -> None:
    for scores, starts in (([[1, 2]], [0]), ([1], [0]), ([[1]], [0, 1])):
        with pytest.raises(CallError, match="do not fit"):
            find_events(scores, starts, [1], ["a"], EventRules())
    with pytest.raises(CallError, match="on: 2 numbers for 1 classes"):
        EventFinder(["a"], EventRules(on=(0.1, 0.2)))
    with pytest.raises(CallError, match="windows must be in order: one at 1 s follows one at 2 s"):
        find_events([[1], [1]], [2, 1], [3, 2], ["a"], EventRules())
