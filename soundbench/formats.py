"""Judgements as lines of text: a table to read, CSV, JSON lines, labels for Audacity, selections for Raven."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Mapping, Sequence

import attrs

from soundbench.errors import CallError

__all__ = ["FORMATS", "LABELS", "Format", "Row"]

FORMATS = ("table", "csv", "jsonl", "audacity", "raven")
# Those that tell of one sound, by time.
LABELS = ("audacity", "raven")
_RAVEN = ("Selection", "View", "Channel", "Begin Time (s)", "End Time (s)", "Low Freq (Hz)", "High Freq (Hz)")


@attrs.frozen
class Row:
    """What was judged of a sound, a window of it or an event in it.

    Attributes:
        path: the sound.
        label: the best class, or the event's.
        score: its score.
        labels: those to show, with their scores, highest first; maybe none.
        scores: of every class that is told in full; None for events.
        start: seconds; None for a whole sound.
        end: seconds.
    """

    path: str
    label: str
    score: float
    labels: Mapping[str, float]
    scores: Mapping[str, float] | None = None
    start: float | None = None
    end: float | None = None


@attrs.frozen
class Format:
    """How rows are written.

    Attributes:
        name: one of `FORMATS`.
        per: what a row is of: clip, window or event.
        classes: in the order of columns; none leaves out all scores where they are columns.
        rate: samples a second that the network hears; it hears nothing above half of it.
    """

    name: str
    per: str
    classes: Sequence[str] = ()
    rate: int = 0

    def __attrs_post_init__(self) -> None:
        if self.name in LABELS and self.per == "clip":
            raise CallError(f"{self.name} labels have a start and an end: use --per event or --per window")

    @property
    def suffix(self) -> str:
        """Of a file of that format."""
        return {"csv": ".csv", "jsonl": ".jsonl"}.get(self.name, ".txt")

    def header(self) -> str:
        """What a file begins with."""
        if self.name == "csv":
            spans = [] if self.per == "clip" else ["start", "end"]
            more = [] if self.per == "event" else ["labels", *self.classes]
            return _csv(["path", *spans, "label", "score", *more])
        return "\t".join([*_RAVEN, "Label", "Score"]) + "\n" if self.name == "raven" else ""

    def lines(self, row: Row, number: int) -> str:
        """A row, the `number`-th of its sound from 0 on, as lines."""
        return {
            "table": self._table,
            "csv": self._csv,
            "jsonl": self._jsonl,
            "audacity": self._audacity,
            "raven": self._raven,
        }[self.name](row, number)

    def error(self, path: str, reason: str) -> str:
        """A sound that could not be judged, as a line; none where the format has no place for it."""
        if self.name == "jsonl":
            return json.dumps({"path": path, "error": reason}, ensure_ascii=False) + "\n"
        return f"{path}\terror: {reason}\n" if self.name == "table" else ""

    def _table(self, row: Row, _number: int) -> str:
        span = [] if row.start is None else [f"{row.start:.2f}", f"{row.end:.2f}"]
        return "\t".join([row.path, *span, *(f"{label} {score:.4f}" for label, score in row.labels.items())]) + "\n"

    def _csv(self, row: Row, _number: int) -> str:
        span = [] if row.start is None else [_short(row.start), _short(row.end or 0.0)]
        cells = [row.path, *span, row.label, _short(row.score)]
        if row.scores is not None:
            cells += [
                "|".join(re.sub(r"([\\|])", r"\\\1", label) for label in row.labels),
                *(_short(row.scores[label]) for label in self.classes),
            ]
        return _csv(cells)

    def _jsonl(self, row: Row, _number: int) -> str:
        told: dict[str, object] = {"path": row.path}
        if row.start is not None:
            told |= {"start": row.start, "end": row.end}
        told |= {"label": row.label, "score": row.score}
        if row.scores is not None:
            told |= {"labels": list(row.labels), "scores": dict(row.scores)}
        return json.dumps(told, ensure_ascii=False) + "\n"

    def _audacity(self, row: Row, _number: int) -> str:
        return "".join(f"{row.start:.6f}\t{row.end:.6f}\t{_flat(label)}\n" for label in row.labels)

    def _raven(self, row: Row, number: int) -> str:
        place = f"Spectrogram 1\t1\t{row.start:.6f}\t{row.end:.6f}\t0.0\t{self.rate / 2:.1f}"
        return "".join(
            f"{number + 1 + more}\t{place}\t{_flat(label)}\t{score:.4f}\n"
            for more, (label, score) in enumerate(row.labels.items())
        )


def _csv(cells: Sequence[str]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(cells)
    return text.getvalue()


def _short(value: float) -> str:
    return f"{value:.6f}".rstrip("0").rstrip(".")


def _flat(label: str) -> str:
    """A label that ends neither a cell nor a line."""
    return " ".join(label.split()) or "?"
