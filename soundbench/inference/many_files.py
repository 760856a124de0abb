"""Many sound files in, rows out: of each sound, its windows or its events; printed, or kept in a folder with a journal.

With a folder, a call that was stopped goes on where it was, files that could not be judged are tried again, and the
processes of a `torchrun` start share the files out among themselves.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from soundbench import audio, distributed, files
from soundbench.errors import SoundError
from soundbench.inference import journal
from soundbench.inference.classifier import Classifier
from soundbench.inference.events import EventFinder, EventRules
from soundbench.inference.formats.base import Format, Row
from soundbench.inference.journal import Journal
from soundbench.inference.predictions import Ended, Heard
from soundbench.inference.progress import Progress
from soundbench.model.scoring import WindowMean

__all__ = ["Done", "Wanted", "embed_into", "judge_into", "judge_sounds", "model_digest", "sizes"]

# Bytes from which on a file's progress is told while it is judged.
LARGE = 1 << 24


@attrs.frozen
class Wanted:
    """What is asked of each sound.

    Attributes:
        per: what a row is of: `clip`, `window` or `event`.
        window: seconds of a window; None for the model's own.
        hop: seconds between windows; None for the window, or the model's own where that is too.
        threshold: the score from which on a class is shown; None for the model's thresholds, or the best class.
        top: how many classes to show and to tell the scores of; None for those that pass, and all scores.
        rules: what makes an event.
        batch: windows judged together; None for those of a minute of sound, at most 32.
    """

    per: str = "clip"
    window: float | None = None
    hop: float | None = None
    threshold: float | None = None
    top: int | None = None
    rules: EventRules = attrs.field(factory=EventRules)
    batch: int | None = None


@attrs.frozen
class Done:
    """A sound is done.

    Attributes:
        path: the sound.
        seconds: how much of it was judged.
        error: why it could not be; then rows of it that came before count for nothing.
    """

    path: Path
    seconds: float
    error: str | None


def judge_sounds(
    classifier: Classifier,
    paths: Sequence[Path],
    wanted: Wanted,
    progress: Progress | None = None,
    kept: list[Heard] | None = None,
) -> Iterator[Row | Done]:
    """The rows of each sound, in order, each followed by its `Done`.

    Args:
        classifier: judges.
        paths: the sounds.
        wanted: of each.
        progress: is told.
        kept: gets every window too.
    """
    finder = EventFinder(classifier.classes, wanted.rules)
    found: list[Row] = []
    mean = WindowMean()
    for one in _told(classifier.flow(paths, window=wanted.window, hop=wanted.hop, batch=wanted.batch), paths, progress):
        path = str(paths[one.sound])
        if isinstance(one, Heard):
            if kept is not None:
                kept.append(one)
            if wanted.per == "clip":
                mean.add(one.values)
            elif wanted.per == "window":
                yield _row(classifier, path, one.values, wanted, (one.start, one.end))
            else:
                events = finder.feed(one.values[None], [one.start], [one.end])
                found += [_event(path, **event.to_dict()) for event in events]
            continue
        if not one.error and wanted.per == "clip":
            yield _row(classifier, path, mean.take(), wanted, (None, None))
        elif not one.error and wanted.per == "event":
            found += [_event(path, **event.to_dict()) for event in finder.finish()]
            yield from sorted(found, key=lambda row: row.start or 0.0)
        yield Done(paths[one.sound], one.seconds, one.error.reason if one.error else None)
        finder = EventFinder(classifier.classes, wanted.rules)
        found = []
        mean.clear()


def _row(
    classifier: Classifier,
    path: str,
    scores: NDArray[np.float32],
    wanted: Wanted,
    span: tuple[float, float] | tuple[None, None],
) -> Row:
    judged = classifier.prediction(scores)
    shown = list(judged.labels)
    if wanted.threshold is not None:
        shown = [label for label, score in judged.scores.items() if score >= wanted.threshold]
    elif wanted.top is not None:
        shown = list(judged.scores)
    told = list(judged.scores.items())[: wanted.top]
    labels = {label: judged.scores[label] for label in shown[: wanted.top]}
    return Row(path, judged.label, judged.score, labels, dict(told), *span)


def _event(path: str, label: str, score: float, start: float, end: float) -> Row:
    return Row(path, label, score, {label: score}, None, start, end)


def sizes(paths: Sequence[Path]) -> list[int]:
    """Of each file the bytes, 0 where it is not there."""
    found = []
    for path in paths:
        try:
            found.append(os.stat(path).st_size)
        except OSError:
            found.append(0)
    return found


def _told(flow: Iterator[Heard | Ended], paths: Sequence[Path], progress: Progress | None) -> Iterator[Heard | Ended]:
    """The flow, and the progress told of it: by the bytes of files, and within large ones by the time."""
    if progress is None:
        yield from flow
        return
    number, size, lasts = -1, 0, 0.0
    for one in flow:
        if one.sound != number:
            number = one.sound
            (size,) = sizes(paths[number : number + 1])
            lasts = _lasts(paths[number]) if size > LARGE else 0.0
        if isinstance(one, Ended):
            progress.finish(size, 0.0 if one.error else one.seconds)
        elif lasts:
            progress.tell(size * min(one.end / lasts, 1.0), one.end)
        yield one
    progress.close()


def _lasts(path: Path) -> float:
    try:
        return audio.info(path).seconds
    except SoundError:
        return 0.0


# Into a folder --------------------------------------------------------------------------------------------------------


def judge_into(
    folder: Path,
    classifier: Classifier,
    paths: Sequence[Path],
    wanted: Wanted,
    form: Format,
    model: str,
    progress: Callable[[list[Path]], Progress],
) -> dict[str, str]:
    """Judge into a folder what is not judged there yet, and make the results of it.

    Args:
        folder: for them: `results.*`, or a file for each sound below `labels/`, and `errors.csv`.
        classifier: judges.
        paths: the sounds.
        wanted: of each.
        form: of the rows.
        model: what tells this model from others.
        progress: makes one for the files that are left.

    Returns:
        The sounds that could not be judged, and why.
    """
    settings = {"work": "infer", "model": model, "format": form.name, "columns": len(form.classes)}

    def work(out: Journal, left: list[Path]) -> None:
        number = 0
        for one in judge_sounds(classifier, left, wanted, progress(left)):
            if isinstance(one, Row):
                out.write(_encoded(form.lines(one, number)))
                number += 1
            else:
                out.done(str(one.path), one.error)
                number = 0

    def merge(records: list[journal.Record]) -> None:
        if form.file_per_sound:
            for record in records:
                text = form.document(journal.rows(folder, record).decode())
                files.write_bytes(_labels(folder, record["path"], form.suffix), _encoded(text))
            return
        with files.atomic(folder / f"results{form.suffix}") as beside, open(beside, "wb") as file:
            file.write(_encoded(form.header()))
            for record in records:
                file.write(journal.rows(folder, record))

    return _into(folder, paths, settings | attrs.asdict(attrs.evolve(wanted, batch=None)), work, merge)


def embed_into(
    folder: Path,
    classifier: Classifier,
    paths: Sequence[Path],
    wanted: Wanted,
    model: str,
    progress: Callable[[list[Path]], Progress],
) -> dict[str, str]:
    """Write what the last layer sees into a folder: `embeddings.npy`, `(N, D)`, and `index.csv`, a row for each row.

    Args:
        folder: for them.
        classifier: makes them.
        paths: the sounds.
        wanted: of each: a row a clip, the mean of its windows, or a row a window.
        model: what tells this model from others.
        progress: makes one for the files that are left.

    Returns:
        The sounds that could not be read, and why.
    """
    settings = {"work": "embed", "model": model, "per": wanted.per, "window": wanted.window, "hop": wanted.hop}

    def work(out: Journal, left: list[Path]) -> None:
        spans: list[tuple[float, float]] = []
        mean = WindowMean()
        compute = classifier.scorer.embeddings
        flow = classifier.flow(left, window=wanted.window, hop=wanted.hop, batch=wanted.batch, compute=compute)
        for one in _told(flow, left, progress(left)):
            if isinstance(one, Heard):
                spans.append((one.start, one.end))
                mean.add(one.values)
                if wanted.per == "window":
                    out.write(one.values.astype("<f4").tobytes())
                continue
            if wanted.per == "clip" and not one.error:
                out.write(mean.take().astype("<f4").tobytes())
                spans = [(spans[0][0], spans[-1][1])]
            out.done(str(left[one.sound]), one.error.reason if one.error else None, spans=spans)
            spans = []
            mean.clear()

    def merge(records: list[journal.Record]) -> None:
        rows = [(record["path"], *span) for record in records for span in record["spans"]]
        width = sum(record["end"] - record["begin"] for record in records) // 4 // max(len(rows), 1)
        with files.atomic(folder / "embeddings.npy") as beside, open(beside, "wb") as file:
            shape = {"descr": "<f4", "fortran_order": False, "shape": (len(rows), width)}
            np.lib.format.write_array_header_1_0(file, shape)
            for record in records:
                file.write(journal.rows(folder, record))
        files.write_rows(
            folder / "index.csv", ["row", "path", "start", "end"], ((n, *row) for n, row in enumerate(rows))
        )

    return _into(folder, paths, settings, work, merge)


def _into(
    folder: Path,
    paths: Sequence[Path],
    settings: dict[str, Any],
    work: Callable[[Journal, list[Path]], None],
    merge: Callable[[list[journal.Record]], None],
) -> dict[str, str]:
    """Do the work that is left, shared out among the processes; the first of them makes the results of it."""

    def undone() -> list[Path]:
        journal.check_settings(folder, settings)
        before = journal.read(folder)
        return [path for path in paths if before.get(str(path), {"error": "new"})["error"]]

    left = distributed.from_main(undone)
    own = left[distributed.rank() :: distributed.world()]
    with Journal(folder, distributed.rank()) as out:
        work(out, own)
    distributed.barrier()
    found = journal.read(folder)
    errors = {str(path): found[str(path)]["error"] for path in paths if found[str(path)]["error"]}
    if distributed.is_main():
        merge([found[str(path)] for path in paths if str(path) not in errors])
        files.write_rows(folder / "errors.csv", ["path", "error"], errors.items())
    return errors


def _labels(folder: Path, path: str, suffix: str) -> Path:
    """Where the file of a sound is written: below `labels/`, as the sound lies below the working directory or /."""
    parts = ["__" if part == ".." else part for part in Path(path).parts if part != Path(path).anchor]
    return (folder / "labels").joinpath(*parts[:-1], parts[-1] + suffix)


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", errors="backslashreplace")


def model_digest(run: str | Path) -> str:
    """What tells the model of a run from others."""
    folder = Path(run) / "model" if (Path(run) / "model" / "model.toml").exists() else Path(run)
    digest = hashlib.blake2b(digest_size=8)
    for name in ("model.toml", "weights.safetensors"):
        with files.explain_os_errors(folder / name), open(folder / name, "rb") as file:
            while data := file.read(1 << 20):
                digest.update(data)
    return digest.hexdigest()
