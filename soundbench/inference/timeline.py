"""A picture of a sound: its spectrogram, the scores of its windows over time, and its events."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from soundbench import audio, files
from soundbench.inference.classifier import Classifier
from soundbench.inference.events import Event, EventRules, find_events
from soundbench.inference.predictions import ScoredWindow
from soundbench.report.figures import drawing, shown

__all__ = ["plot_sound", "spectrogram", "timeline_png"]

# Samples per frame, and the most columns of the picture (long sounds have at least half as many).
FRAME, COLUMNS = 512, 2000
# How many classes are drawn: those with the highest scores.
SHOWN = 10
# Range of the colours, in dB below the loudest.
RANGE = 80


def spectrogram(blocks: Iterable[NDArray[np.float32]]) -> NDArray[np.float32]:
    """The power of a sound in dB, `(F, T)`, with T at most `COLUMNS`, whatever the length of the sound."""
    window = np.hanning(FRAME).astype(np.float32)
    left = np.empty(0, np.float32)
    columns = np.empty((0, FRAME // 2 + 1))
    rest, each = np.empty((0, FRAME // 2 + 1)), 1  # frames that do not fill a column, and how many fill one
    for block in blocks:
        joined = np.concatenate([left, block])
        count = len(joined) // FRAME
        left = joined[count * FRAME :]
        frames = joined[: count * FRAME].reshape(count, FRAME) * window
        rest = np.concatenate([rest, np.abs(np.fft.rfft(frames, axis=1)) ** 2])
        whole = len(rest) // each
        filled = rest[: whole * each].reshape(whole, each, -1).mean(axis=1)
        columns, rest = np.concatenate([columns, filled]), rest[whole * each :]
        while len(columns) > COLUMNS:
            odd = columns[len(columns) // 2 * 2 :]
            columns = columns[: len(columns) // 2 * 2].reshape(len(columns) // 2, 2, -1).mean(axis=1)
            rest, each = np.concatenate([np.repeat(odd, each, axis=0), rest]), 2 * each
    if not len(columns):  # shorter than a frame
        columns = np.abs(np.fft.rfft(np.pad(left, (0, FRAME - len(left))) * window))[None] ** 2
    found: NDArray[np.float32] = (10 * np.log10(columns.T + 1e-10)).astype(np.float32)
    return found


def timeline_png(
    power: NDArray[np.float32],
    rate: int,
    seconds: float,
    times: NDArray[np.float64],
    scores: NDArray[np.float32],
    classes: Sequence[str],
    events: Sequence[Event],
    title: str,
) -> bytes:
    """Draw a sound.

    Args:
        power: its spectrogram in dB, `(F, T)`.
        rate: sample rate in Hz.
        seconds: its duration.
        times: the middle of each window in seconds, `(N,)`.
        scores: `(N, K)`, of N windows and K classes.
        classes: the K names.
        events: its events.
        title: the title of the picture.

    Returns:
        The picture, a PNG.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    names = [shown(name) for name in classes]
    best = sorted(np.argsort(-scores.max(axis=0), kind="stable")[:SHOWN].tolist())
    colours = {classes[code]: f"C{place}" for place, code in enumerate(best)}
    labels = list(dict.fromkeys(event.label for event in events))
    with drawing("".join(names) + title + "score kHz 0123456789.") as legible:
        called = dict(zip(classes, names if legible else map(str, range(1, len(names) + 1)), strict=True))
        ratios = [3, 3, 0.5 + 0.3 * len(labels)]
        figure = Figure(figsize=(12, sum(ratios)), layout="constrained")
        canvas = FigureCanvasAgg(figure)
        top, middle, bottom = figure.subplots(3, 1, sharex=True, gridspec_kw={"height_ratios": ratios})
        peak, extent = float(power.max()), (0.0, seconds, 0.0, rate / 2000)
        top.imshow(power, origin="lower", aspect="auto", extent=extent, vmin=peak - RANGE, vmax=peak)
        top.set_title(title, parse_math=False)
        top.set_ylabel("kHz")
        for label, colour in colours.items():
            marker = "o" if len(times) == 1 else ""
            line = scores[:, classes.index(label)]
            middle.plot(times, line, color=colour, marker=marker, linewidth=1.2, label=called[label])
        middle.set(ylabel="score", ylim=(0, 1.02))
        legend = middle.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), fontsize=8, frameon=False)
        for text in legend.get_texts():
            text.set_parse_math(False)
        for event in events:
            colour = colours.get(event.label, "black")
            bottom.barh(labels.index(event.label), event.end - event.start, left=event.start, color=colour)
        bottom.set(xlabel="s", xlim=(0, seconds), ylim=(max(len(labels), 1) - 0.4, -0.6))
        bottom.set_yticks(range(len(labels)), [called[label] for label in labels], parse_math=False)
        picture = io.BytesIO()
        canvas.print_figure(picture, format="png", dpi=110)
    return picture.getvalue()


def plot_sound(
    classifier: Classifier, path: Path, windows: Sequence[ScoredWindow], rules: EventRules, out: Path
) -> None:
    """Draw a sound whose windows were scored: its spectrogram, its scores over time, and its events.

    Args:
        classifier: the classifier that scored them.
        path: the sound.
        windows: all of its windows.
        rules: how scores become events.
        out: the PNG to write.
    """
    starts, ends = (np.array([getattr(window, name) for window in windows]) for name in ("start", "end"))
    scores = np.stack([window.values[: len(classifier.classes)] for window in windows])
    kept = np.stack([classifier.event_scores(window.values) for window in windows])
    events = find_events(kept, starts, ends, classifier.classes, rules)
    length = 0

    def counted() -> Iterator[NDArray[np.float32]]:
        nonlocal length
        for block in audio.blocks(path, classifier.rate):
            length += len(block)
            yield block

    power = spectrogram(counted())
    seconds, middles = length / classifier.rate, (starts + ends) / 2
    picture = timeline_png(power, classifier.rate, seconds, middles, scores, classifier.classes, events, path.name)
    files.write_bytes(out, picture)
