"""Near duplicates: how many copies of real clips are found, which pairs are false, and how long it takes.

    SOUNDBENCH_DATA=... python benchmarks/likeness.py [--copies 200] [--seed 1] [--only time | found | false]

Uses the clips of UrbanSound8K and ESC-50 under SOUNDBENCH_DATA. Copies of clips of different recordings are made in a
temporary folder, one kind at a time, and sought among all clips. Pairs among the clips of UrbanSound8K are compared
with its metadata: the recording of each clip, and where in it the clip lies. Encoding needs PyAV.
"""

from __future__ import annotations

import argparse
import csv
import os
import resource
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import av
import numpy as np
import soundfile
import soxr
from resident import resident

from soundbench import audio
from soundbench.contracts import Clip
from soundbench.data.audit import audit
from soundbench.data.clips import ClipTable
from soundbench.data.likeness.candidates import candidates
from soundbench.data.likeness.coherence import COPY, compare
from soundbench.data.likeness.fingerprint import HOP, Fingerprints, at_rate, peaks
from soundbench.data.likeness.pairs import near_duplicates
from soundbench.data.sounds import Sounds
from soundbench.data.splits import split
from soundbench.recipe import Audio, Split

Samples = np.ndarray


class Files:
    """Sound files without labels."""

    classes = ("any",)

    def __init__(self, paths: Sequence[Path]) -> None:
        self.paths = paths

    def clips(self) -> Iterator[Clip]:
        """Every file; in two folds, so that there is a split."""
        for place, path in enumerate(self.paths):
            yield Clip(str(path), self.classes, fold=place % 2)


def sounds_of(paths: Sequence[Path]) -> Sounds:
    """The sounds of files; their numbers are the places of the paths, which must be sorted."""
    assert list(map(str, paths)) == sorted(map(str, paths))
    dataset = Files(paths)
    return Sounds.of(ClipTable.of(dataset), dataset, 16000)


def printed(sounds: Sounds) -> Fingerprints:
    """The fingerprints of all sounds."""
    prints = Fingerprints()
    for found in sounds.each(lambda number: peaks(at_rate(*sounds.native(number)))):
        prints.add(found)
    return prints


# Copies ---------------------------------------------------------------------------------------------------------------


def mp3(samples: Samples, rate: int, place: Path, _: np.random.Generator) -> Path:
    """Writes a sound at a constant 64 kbit/s."""
    path, at = place.with_suffix(".mp3"), rate if rate in (32000, 44100, 48000) else 48000
    whole = np.rint(audio.resample(samples, rate, at).clip(-1, 32767 / 32768) * 32768).astype(np.int16)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libmp3lame", rate=at)
        stream.bit_rate, stream.layout = 64000, "mono"
        frame = av.AudioFrame.from_ndarray(whole[None], format="s16", layout="mono")
        frame.sample_rate = at
        resampler = av.AudioResampler(format=stream.format, layout="mono", rate=at, frame_size=stream.frame_size)
        for given in (frame, None):
            for piece in resampler.resample(given):
                container.mux(stream.encode(piece))
        container.mux(stream.encode(None))
    return path


def ogg(subtype: str, levels: Sequence[float], rates: Sequence[int]) -> Callable[..., Path]:
    """Writes a sound at the first of these levels of compression that takes no more than 64 kbit/s, or at the last."""

    def write(samples: Samples, rate: int, place: Path, _: np.random.Generator) -> Path:
        path, at = place.with_suffix(".ogg"), rate if rate in rates or not rates else max(rates)
        samples = audio.resample(samples, rate, at).clip(-1, 1)
        for level in levels:
            soundfile.write(path, samples, at, format="OGG", subtype=subtype, compression_level=level)
            if path.stat().st_size * 8 <= 64000 * len(samples) / at:
                break
        return path

    return write


