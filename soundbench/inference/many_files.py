"""Many sound files in, rows out: one per sound, window or event; printed, or kept in a folder with a journal.

With a folder, a call that was stopped continues where it was, files that could not be scored are tried again, and the
processes of a group divide the files among themselves.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from soundbench import audio, files
from soundbench.audio.times.starts import StartTimes
from soundbench.errors import SoundError
from soundbench.inference import journal
from soundbench.inference.classifier import Classifier
from soundbench.inference.events import EventFinder, EventRules
from soundbench.inference.formats.base import Count, Format, Row, encoded, moment
from soundbench.inference.formats.summary import Counts
from soundbench.inference.journal import Journal
from soundbench.inference.predictions import EndOfSound, ScoredWindow
from soundbench.inference.progress import Progress
from soundbench.model.windows import WindowMean

__all__ = ["Done", "Wanted", "dated", "embed_into", "model_digest", "row_of", "score_files", "score_into", "sizes"]

# Files of at least so many bytes show progress while they are scored.
LARGE = 1 << 24


@attrs.frozen
class Wanted:
    """Which rows each sound gets.

    Attributes:
        per: what a row describes: `clip`, `window` or `event`.
        window: length of a window in seconds; None for the model's.
        hop: seconds between the starts of windows; None for `window`, or the model's hop if that is None too.
        threshold: report classes scoring at least this; None for the model's thresholds, or the best class.
        top: the number of classes to report, with their scores; None for those that pass, and the scores of all.
        rules: how scores become events.
        batch: number of windows scored together; None for those of a minute of sound, at most 32 (short ones: 256).
        summary: whether a sound gets a count for each class that is found in it, instead of its rows.
    """

    per: str = "clip"
    window: float | None = None
    hop: float | None = None
    threshold: float | None = None
    top: int | None = None
    rules: EventRules = attrs.field(factory=EventRules)
    batch: int | None = None
    summary: bool = False


@attrs.frozen
class Done:
    """The end of a sound's rows.

    Attributes:
        path: the sound.
        seconds: how much of it was scored.
        error: why it could not be read to its end, and its rows must be ignored; None if it could.
    """

    path: Path
    seconds: float
    error: str | None


def score_files(
    classifier: Classifier,
    paths: Sequence[Path],
    wanted: Wanted,
    progress: Progress | None = None,
    windows: list[ScoredWindow] | None = None,
    times: StartTimes | None = None,
) -> Iterator[Row | Count | Done]:
    """Score files: the rows of each sound, in order, or its counts; followed by its `Done`.

    Args:
        classifier: scores the windows.
        paths: the files.
        wanted: which rows each gets.
        progress: updated as files are scored.
        windows: every scored window is appended to it.
        times: finds when each recording began; None for rows without date and time.
    """
    counts = Counts()
    for one in _rows(classifier, paths, wanted, progress, windows, times):
        if not wanted.summary:
            yield one
        elif isinstance(one, Row):
            counts.add(one)
        else:
            found = counts.take(str(one.path))
            yield from () if one.error else found
            yield one


def _rows(
    classifier: Classifier,
    paths: Sequence[Path],
    wanted: Wanted,
    progress: Progress | None,
    windows: list[ScoredWindow] | None,
    times: StartTimes | None,
) -> Iterator[Row | Done]:
    """The rows of each sound, followed by its `Done`; the arguments are those of `score_files`."""
    finder = EventFinder(classifier.classes, wanted.rules)
    found: list[Row] = []
    mean = WindowMean()
    flow = classifier.flow(paths, window=wanted.window, hop=wanted.hop, batch=wanted.batch)
    number, began = -1, None
    for one in _with_progress(flow, paths, progress):
        path = str(paths[one.sound])
        if one.sound != number:
            number, began = one.sound, times.of(paths[one.sound]) if times else None
        if isinstance(one, ScoredWindow):
            if windows is not None:
                windows.append(one)
            if wanted.per == "clip":
                mean.add(one.values)
            elif wanted.per == "window":
                yield dated(row_of(classifier, path, one.values, wanted, (one.start, one.end)), began)
            else:
                events = finder.feed(classifier.event_scores(one.values)[None], [one.start], [one.end])
                found += [dated(_event(path, **event.to_dict()), began) for event in events]
            continue
        if not one.error and wanted.per == "clip":
            yield dated(row_of(classifier, path, mean.take(), wanted, (None, None)), began, one.seconds)
        elif not one.error and wanted.per == "event":
            found += [dated(_event(path, **event.to_dict()), began) for event in finder.finish()]
            yield from sorted(found, key=lambda row: row.start or 0.0)
        yield Done(paths[one.sound], one.seconds, one.error.reason if one.error else None)
        if wanted.per == "event":
            finder, found = EventFinder(classifier.classes, wanted.rules), []
        mean.clear()


def row_of(
    classifier: Classifier,
    path: str,
    values: NDArray[np.float32],
    wanted: Wanted,
    span: tuple[float, float] | tuple[None, None],
) -> Row:
    """The row of a window, from its scores and evidence `(K + 2,)`; of a whole sound where the span is unknown."""
    found = classifier.prediction(values, "clip" if span[0] is None else "window")
    shown = list(found.labels)
    if wanted.threshold is not None and not found.rejected:
        shown = [label for label, score in found.scores.items() if score >= wanted.threshold]
    elif wanted.top is not None and not found.rejected:
        shown = list(found.scores)
    best = list(found.scores.items())[: wanted.top]
    labels = {label: found.scores[label] for label in shown[: wanted.top]}
    row = Row(path, found.label, found.score, labels, dict(best), *span)
    return attrs.evolve(row, nearest=found.nearest, rejected=found.rejected)


def _event(path: str, label: str, score: float, start: float, end: float) -> Row:
    return Row(path, label, score, {label: score}, None, start, end)


def dated(row: Row, began: datetime | None, seconds: float = 0.0) -> Row:
    """The row with its date and time, of a recording that `began` then; a whole sound lasts so many `seconds`."""
    start, end = (0.0, seconds) if row.start is None or row.end is None else (row.start, row.end)
    return attrs.evolve(row, begin_time=moment(began, start), end_time=moment(began, end))


def sizes(paths: Sequence[Path]) -> list[int]:
    """The size of each file in bytes; 0 for a missing file."""
    found = []
    for path in paths:
        try:
            found.append(os.stat(path).st_size)
        except OSError:
            found.append(0)
    return found


def _with_progress(
    flow: Iterator[ScoredWindow | EndOfSound], paths: Sequence[Path], progress: Progress | None
) -> Iterator[ScoredWindow | EndOfSound]:
    """The flow, while its progress is shown: by the sizes of files, and within large ones by time."""
    if progress is None:
        yield from flow
        return
    number, size, lasts = -1, 0, 0.0
    for one in flow:
        if one.sound != number:
            number = one.sound
            (size,) = sizes(paths[number : number + 1])
            lasts = _lasts(paths[number]) if size > LARGE else 0.0
        if isinstance(one, EndOfSound):
            progress.finish(size, 0.0 if one.error else one.seconds)
        elif lasts:
            progress.report(size * min(one.end / lasts, 1.0), one.end)
        yield one
    progress.close()


def _lasts(path: Path) -> float:
    try:
        return audio.info(path).seconds
    except SoundError:
        return 0.0


# Into a folder --------------------------------------------------------------------------------------------------------


def score_into(
    folder: Path,
    classifier: Classifier,
    paths: Sequence[Path],
    wanted: Wanted,
    form: Format,
    model: str,
    progress: Callable[[list[Path]], Progress],
    times: StartTimes | None = None,
    scores: str = "",
) -> dict[str, str]:
    """Score the files that a folder has no rows of yet, and write the results of all.

    Args:
        folder: receives `results.*`, a file per sound in `labels/`, or both, and `errors.csv`.
        classifier: scores the windows.
        paths: the files.
        wanted: which rows each gets.
        form: the format of the rows.
        model: the digest of the model; see `model_digest`.
        progress: makes the progress line for the remaining files.
        times: finds when each recording began; None for rows without date and time.
        scores: the digest of what the model's scores depend on; see `model.folder.scores_digest`.

    Returns:
        The paths that could not be scored, each with the reason.
    """
    times = times or StartTimes("none")
    settings = {"work": "infer", "model": model, "scores": scores, "format": form.name, "columns": len(form.classes)}
    settings |= {"time_from": times.source, "time_pattern": times.pattern, **form.stated}

    def work(out: Journal, left: list[Path]) -> None:
        number = 0
        for one in score_files(classifier, left, wanted, progress(left), times=times):
            if not isinstance(one, Done):
                lines = form.lines(one, number)
                out.write(encoded(lines))
                number += lines.count("\n")
            else:
                out.done(str(one.path), one.error)
                number = 0

    def merge(records: list[journal.Record]) -> None:
        if form.file_per_sound:
            for record, data in zip(records, journal.rows(folder, records), strict=True):
                text = form.document(data.decode())
                files.write_bytes(_labels(folder, record["path"], form.suffix), encoded(text))
        if form.one_file:
            with files.atomic(folder / f"results{form.suffix}") as beside:
                form.pack(beside, (data.decode() for data in journal.rows(folder, records)))

    rows = attrs.asdict(attrs.evolve(wanted, batch=None), filter=lambda key, value: key.name != "summary" or value)
    return _into(folder, paths, settings | rows, work, merge)


def embed_into(
    folder: Path,
    classifier: Classifier,
    paths: Sequence[Path],
    wanted: Wanted,
    model: str,
    progress: Callable[[list[Path]], Progress],
) -> dict[str, str]:
    """Write embeddings into a folder: `embeddings.npy`, `(N, D)`, and `index.csv`, which describes its N rows.

    Args:
        folder: receives them.
        classifier: computes them.
        paths: the files.
        wanted: one row per clip, the mean of its windows, or one row per window.
        model: the digest of the model; see `model_digest`.
        progress: makes the progress line for the remaining files.

    Returns:
        The paths that could not be read, each with the reason.
    """
    settings = {"work": "embed", "model": model, "per": wanted.per, "window": wanted.window, "hop": wanted.hop}

    def work(out: Journal, left: list[Path]) -> None:
        spans: list[tuple[float, float]] = []
        mean = WindowMean()
        compute = classifier.scorer.embeddings
        flow = classifier.flow(left, window=wanted.window, hop=wanted.hop, batch=wanted.batch, compute=compute)
        for one in _with_progress(flow, left, progress(left)):
            if isinstance(one, ScoredWindow):
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
            file.writelines(journal.rows(folder, records))
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
    """Do the remaining work, divided among the processes; the main process then writes the results."""
    from soundbench import distributed  # not at the start: it needs torch, which scoring files does not

    def undone() -> list[Path]:
        journal.check_settings(folder, settings)
        before = journal.read(folder)
        return [path for path in paths if before.get(str(path), {"error": "new"})["error"]]

    left = distributed.from_main(undone)
    own = left[distributed.rank() :: distributed.world()]
    with Journal(folder, distributed.rank()) as out:
        work(out, own)
    distributed.barrier()

    def results() -> dict[str, str]:
        found = journal.read(folder)
        errors = {str(path): found[str(path)]["error"] for path in paths if found[str(path)]["error"]}
        merge([found[str(path)] for path in paths if str(path) not in errors])
        files.write_rows(folder / "errors.csv", ["path", "error"], errors.items())
        return errors

    return distributed.from_main(results)  # the others wait: the end of one of them would end the main process


def _labels(folder: Path, path: str, suffix: str) -> Path:
    """The label file of a sound: its path below `labels/` is the sound's path, with `..` written as `__`."""
    parts = ["__" if part == ".." else part for part in Path(path).parts if part != Path(path).anchor]
    return (folder / "labels").joinpath(*parts[:-1], parts[-1] + suffix)


def model_digest(run: str | Path) -> str:
    """A digest of a run's model: its description and its weights; or of an exported file."""
    folder = Path(run) / "model" if (Path(run) / "model" / "model.toml").exists() else Path(run)
    digest = hashlib.blake2b(digest_size=8)
    names = [folder / name for name in ("model.toml", "weights.safetensors")] if folder.is_dir() else [folder]
    for path in names:
        with files.explain_os_errors(path), files.open_regular(path) as file:
            while data := file.read(1 << 20):
                digest.update(data)
    return digest.hexdigest()
