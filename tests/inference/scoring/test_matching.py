"""Events against annotations: the pairs, and figures that sed_eval 0.2.1 gives.

The expected figures were printed by this file, run as a script with sed_eval installed: it scores the same lists with
`EventBasedMetrics(t_collar, evaluate_offset=False)` and `SegmentBasedMetrics(time_resolution=1/64)`;
sed_eval has no figures by overlap, so there its matching and counting are used with that condition.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest

from soundbench.contracts import Annotation
from soundbench.inference.events import Event
from soundbench.inference.scoring.figures import Criteria, Scored, assess_events
from soundbench.inference.scoring.matching import by_onset, by_overlap, in_common, spans_of

CLASSES = ("dog", "rain", "siren")
COLLARS = (0.25, 0.5)
GRID = 64  # times are multiples of 1/64 s, which floats hold exactly
SED_EVAL = {  # F1, precision and recall
    "onset 0.25": [0.458333, 0.44, 0.478261],
    "onset 0.25 dog": [0.509091, 0.5, 0.518519],
    "onset 0.25 rain": [0.482759, 0.5, 0.466667],
    "onset 0.25 siren": [0.4, 0.363636, 0.444444],
    "onset 0.5": [0.625, 0.6, 0.652174],
    "onset 0.5 dog": [0.763636, 0.75, 0.777778],
    "onset 0.5 rain": [0.482759, 0.5, 0.466667],
    "onset 0.5 siren": [0.566667, 0.515152, 0.62963],
    "overlap": [0.694444, 0.666667, 0.724638],
    "overlap dog": [0.872727, 0.857143, 0.888889],
    "overlap rain": [0.413793, 0.428571, 0.4],
    "overlap siren": [0.666667, 0.606061, 0.740741],
    "time": [0.737878, 0.773686, 0.705238],
    "time dog": [0.871259, 0.885726, 0.857257],
    "time rain": [0.542916, 0.723932, 0.434316],
    "time siren": [0.705812, 0.672528, 0.742562],
}


def on_grid(times: Any) -> np.ndarray:
    return np.round(np.asarray(times) * GRID) / GRID


def lists() -> list[Scored]:
    """Six recordings of a minute: annotations, and events that are these moved, cut, missing, wrong or in excess."""
    random, found = np.random.default_rng(7), []
    for number in range(6):
        annotations, events = [], []
        for label in CLASSES:
            for start in np.sort(random.uniform(0, 50, random.integers(0, 9))):
                span = on_grid([start, start + random.uniform(0.3, 6)])
                annotations.append(Annotation(label, *span.tolist()))
                for _ in range(random.choice([0, 1, 1, 1, 2])):
                    moved = on_grid(span + random.normal(0, 0.4, 2)).clip(0)
                    named = label if random.random() < 0.8 else str(random.choice(CLASSES))
                    if moved[1] > moved[0] + 0.05:
                        events.append(Event(named, *moved.tolist(), 0.9))
        found.append(Scored(f"{number}.wav", f"{number}.wav", 60.0, annotations, events))
    return found


def sed_eval_figures() -> dict[str, Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import dcase_util
        import sed_eval

    class Overlaps(sed_eval.sound_event.EventBasedMetrics):  # type: ignore[misc]
        """An event is right if it shares 0.3 of the time that either has, instead of by its onset."""

        @staticmethod
        def validate_onset(reference_event: Any, estimated_event: Any, t_collar: float = 0.2) -> bool:
            spans = [(one["onset"], one["offset"]) for one in (reference_event, estimated_event)]
            both = min(span[1] for span in spans) - max(span[0] for span in spans)
            return both >= 0.3 * (max(span[1] for span in spans) - min(span[0] for span in spans))

    made = {
        **{
            f"onset {c}": sed_eval.sound_event.EventBasedMetrics(list(CLASSES), True, False, t_collar=c)
            for c in COLLARS
        },
        "overlap": Overlaps(list(CLASSES), True, False),
        "time": sed_eval.sound_event.SegmentBasedMetrics(list(CLASSES), time_resolution=1 / GRID),
    }
    for one in lists():
        rows = [[(a.label, a.start, a.stop) for a in one.annotations], [(e.label, e.start, e.end) for e in one.events]]
        reference, estimated = (
            dcase_util.containers.MetaDataContainer(
                [{"event_label": label, "onset": a, "offset": b, "filename": one.path} for label, a, b in listed]
            )
            for listed in rows
        )
        for metric in made.values():
            metric.evaluate(reference_event_list=reference, estimated_event_list=estimated)
    found: dict[str, Any] = {}
    for name, metric in made.items():
        overall = metric.results_overall_metrics()["f_measure"]
        each = metric.results_class_wise_metrics()
        found[name] = [overall[key] for key in ("f_measure", "precision", "recall")]
        for label in CLASSES:
            own = each[label]["f_measure"]
            found[f"{name} {label}"] = [own[key] for key in ("f_measure", "precision", "recall")]
    return found


def figures(name: str, found: dict[str, Any]) -> list[float]:
    return [found[f"{name}_{figure}"] for figure in ("f1", "precision", "recall")]


@pytest.mark.parametrize("collar", COLLARS)
def test_the_figures_are_those_of_sed_eval(collar: float) -> None:
    found = assess_events(lists(), CLASSES, Criteria(collar=collar), resamples=0)
    overall = {name: figure["value"] for name, figure in found["metrics"].items()}
    for name, key in (("onset", f"onset {collar}"), ("overlap", "overlap"), ("time", "time")):
        assert figures(name, overall) == pytest.approx(SED_EVAL[key], abs=1e-6)
        for row in found["per_class"]:
            assert figures(name, row) == pytest.approx(SED_EVAL[f"{key} {row['class']}"], abs=1e-6)


def test_sed_eval_still_gives_them() -> None:
    pytest.importorskip("sed_eval")
    assert {name: pytest.approx(values, abs=1e-6) for name, values in sed_eval_figures().items()} == SED_EVAL


def test_false_alarms_an_hour_are_events_without_a_partner() -> None:
    """2 of 3 events are right in a recording of 30 minutes; 1 of 2 in one of an hour."""
    annotations = [Annotation("dog", 10, 12), Annotation("dog", 20, 22)]
    events = [Event("dog", 10.1, 12, 0.9), Event("dog", 20.1, 22, 0.9), Event("dog", 40, 42, 0.9)]
    found = assess_events(
        [
            Scored("a.wav", "a", 1800.0, annotations, events),
            Scored("b.wav", "b", 3600.0, annotations[:1], events[:1] + events[2:]),
        ],
        ("dog",),
        Criteria(),
    )
    assert found["hours"] == 1.5
    for name in ("onset", "overlap"):
        figure = found["metrics"][f"{name}_false_alarms_per_hour"]
        assert figure["value"] == pytest.approx(2 / 1.5)
        assert figure["low"] <= figure["value"] <= figure["high"]
    assert found["metrics"]["onset_precision"]["value"] == pytest.approx(3 / 5)
    assert found["metrics"]["onset_recall"]["value"] == 1


def test_nothing_annotated_and_nothing_found_has_no_figures_but_no_false_alarm() -> None:
    found = assess_events([Scored("a.wav", "a", 60.0, [], [])], ("dog",), Criteria())
    assert found["metrics"]["overlap_f1"] == {"value": None, "low": None, "high": None}
    assert found["metrics"]["onset_false_alarms_per_hour"]["value"] == 0


def most_pairs(allowed: np.ndarray) -> int:
    """The size of a maximum matching, by trying all: rows in turn, each with any free column or none."""

    def best(row: int, used: frozenset[int]) -> int:
        if row == len(allowed):
            return 0
        choices = [1 + best(row + 1, used | {column}) for column in np.flatnonzero(allowed[row]) if column not in used]
        return max([best(row + 1, used), *choices])

    return best(0, frozenset())


@pytest.mark.parametrize("seed", range(40))
def test_as_many_are_paired_as_can_be_each_once_in_any_order(seed: int) -> None:
    random = np.random.default_rng(seed)
    annotated, found = (
        np.array([0, 0.1]) + np.sort(random.uniform(0, 8, (random.integers(0, 7), 2)), axis=1) for _ in range(2)
    )
    collar, share = random.uniform(0.1, 2), random.uniform(0.1, 0.6)
    near = np.abs(annotated[:, :1] - found[:, 0]) <= collar
    both = np.minimum(annotated[:, 1:], found[:, 1]) - np.maximum(annotated[:, :1], found[:, 0])
    either = (annotated[:, 1:] - annotated[:, :1]) + (found[:, 1] - found[:, 0]) - np.maximum(both, 0)
    for pair, limit, allowed in ((by_onset, collar, near), (by_overlap, share, np.maximum(both, 0) / either >= share)):
        pairs = pair(annotated, found, limit)
        rows = np.flatnonzero(pairs >= 0)
        assert len(rows) == most_pairs(allowed)
        assert len(set(pairs[rows])) == len(rows)
        assert allowed[rows, pairs[rows]].all()
        order = random.permutation(len(found))
        assert (pair(annotated, found[order], limit) >= 0).sum() == len(rows)


@pytest.mark.parametrize("seed", range(10))
def test_seconds_in_common_are_those_of_a_fine_grid(seed: int) -> None:
    random = np.random.default_rng(seed)
    spans = [spans_of(np.sort(random.integers(0, 3000, (random.integers(0, 9), 2)), axis=1) / 100) for _ in range(2)]
    grids = [np.zeros(3000, bool) for _ in spans]
    for grid, own in zip(grids, spans, strict=True):
        for start, end in own:
            grid[round(start * 100) : round(end * 100)] = True
    expected = [(grids[0] & grids[1]).sum() / 100, *(grid.sum() / 100 for grid in grids)]
    assert in_common(*spans) == pytest.approx(expected)


def test_a_chain_of_pairs_is_found_however_long() -> None:
    """Each annotation takes its event from the next one, when the first comes last."""
    count = 3000
    starts = np.arange(count, dtype=float)
    annotated = np.stack([np.append(starts[1:], 0.0), np.append(starts[1:], 0.0) + 0.5], axis=1)
    found = np.stack([starts - 0.4, starts], axis=1)
    assert (by_onset(annotated, found, 0.6) >= 0).all()


def test_the_interval_resamples_groups_not_recordings() -> None:
    """The same recording five times in one group counts as much as once."""
    once = lists()
    five = [
        Scored(f"{one.path} {n}", one.group, one.seconds, one.annotations, one.events) for one in once for n in range(5)
    ]
    found = [assess_events(some, CLASSES, Criteria())["metrics"]["overlap_f1"] for some in (once, five)]
    assert found[1]["value"] == pytest.approx(found[0]["value"])
    assert found[1]["low"] == pytest.approx(found[0]["low"])
    assert found[1]["high"] == pytest.approx(found[0]["high"])


if __name__ == "__main__":
    for name, values in sed_eval_figures().items():
        print(f"    {name!r}: {[round(float(value), 6) for value in values]},")
