"""The answers about one sound: the rows of `soundbench infer --json`."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path, PurePath
from typing import Any

import attrs

from soundbench import audio
from soundbench.audio.times.starts import StartTimes
from soundbench.data.batches import Grid, RawBatch
from soundbench.errors import CallError, SoundError
from soundbench.inference.classifier import Classifier
from soundbench.inference.formats.base import Row
from soundbench.inference.formats.jsonl import JsonLines
from soundbench.inference.many_files import Done, Wanted, dated, row_of, score_files
from soundbench.inference.predictions import ScoredWindow
from soundbench.messages import escaped
from soundbench.serving.asking import RULES
from soundbench.serving.jobs import Job
from soundbench.serving.refusals import Limits, Refused
from soundbench.serving.sharing import SharedBatches

__all__ = ["Answers", "event_rules"]

# The most windows of which an answer has the scores.
WINDOWS = 20_000


@attrs.define
class _Named(StartTimes):
    """When a sound began that lies in a file of another name."""

    name: str = ""
    began: datetime | None = None

    def of(self, path: Path, name: str = "") -> datetime | None:
        self.began = super().of(path, name or PurePath(self.name).name)
        return self.began


class _Watch:
    """Looks at each batch of windows of a request before it is scored."""

    def __init__(self, job: Job, limits: Limits, grid: Grid, rate: int, listed: bool) -> None:
        self._job, self._limits, self._listed = job, limits, listed
        self._windows, self._most = 0, (limits.seconds * rate + grid.window) / grid.hop + 1

    def __call__(self, raw: RawBatch) -> None:
        self._job.check()
        self._windows += len(raw.samples)
        if self._windows > self._most:
            raise Refused(413, _too_long(self._limits))
        if self._listed and self._windows > WINDOWS:
            sentence = f"an answer has the scores of at most {WINDOWS:,} windows; give a longer hop, or shorter sound"
            raise Refused(413, sentence)


class Answers:
    """Answers requests about one sound.

    Args:
        classifier: the model.
        shared: scores its windows.
        limits: how long a sound may be.
        count: called with the seconds of each sound that was scored.
    """

    def __init__(
        self, classifier: Classifier, shared: SharedBatches, limits: Limits, count: Callable[[float], None]
    ) -> None:
        self._classifier, self._shared, self._limits, self._count = classifier, shared, limits, count
        rejects = classifier.scorer.rejector is not None
        self._form = {per: JsonLines(per, times=True, rejects=rejects) for per in ("clip", "window", "event")}

    def predict(self, job: Job, path: Path, name: str, asked: Mapping[str, Any]) -> str:
        """The prediction of a sound, as JSON.

        Args:
            job: the request.
            path: the sound.
            name: its name in the answer.
            asked: the parameters of the request.

        Raises:
            Refused: the sound cannot be read or is too long, or a parameter does not fit.
        """
        wanted = Wanted("clip", asked.get("window"), asked.get("hop"), asked.get("threshold"), asked.get("top"))
        rows, _ = self._rows(job, path, _Named(name=name), wanted)
        return self._lines("clip", rows)

    def events(self, job: Job, path: Path, name: str, asked: Mapping[str, Any]) -> str:
        """The events of a sound, and its windows if they are asked for, as JSON; arguments as for `predict`."""
        windows: list[ScoredWindow] | None = [] if asked.get("windows") else None
        wanted = Wanted("event", asked.get("window"), asked.get("hop"), rules=event_rules(self._classifier, asked))
        times = _Named(name=name)
        rows, seconds = self._rows(job, path, times, wanted, windows)
        parts = {"events": self._lines("event", rows)}
        if windows is not None:
            plain = attrs.evolve(wanted, per="window")
            scored = (row_of(self._classifier, name, one.values, plain, (one.start, one.end)) for one in windows)
            parts["windows"] = self._lines("window", [dated(row, times.began) for row in scored])
        head = json.dumps({"path": name, "seconds": seconds}, ensure_ascii=False)[:-1]
        return escaped(head) + "".join(f', "{part}": [{lines}]' for part, lines in parts.items()) + "}"

    def _rows(
        self, job: Job, path: Path, times: _Named, wanted: Wanted, windows: list[ScoredWindow] | None = None
    ) -> tuple[list[Row], float]:
        """The rows of a sound, and its length in seconds."""
        name = times.name
        self._refuse_long(path, name)
        try:
            grid = self._classifier.grid_of(wanted.window, wanted.hop)
            watch = _Watch(job, self._limits, grid, self._classifier.rate, windows is not None)
            mine = self._shared.classifier(watch)
            with self._shared.working():
                found = list(score_files(mine, [path], wanted, windows=windows, times=times))
        except CallError as error:
            raise Refused(400, str(error)) from None
        except Refused as error:
            error.path = name if error.status == 413 else None
            raise
        done = found[-1]
        assert isinstance(done, Done)
        if done.error:
            raise Refused(422, done.error, name)
        self._count(done.seconds)
        return [attrs.evolve(row, path=name) for row in found if isinstance(row, Row)], done.seconds

    def _refuse_long(self, path: Path, name: str) -> None:
        """Refuse a sound that states to be too long; others are refused once they have shown that they are."""
        try:
            seconds = audio.info(path).seconds
        except SoundError:
            return  # what reads it says what is wrong
        if seconds > self._limits.seconds:
            raise Refused(413, f"{_too_long(self._limits)}; this is {seconds:,.0f} s", name)

    def _lines(self, per: str, rows: Sequence[Row]) -> str:
        return ", ".join(self._form[per].lines(row, 0).rstrip("\n") for row in rows)


def event_rules(classifier: Classifier, asked: Mapping[str, Any]) -> Any:
    """How scores become events, by the parameters of a request.

    Raises:
        Refused: they do not fit each other.
    """
    rules = {one.name: asked[one.name] for one in RULES if one.name in asked}
    if "threshold" in asked:
        rules["on"] = asked["threshold"]
    try:
        return classifier.event_rules(**rules)
    except CallError as error:
        raise Refused(400, str(error)) from None


def _too_long(limits: Limits) -> str:
    return f"too long: sound of at most {limits.seconds:,g} s is scored at a time"
