"""Figures of found events: precision, recall, F1 and false alarms an hour, each with an interval over recordings.

Counts add up over recordings and classes, so the figures of all classes are those of all pairs (micro averages), and
an interval resamples the recordings, or the groups that they are in.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from soundbench.contracts import Annotation
from soundbench.inference.events import Event
from soundbench.inference.scoring.matching import Pairs, Spans, by_onset, by_overlap, in_common, spans_of
from soundbench.report.resampling import LEVEL, METHOD, LeftOut, Resamples, few, interval

__all__ = ["CRITERIA", "Criteria", "Scored", "assess_events", "matched"]

Floats = NDArray[np.float64]

CRITERIA = ("onset", "overlap", "time")
RIGHT, ANNOTATED, FOUND = range(3)
RESAMPLES = 2000
HOUR = 3600.0


@attrs.frozen
class Criteria:
    """When an event is right.

    Attributes:
        collar: seconds by which its onset may differ from that of the annotation.
        overlap: the least time that it has in common with the annotation, as a share of the time that either has.
    """

    collar: float = 0.5
    overlap: float = 0.3


@attrs.frozen
class Scored:
    """A recording with what is annotated in it and what was found.

    Attributes:
        path: the sound file.
        group: see `Clip`.
        seconds: how much of it was scored.
        annotations: of the classes that are scored.
        events: of the same classes.
    """

    path: str
    group: str
    seconds: float
    annotations: Sequence[Annotation]
    events: Sequence[Event]

    def spans(self, label: str) -> tuple[Spans, Spans]:
        """The annotated and the found spans of a class."""
        return (
            spans_of([(one.start, one.stop) for one in self.annotations if one.label == label]),
            spans_of([(one.start, one.end) for one in self.events if one.label == label]),
        )


def matched(annotated: Spans, found: Spans, how: Criteria) -> tuple[Pairs, Pairs]:
    """The event of each annotation by onset and by overlap; -1 for none."""
    return by_onset(annotated, found, how.collar), by_overlap(annotated, found, how.overlap)


def assess_events(
    recordings: Sequence[Scored], classes: Sequence[str], how: Criteria, resamples: int = RESAMPLES, seed: int = 0
) -> dict[str, Any]:
    """All figures of events, in plain Python types and without NaN.

    Args:
        recordings: at least one.
        classes: those that are scored.
        how: when an event is right.
        resamples: how many an interval is computed from; 0 for no intervals.
        seed: of the resamples.

    Returns:
        `metrics`: `onset_f1` and the like, each with `value`, `low` and `high`; None where there is nothing to
        divide by, or a single group. `baseline`: the same values if the class that is annotated longest sounded all the
        time. `per_class`, `classes`, `annotations`, `events`, `recordings`, `groups`, `hours`, and `interval`.
    """
    counts = np.stack([_counts(one, classes, how) for one in recordings])  # recordings, classes, criteria, 3
    seconds = np.array([one.seconds for one in recordings])
    codes: dict[str, int] = {}
    group = np.array([codes.setdefault(one.group, len(codes)) for one in recordings])
    totals = counts.sum(axis=0)
    metrics = _with_intervals(counts.sum(axis=1), seconds, group, resamples, seed)
    longest = classes[int(totals[:, CRITERIA.index("time"), ANNOTATED].argmax())]
    always = [attrs.evolve(one, events=[Event(longest, 0.0, one.seconds, 1.0)]) for one in recordings]
    constant = np.stack([_counts(one, classes, how) for one in always]).sum(axis=(0, 1))
    note = few(len(codes))
    return {
        "metrics": metrics,
        "baseline": {"class": longest, **_values(constant, seconds.sum())},
        "per_class": [
            {
                "class": str(name),
                "classes": [str(name) for name in classes],
                "annotations": int(totals[code, 0, ANNOTATED]),
                "events": int(totals[code, 0, FOUND]),
                "recordings": int((counts[:, code, 0, ANNOTATED] > 0).sum()),
                **_values(totals[code], seconds.sum()),
            }
            for code, name in enumerate(classes)
        ],
        "classes": [str(name) for name in classes],
        "annotations": int(totals[:, 0, ANNOTATED].sum()),
        "events": int(totals[:, 0, FOUND].sum()),
        "recordings": len(recordings),
        "groups": len(codes),
        "hours": float(seconds.sum() / HOUR),
        "interval": {
            "method": METHOD,
            "level": LEVEL,
            "resamples": resamples,
            "seed": seed,
            **({"note": note} if note else {}),
        },
    }


def _counts(one: Scored, classes: Sequence[str], how: Criteria) -> Floats:
    """What is right, annotated and found, of each class and by each criterion: `(K, 3, 3)`; the last in seconds."""
    counts = np.zeros((len(classes), len(CRITERIA), 3))
    for code, name in enumerate(classes):
        annotated, found = one.spans(name)
        for place, pairs in enumerate(matched(annotated, found, how)):
            counts[code, place] = (pairs >= 0).sum(), len(annotated), len(found)
        counts[code, 2] = in_common(annotated, found)
    return counts


def _figures(counts: Floats, seconds: Floats) -> dict[str, Floats]:
    """Each figure, `(...)`, of counts `(..., 3, 3)` in so many seconds `(...)`; NaN for 0 divided by 0."""
    found: dict[str, Floats] = {}
    with np.errstate(invalid="ignore", divide="ignore"):
        for place, name in enumerate(CRITERIA):
            right, annotated, events = np.moveaxis(counts[..., place, :], -1, 0)
            found[f"{name}_f1"] = 2 * right / (annotated + events)
            found[f"{name}_precision"] = right / events
            found[f"{name}_recall"] = right / annotated
            if name != "time":
                found[f"{name}_false_alarms_per_hour"] = (events - right) * HOUR / seconds
    return found


def _values(counts: Floats, seconds: float) -> dict[str, float | None]:
    return {name: _plain(value) for name, value in _figures(counts, np.array(seconds)).items()}


def _with_intervals(
    counts: Floats, seconds: Floats, group: NDArray[np.int64], resamples: int, seed: int
) -> Mapping[str, dict[str, float | None]]:
    """The figures of all classes, with intervals, from the counts of each recording, `(N, 3, 3)`."""
    values = _values(counts.sum(axis=0), seconds.sum())
    found: dict[str, dict[str, float | None]] = {
        name: {"value": value, "low": None, "high": None} for name, value in values.items()
    }
    if not resamples or group.max() == 0:
        return found
    columns = np.concatenate([counts.reshape(len(counts), -1), seconds[:, None]], axis=1)
    weights = Resamples(group, resamples, seed), LeftOut(group, seed)
    drawn, left_out = (
        _figures(sums[:, :-1].reshape(-1, *counts.shape[1:]), sums[:, -1])
        for sums in (one.sums(columns) for one in weights)
    )
    for name, value in values.items():
        if value is not None:
            share = not name.endswith("per_hour")
            bounds = interval(
                value, np.nan_to_num(drawn[name]), np.nan_to_num(left_out[name]), weights[0].units, share=share
            )
            found[name]["low"], found[name]["high"] = max(bounds[0], 0.0), bounds[1]
    return found


def _plain(value: Floats) -> float | None:
    return float(value) if np.isfinite(value) else None