def written(change: Callable[[Samples, int, np.random.Generator], tuple[Samples, int]]) -> Callable[..., Path]:
    """Writes a changed sound with 16 bits."""

    def write(samples: Samples, rate: int, place: Path, draws: np.random.Generator) -> Path:
        path = place.with_suffix(".wav")
        changed, rate = change(samples, rate, draws)
        soundfile.write(path, changed.clip(-1, 1), rate, subtype="PCM_16")
        return path

    return write


def cut(share: float) -> Callable[[Samples, int, np.random.Generator], tuple[Samples, int]]:
    """A stretch of so much of a sound, anywhere in it."""

    def change(samples: Samples, rate: int, draws: np.random.Generator) -> tuple[Samples, int]:
        count = round(share * len(samples))
        start = int(draws.integers(0, len(samples) - count + 1))
        return samples[start : start + count], rate

    return change


COPIES = {
    "MP3, 64 kbit/s": mp3,
    "Ogg Vorbis, 64 kbit/s": ogg("VORBIS", (0.5, 0.7, 0.9, 1.0), ()),
    "Opus, 64 kbit/s": ogg("OPUS", (0.76, 0.8, 0.9, 1.0), (8000, 12000, 16000, 24000, 48000)),
    "6 dB louder": written(lambda samples, rate, _: (samples * 10 ** (6 / 20), rate)),
    "6 dB softer": written(lambda samples, rate, _: (samples * 10 ** (-6 / 20), rate)),
    "at 8 kHz": written(lambda samples, rate, _: (soxr.resample(samples, rate, 8000), 8000)),
    "cut to 60%": written(cut(0.6)),
    "cut to 30%": written(cut(0.3)),
}


def chosen(paths: Sequence[Path], recordings: Sequence[str], count: int, seed: int) -> list[int]:
    """Places of clips of different recordings, with some sound in them."""
    found: dict[str, int] = {}
    for place in np.random.default_rng(seed).permutation(len(paths)).tolist():
        if len(found) < count and recordings[place] not in found and audio.decode(paths[place])[0].any():
            found[recordings[place]] = place
    return list(found.values())


def found(paths: Sequence[Path], recordings: Sequence[str], count: int, seed: int) -> None:
    """Print how many copies of each kind are found among all clips."""
    places = chosen(paths, recordings, count, seed)
    original = printed(sounds_of(paths))
    lengths = np.array([soundfile.info(paths[place]).duration for place in places])
    print(f"{len(places)} clips ({(lengths < 1).sum()} shorter than 1 s), sought among {len(paths):,}\n")
    print("| copy | found | of those of 1 s and more | score: lowest tenth, median | shared keys, no copy |")
    print("|---|---|---|---|---|")
    for name, write in COPIES.items():
        with tempfile.TemporaryDirectory() as folder:
            draws = np.random.default_rng(seed)
            copies = []
            for number, place in enumerate(places):
                samples, rate = audio.decode(paths[place])
                copies.append(write(samples, rate, Path(folder) / f"{number:03d}", draws))
            added = printed(sounds_of(copies))
            scores = []
            prints = Fingerprints()
            for each in (original, added):
                for number in range(len(each)):
                    prints.add(each[number])
            alike = candidates(prints)
            lags = {tuple(pair): lag for pair, lag in zip(alike.pairs.tolist(), alike.lags.tolist(), strict=True)}
            for number, place in enumerate(places):
                lag = lags.get((place, len(paths) + number))
                likeness = None
                if lag is not None:
                    one, other = (at_rate(*audio.decode(path)) for path in (paths[place], copies[number]))
                    likeness = compare(one, other, lag * HOP)
                scores.append(np.nan if lag is None else 0.0 if likeness is None else likeness.score)
            values = np.array(scores)
            hit, long = values >= COPY, lengths >= 1
            low, median = np.quantile(values[hit], [0.1, 0.5])
            print(
                f"| {name} | {hit.mean():.1%} | {hit[long].mean():.1%} | {low:.2f}, {median:.2f} "
                f"| {int((values < COPY).sum())} |",
                flush=True,
            )


# Pairs ----------------------------------------------------------------------------------------------------------------


