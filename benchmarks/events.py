"""Accuracy of event times: the test clips of a run joined into one file, compared with their known timeline.

    python benchmarks/events.py RUN [RUN ...] [--lead 0] [--write]

Each RUN, of clips with one label, scores its own test clips, joined in an order in which neighbours have different
classes. An event is correct if it has a clip's label and begins within 0.5 s of it; each clip counts once. The settings
(window, hop, thresholds, smoothing, gap) are the best of those tried for the first run; the others use these settings,
and only they are pooled. The goal is an F1 of 0.8 of the accuracy on clips.

Joined clips of 5 s begin at multiples of any hop that divides 5; `--lead` begins the file with so many seconds of
silence, so that they do not. `--write` adds the table to `benchmarks/results/events.md`.
"""

from __future__ import annotations

import argparse
import itertools
import shlex
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

import soundbench
from soundbench import files
from soundbench.inference.events import Event, EventRules, find_events
from soundbench.inference.predictions import ScoredWindow

RESULTS = Path(__file__).parent / "results" / "events.md"
WITHIN = 0.5
WINDOWS = [(0.5, 0.25), (0.5, 0.5), (1.0, 0.25), (1.0, 0.5), (1.5, 0.25), (1.5, 0.5)]
RULES = [
    EventRules(on=on, off=share * on, smooth=smooth, gap=gap)
    for on, share, smooth, gap in itertools.product((0.4, 0.5, 0.6, 0.7), (0.25, 0.4, 0.8), (1, 3, 5), (0.5, 1.0, 2.0))
]

Timeline = list[tuple[str, float]]


def ordered(rows: list[dict[str, str]]) -> list[dict[str, str]]:
    """The rows in random order, with no clip after another of its class if possible."""
    left, found = [rows[number] for number in np.random.default_rng(0).permutation(len(rows))], []
    while left:
        last = found[-1]["label"] if found else None
        found.append(left.pop(next((k for k, row in enumerate(left) if row["label"] != last), 0)))
    return found


def join(rows: list[dict[str, str]], lead: float, path: Path) -> Timeline:
    """Write one file of all clips; returns the label and the beginning of each."""
    rate = soundfile.info(rows[0]["path"]).samplerate
    parts, timeline = [np.zeros(round(lead * rate), np.int16)], []
    for row in rows:
        samples, own = soundfile.read(row["path"], dtype="int16")
        if own != rate or samples.ndim > 1:
            raise SystemExit(f"{row['path']}: not {rate} Hz and one channel like the others")
        timeline.append((row["label"], sum(map(len, parts)) / rate))
        parts.append(samples)
    soundfile.write(path, np.concatenate(parts), rate)
    return timeline


def hits(timeline: Timeline, events: Sequence[Event]) -> int:
    """The number of clip beginnings that were found, with one event each."""
    count = 0
    for label in {label for label, _ in timeline}:
        found = sorted(event.start for event in events if event.label == label)
        for start in sorted(start for name, start in timeline if name == label):
            near = next((one for one in found if abs(one - start) <= WITHIN), None)
            if near is not None:
                found.remove(near)
                count += 1
    return count


def f1(timeline: Timeline, events: Sequence[Event]) -> float:
    return 2 * hits(timeline, events) / (len(events) + len(timeline))


def scores(classifier: soundbench.Classifier, path: Path, window: float, hop: float) -> tuple[Any, ...]:
    windows = [one for one in classifier.flow([path], window=window, hop=hop) if isinstance(one, ScoredWindow)]
    return np.stack([one.values for one in windows]), [one.start for one in windows], [one.end for one in windows]


def best(classifier: soundbench.Classifier, path: Path, timeline: Timeline) -> tuple[float, float, EventRules]:
    tried: list[tuple[float, float, float, EventRules]] = []
    for window, hop in WINDOWS:
        scored = scores(classifier, path, window, hop)
        found = [(f1(timeline, find_events(*scored, classifier.classes, rules)), window, hop, rules) for rules in RULES]
        tried.append(max(found, key=lambda one: one[0]))
        print(f"window {window} s, hop {hop} s: best F1 {tried[-1][0]:.3f}", file=sys.stderr)
    return max(tried, key=lambda one: one[0])[1:]


def line(name: str, found: int, events: int, clips: int, right: int) -> str:
    value, accuracy = 2 * found / (events + clips), right / clips
    figures = (found / max(events, 1), found / clips, value, accuracy, value / accuracy)
    return f"| {name} | {clips} | {events} | " + " | ".join(f"{figure:.3f}" for figure in figures) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--lead", type=float, default=0.0)
    parser.add_argument("--write", action="store_true")
    given = parser.parse_args()
    table = ["| run | clips | events | precision | recall | F1 | clip accuracy | ratio |", "|" + "---|" * 8]
    total, chosen = np.zeros(4, int), None
    for run in given.runs:
        rows = ordered(files.read_rows(run / "predictions.csv"))
        classifier = soundbench.load(run)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "joined.wav"
            timeline = join(rows, given.lead, path)
            first = chosen is None
            window, hop, rules = chosen = chosen or best(classifier, path, timeline)
            events = find_events(*scores(classifier, path, window, hop), classifier.classes, rules)
        right = sum(row["label"] == row["predicted"] for row in rows)
        figures = hits(timeline, events), len(events), len(rows), right
        total += 0 if first else figures
        table.append(line(f"{run.name}, used to choose the settings" if first else run.name, *figures))
        print(table[-1], file=sys.stderr)
    if total[2]:
        table.append(line("the others, pooled", *total.tolist()))
    settings = (
        f"`--window {window:g} --hop {hop:g} --threshold {rules.on:g} --off {rules.off:.3g} --smooth {rules.smooth} "
        f"--gap {rules.gap:g}`; lead {given.lead:g} s."
    )
    text = "\n".join([settings, "", *table, ""])
    print(text)
    if given.write:
        command = shlex.join(["python", "benchmarks/events.py", *(run.name for run in given.runs)])
        with open(RESULTS, "a", encoding="utf-8") as file:
            file.write(f"\n`{command} --lead {given.lead:g}`\n\n{text}")


if __name__ == "__main__":
    main()
