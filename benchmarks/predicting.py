"""Scoring sound files: soundbench compared with `macls` 1.0.6 and with its own bare network, alternating, on CAM++.

    SOUNDBENCH_DATA=... python benchmarks/predicting.py --macls PYTHON [--clips 1000] [--minutes 60] [--calls 50]
                                                        [--starts 5] [--write]

The clips are those of UrbanSound8K under SOUNDBENCH_DATA, cut or repeated to four seconds and written as WAV at their
own sample rate. Both programs score each as one window. The weights are random, drawn by macls, and imported. Measured:

- a folder of clips, from files to labels: macls one by one or in tens, whichever is faster on a sample;
- one clip of three seconds, an array at 16 kHz, with the model loaded;
- `soundbench infer` of one clip in a new process, from its start to the first row, compared with `import torch`;
- a file of an hour at 16 kHz, windows of 3 s every 1.5 s, with events; and the memory of `soundbench infer` on it;
- the number of clips whose label depends on the batch, on sixty clips of unequal length.

"The bare network" is backbone, pooling and head on given features in batches of the same size, in float32 like all
scoring. `--macls` (or $MACLS_PYTHON) is the Python of an environment with macls 1.0.6. `--write` saves the table in
`benchmarks/results/predicting.md`.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path

import numpy as np
import soundfile
import torch
from turns import Runner, line, machine_info, ratio, runner

import soundbench
from soundbench import audio
from soundbench.inference.classifier import Classifier, ScoredWindow
from soundbench.inference.events import EventFinder
from soundbench.model.importing import import_model

HERE = Path(__file__).parent
RESULT = HERE / "results" / "predicting.md"
RATE, BATCH, TURN = 16000, 32, 64
COMMAND = (sys.executable, "-m", "soundbench")


def write_clips(folder: Path, count: int) -> list[str]:
    """Write the clips, and lists of them and of original files; returns the sample rates."""
    root = Path(os.environ["SOUNDBENCH_DATA"]) / "UrbanSound8K"
    found = sorted(root.glob("audio/fold*/*.wav"))
    (folder / "clips").mkdir()
    names, rates = [], Counter()
    for number in range(count):
        samples, rate = audio.decode(found[number * len(found) // count])
        rates[rate] += 1
        names.append(str(folder / "clips" / f"{number:04}.wav"))
        soundfile.write(names[-1], np.resize(samples, 4 * rate), rate, subtype="PCM_16")
    unequal = [str(path) for path in found if 0.45 < audio.info(path).seconds < 3.9]
    (folder / "clips.txt").write_text("\n".join(names), encoding="utf-8")
    (folder / "unequal.txt").write_text("\n".join(unequal[:: len(unequal) // 60][:60]), encoding="utf-8")
    (folder / "labels.txt").write_text("".join(f"class {number}\n" for number in range(10)), encoding="utf-8")
    return [f"{rate} Hz" for rate, _ in rates.most_common()]


def lasting(samples: Iterable[Path], seconds: float, path: Path) -> Path:
    """Write a file of that length at 16 kHz: clip after clip."""
    sounds = [audio.load(each, RATE) for each in samples]
    left = round(seconds * RATE)
    with soundfile.SoundFile(path, "w", RATE, 1, "PCM_16") as file:
        while left > 0:
            for sound in sounds:
                file.write(sound[:left])
                left -= min(len(sound), left)
    return path


def timed(doing: Iterable[object] | Iterator[object]) -> float:
    """The seconds that an iteration takes."""
    began = time.perf_counter()
    for _ in doing:
        pass
    return time.perf_counter() - began


class Bare:
    """The network alone on given features of `seconds` each."""

    def __init__(self, classifier: Classifier, seconds: float) -> None:
        self.network = classifier.network
        noise = 0.1 * torch.randn(BATCH, round(seconds * RATE), generator=torch.Generator().manual_seed(0))
        with torch.inference_mode():
            self.features, self.lengths = self.network.features(noise, torch.full((BATCH,), noise.shape[1]))

    def run(self, windows: int) -> Iterator[torch.Tensor]:
        with torch.inference_mode():
            for at in range(0, windows, BATCH):
                rows = min(BATCH, windows - at)
                yield self.network.classify(self.features[:rows], self.lengths[:rows])


def folder_of_clips(classifier: Classifier, theirs: Runner, paths: list[Path]) -> dict[str, str]:
    """Clips/s of both and of the bare network, alternating after some clips."""
    bare = Bare(classifier, 4.0)
    list(classifier.predict_files(paths[:BATCH])), list(bare.run(BATCH))
    speeds = {way: [theirs.ask(way, "clips.txt", 0, 20) for _ in range(3)] for way in ("single", "batch")}
    way = min(speeds, key=lambda name: statistics.median(speeds[name][1:]))
    seconds: dict[str, list[float]] = {"macls": [], "soundbench": [], "bare": []}
    sizes = []
    for number, first in enumerate(range(0, len(paths), TURN)):
        part = paths[first : first + TURN]
        turn = {
            "macls": lambda first=first, part=part: theirs.ask(way, "clips.txt", first, len(part)),
            "soundbench": lambda part=part: timed(classifier.predict_files(part, batch=BATCH)),
            "bare": lambda part=part: timed(bare.run(len(part))),
        }
        for name in turn if number % 2 else reversed(turn):
            seconds[name].append(turn[name]())
        sizes.append(len(part))
    rate = {name: sum(sizes) / sum(values) for name, values in seconds.items()}
    called = {"single": "predict", "batch": "predict_batch with ten"}[way]
    return {
        f"folder of {len(paths)} clips of 4 s: macls, {called}": f"{rate['macls']:.1f} clips/s",
        "the same: soundbench": f"{rate['soundbench']:.1f} clips/s",
        "soundbench over macls (goal 2)": f"{ratio(seconds['macls'], seconds['soundbench']):.2f}",
        "soundbench over the bare network (goal 0.9)": f"{ratio(seconds['bare'], seconds['soundbench']):.2f}, "
        f"which does {rate['bare']:.1f} clips/s",
    }


def one_clip(classifier: Classifier, theirs: Runner, calls: int) -> dict[str, str]:
    """The latency of both on one clip in memory, alternating."""
    noise = (0.1 * np.random.default_rng(0).standard_normal(3 * RATE)).astype(np.float32)
    own, other = [], []
    for _ in range(calls + 5):
        began = time.perf_counter()
        classifier.predict(noise, RATE)
        own.append(time.perf_counter() - began)
        other.append(theirs.ask("clip"))
    own, other = own[5:], other[5:]
    return {
        "one clip of 3 s, 16 kHz, loaded: macls": f"{1000 * statistics.median(other):.0f} ms",
        "the same: soundbench": f"{1000 * statistics.median(own):.0f} ms",
        "soundbench over macls (goal 0.6)": f"{ratio(own, other):.2f}",
    }


def cold(model: Path, clip: Path, starts: int) -> dict[str, str]:
    """Seconds from the start of a process to the first row, and to the end of `import torch`."""
    first, torch_alone = [], []
    for _ in range(starts):
        began = time.perf_counter()
        subprocess.run([sys.executable, "-c", "import torch"], check=True)
        torch_alone.append(time.perf_counter() - began)
        began = time.perf_counter()
        with subprocess.Popen([*COMMAND, "infer", model, clip], stdout=subprocess.PIPE, text=True) as process:
            next(row for row in process.stdout if clip.name in row)
            first.append(time.perf_counter() - began)
    return {
        "`soundbench infer`, cold, to the first row (goal 4 s)": f"{statistics.median(first):.1f} s",
        "of which `import torch`": f"{statistics.median(torch_alone):.1f} s",
    }


def long_file(classifier: Classifier, model: Path, paths: list[Path], folder: Path, minutes: int) -> dict[str, str]:
    """Windows/s on a long file relative to the bare network, and the memory of `soundbench infer` on it."""
    sound = lasting(paths[:100], 60 * minutes, folder / "long.wav")
    bare, finder = Bare(classifier, 3.0), EventFinder(classifier.classes, classifier.event_rules())

    def scored() -> Iterator[object]:
        for one in classifier.flow([sound], hop=1.5, batch=BATCH):
            if isinstance(one, ScoredWindow):
                finder.feed(one.values[None], [one.start], [one.end])
                yield one
        finder.finish()

    windows, own, other = scored(), [], []
    scored_now = len(list(islice(windows, TURN)))  # not counted, like the last turn, which may be short
    list(bare.run(TURN))
    while scored_now == TURN:
        other.append(timed(bare.run(TURN)))
        began = time.perf_counter()
        scored_now = len(list(islice(windows, TURN)))
        own.append(time.perf_counter() - began)
    own, other = own[:-1], other[:-1]
    count = TURN * len(own)
    whole, long_peak = infer(model, sound)
    _, short_peak = infer(model, lasting(paths[:15], 60, folder / "minute.wav"))
    return {
        f"{minutes} min, windows of 3 s every 1.5 s, events: soundbench": f"{count / sum(own):.1f} windows/s, "
        f"{1.5 * count / sum(own):.0f} x real time",
        "soundbench over the bare network (goal 0.9)": f"{ratio(other, own):.2f}, "
        f"which does {count / sum(other):.1f} windows/s",
        f"`soundbench infer --per event --hop 1.5` on {minutes} min": f"{whole:.0f} s, {60 * minutes / whole:.0f} x "
        "real time, start included",
        "its peak memory relative to 1 min (goal 1.2)": f"{long_peak / short_peak:.2f}: {long_peak / 1e6:.0f} and "
        f"{short_peak / 1e6:.0f} MB",
    }


def infer(model: Path, sound: Path) -> tuple[float, int]:
    """Seconds and peak memory in bytes of the command."""
    began = time.perf_counter()
    command = [sys.executable, HERE / "resident.py", "infer", model, sound, "--per", "event", "--hop", "1.5"]
    done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(map(str, command))} failed")
    return time.perf_counter() - began, int(done.stderr.splitlines()[-1])


def labels(classifier: Classifier, theirs: Runner, paths: Sequence[Path]) -> dict[str, str]:
    """The number of clips of unequal length with another label in a batch than alone."""
    alone = [classifier.predict(path) for path in paths]
    together = classifier.predict(list(paths), batch=10)
    own = sum(one.label != other.label for one, other in zip(alone, together, strict=True))
    apart = max(
        abs(one.scores[name] - other.scores[name])
        for one, other in zip(alone, together, strict=True)
        for name in one.scores
    )
    others = sum(one != other for one, other in zip(*theirs.ask("labels", "unequal.txt"), strict=True))
    kinds = len({one.label for one in alone})
    return {
        f"of {len(paths)} clips of unequal length, other label in a batch of ten than alone: macls": str(others),
        "the same: soundbench (goal 0)": f"{own}; scores differ by at most {apart:.0e}, {kinds} labels predicted",
    }


def measure(options: argparse.Namespace, folder: Path) -> Iterator[dict[str, str]]:
    """Results, one after another."""
    rates = write_clips(folder, options.clips)
    yield {"clips": f"{options.clips} of 4 s, {', '.join(rates)}"}
    with runner(options.macls, "predictions_of_macls.py", folder, log=folder / "log.txt") as theirs:
        theirs.ask("single", "clips.txt", 0, 2)  # waits until it and its model exist
        found = {
            window: import_model("macls", folder / "CAMPPlus_Fbank", folder / f"model-{window}", {"window": window})
            for window in (3.0, 4.0)
        }
        model, paths = found[4.0].folder, [Path(name) for name in (folder / "clips.txt").read_text().splitlines()]
        classifier = soundbench.load(model)
        yield folder_of_clips(classifier, theirs, paths)
        yield labels(classifier, theirs, [Path(name) for name in (folder / "unequal.txt").read_text().splitlines()])
        yield one_clip(classifier, theirs, options.calls)
    yield cold(model, paths[0], options.starts)
    model = found[3.0].folder
    yield long_file(soundbench.load(model), model, paths, folder, options.minutes)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=1000)
    parser.add_argument("--minutes", type=int, default=60)
    parser.add_argument("--calls", type=int, default=50)
    parser.add_argument("--starts", type=int, default=5)
    parser.add_argument("--macls", default=os.environ.get("MACLS_PYTHON"), help="a Python with macls 1.0.6 installed")
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    if not options.macls:
        parser.error("--macls, or $MACLS_PYTHON, must be a Python with macls 1.0.6 installed")
    if options.clips < BATCH or options.minutes < 6:
        parser.error(f"--clips must be at least {BATCH}, --minutes at least 6: otherwise there are too few turns")
    lines = [
        f"`python benchmarks/predicting.py --clips {options.clips} --minutes {options.minutes}`: {machine_info()}.",
        "",
        line(["measurement", "result"]),
        line(["---", "---"]),
    ]
    print("\n".join(lines), flush=True)
    with tempfile.TemporaryDirectory() as folder:
        for figures in measure(options, Path(folder)):
            for item in figures.items():
                lines.append(line(item))
                print(lines[-1], flush=True)
    if options.write:
        RESULT.write_text("\n".join(["# Predicting", "", *lines, ""]), encoding="utf-8")


if __name__ == "__main__":
    main()