def false(paths: Sequence[Path], table: dict[str, dict[str, str]]) -> None:
    """Print the pairs that are not of one recording, and how many of those are found that overlap by half.

    Clips of UrbanSound8K with consecutive numbers were cut 2 s apart, and last 4 s. (Its metadata says 0.5 s.)
    """
    sounds = sounds_of(paths)
    near = near_duplicates(sounds, printed(sounds))
    said = {tuple(pair): likeness for pair, likeness in zip(near.pairs.tolist(), near.likenesses, strict=True)}
    recordings = [table[path.name]["fsID"] for path in paths]
    apart = [pair for pair in said if recordings[pair[0]] != recordings[pair[1]]]
    print(f"{len(near):,} near duplicates among {len(paths):,} clips, of different recordings: {len(apart)}")
    for one, other in apart:
        likeness = said[one, other]
        print(f"  {paths[one].name} {paths[other].name} ({likeness.kind}, {likeness.score:.2f})")
    numbers = {path.stem: number for number, path in enumerate(paths)}
    lengths = [soundfile.info(path).duration for path in paths]
    halves = set()
    for name, number in numbers.items():
        stem, _, place = name.rpartition("-")
        after = numbers.get(f"{stem}-{int(place) + 1}")
        if after is not None and min(lengths[number], lengths[after]) > 3.99:
            halves.add((min(number, after), max(number, after)))
    print(f"of one recording: {len(said) - len(apart):,}; that overlap by half: {len(halves):,}, found: ", end="")
    print(f"{len(halves & set(said)):,}; others of one recording: {len(set(said) - halves) - len(apart)}")
    for label in sorted({row["class"] for row in table.values()}):
        own = {pair for pair in halves if table[paths[pair[0]].name]["class"] == label}
        print(f"| {label} | {len(own)} | {len(own & set(said))} |")


def timed(paths: Sequence[Path]) -> None:
    """Print how long an audit takes, and what of it the near duplicates."""
    dataset = Files(paths)
    table = ClipTable.of(dataset)
    parts = split(table, Split(test=[1], validation=0.0), 1)

    def run(name: str, work: Callable[[], object]) -> None:
        before, began = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
        work()
        after = resource.getrusage(resource.RUSAGE_SELF)
        used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        seconds, peak = time.perf_counter() - began, resident("VmHWM")
        print(f"| {name} | {seconds:.1f} | {used:.1f} | {peak / 1e6:.0f} |", flush=True)

    sounds = sounds_of(paths)
    print("| | seconds | seconds of a core | MB at most |\n|---|---|---|---|")
    run("reading alone", lambda: [None for _ in sounds.each(lambda number: len(sounds.native(number)[0]))])
    prints: list[Fingerprints] = []
    run("reading and fingerprints", lambda: prints.append(printed(sounds)))
    run("candidates", lambda: candidates(prints[0]))
    run("candidates, read again and compared", lambda: near_duplicates(sounds, prints[0]))
    run("`data check` in all", lambda: audit(table, parts, dataset, Audio()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--copies", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", choices=["time", "found", "false"])
    given = parser.parse_args()
    root = Path(os.environ["SOUNDBENCH_DATA"])
    urban, esc = (sorted(root.glob(pattern)) for pattern in ("UrbanSound8K/audio/*/*.wav", "ESC-50/audio/*"))
    with open(root / "UrbanSound8K" / "metadata" / "UrbanSound8K.csv", newline="") as file:
        table = {row["slice_file_name"]: row for row in csv.DictReader(file)}
    recordings = {path: table[path.name]["fsID"] for path in urban} | {path: path.name.split("-")[1] for path in esc}
    paths = sorted(recordings)
    if given.only in (None, "time"):
        timed(urban)
    if given.only in (None, "false"):
        false(urban, table)
    if given.only in (None, "found"):
        found(paths, [recordings[path] for path in paths], given.copies, given.seed)


if __name__ == "__main__":
    main()
