"""Long recordings with known events, and tables of them: to try the dataset `annotations` and `evaluate --events` on.

    python benchmarks/annotated.py data/ESC-50 annotated

joins clips of four classes of ESC-10 into twenty recordings of a minute, over faint noise: of each clip the loud part,
at most 3.5 s, with 0 to 4 s to the next one, or an overlap of up to 0.3 s. Those of folds 1 to 4 are in
`annotated/train`, those of fold 5 in `annotated/held`, each with `sounds/` and `tables/`: in turn Raven's selections,
Audacity's labels and CSV.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

CLASSES = ("dog", "rooster", "crying_baby", "clock_tick")
RATE, SECONDS, RECORDINGS, LONGEST = 32000, 60.0, 4, 3.5
RAVEN = (
    "Selection",
    "View",
    "Channel",
    "Begin Time (s)",
    "End Time (s)",
    "Low Freq (Hz)",
    "High Freq (Hz)",
    "Annotation",
)

Marks = list[tuple[float, float, str]]


def loud_part(path: Path) -> NDArray[np.float32]:
    """The clip from where it is loud first, at most `LONGEST` seconds."""
    samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
    samples = soxr.resample(samples.mean(axis=1), rate, RATE)
    frame = RATE // 20
    power = np.convolve(samples**2, np.ones(frame) / frame, "same")
    loud = np.flatnonzero(power > 0.02 * power.max())
    return np.asarray(samples[loud[0] : min(loud[-1], loud[0] + int(LONGEST * RATE))])


def joined(paths: list[tuple[Path, str]], random: np.random.Generator) -> tuple[NDArray[np.float32], Marks]:
    """A recording, and what is in it."""
    recording = random.normal(0, 0.002, int(SECONDS * RATE)).astype(np.float32)
    marks, time = [], 2.0
    for path, label in paths:
        clip = loud_part(path)
        if len(clip) < RATE // 10:
            continue
        if time + len(clip) / RATE > SECONDS - 1:
            break
        first = int(time * RATE)
        last = first + len(clip)
        recording[first:last] += 0.3 * clip / np.abs(clip).max()
        marks.append((first / RATE, last / RATE, label))
        time = last / RATE + random.uniform(-0.3, 4)
    return recording.clip(-1, 1), sorted(marks)


def write_table(folder: Path, name: str, kind: int, marks: Marks) -> None:
    """The marks, as Raven, Audacity or a CSV would have them."""
    folder.mkdir(parents=True, exist_ok=True)
    if kind == 0:
        rows = [
            f"{number}\t{view}\t1\t{start:.4f}\t{stop:.4f}\t0\t16000\t{label}\n"
            for number, (start, stop, label) in enumerate(marks, 1)
            for view in ("Waveform 1", "Spectrogram 1")
        ]
        (folder / f"{name}.Table.1.selections.txt").write_text("\t".join(RAVEN) + "\n" + "".join(rows))
    elif kind == 1:
        rows = [f"{start:.6f}\t{stop:.6f}\t{label}\n" for start, stop, label in marks]
        (folder / f"{name}.txt").write_text("".join(rows))
    else:
        rows = [f"{name}.wav,{start:.3f},{stop:.3f},{label}\n" for start, stop, label in marks]
        (folder / f"{name}.csv").write_text("path,begin,end,label\n" + "".join(rows))


def main() -> None:
    """Write the recordings and their tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("esc50", type=Path)
    parser.add_argument("out", type=Path)
    given = parser.parse_args()
    with (given.esc50 / "meta" / "esc50.csv").open(encoding="utf-8") as file:
        clips = [row for row in csv.DictReader(file) if row["category"] in CLASSES]
    random = np.random.default_rng(1)
    for fold in range(1, 6):
        own = [row for row in clips if int(row["fold"]) == fold]
        random.shuffle(own)  # type: ignore[arg-type]
        for number in range(RECORDINGS):
            paths = [(given.esc50 / "audio" / row["filename"], row["category"]) for row in own[number::RECORDINGS]]
            recording, marks = joined(paths, random)
            folder, name = given.out / ("train" if fold < 5 else "held"), f"rec{fold}{number}"
            (folder / "sounds").mkdir(parents=True, exist_ok=True)
            soundfile.write(folder / "sounds" / f"{name}.wav", recording, RATE)
            write_table(folder / "tables", name, number % 3, marks)


if __name__ == "__main__":
    main()
